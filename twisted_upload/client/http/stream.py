"""
Uploads by tus of what can be read only once: a pipe, a generated file, and, because its
creation would store it at once, whether the response arrives or not, an empty file.

Its length is told at the end.  A piece stays in memory until the server has it.
"""

from __future__ import annotations

from twisted_upload.client.conversation import Conversation, Read, Send
from twisted_upload.client.digest import Digest
from twisted_upload.client.http.job import HTTPUpload, Requests
from twisted_upload.client.http.messages import Response
from twisted_upload.client.http.receipts import checked_receipt, digest_in
from twisted_upload.client.http.tus import (
    PATCH_TYPE,
    VERSION,
    create,
    is_believed,
    is_gone,
    offset_in,
    refusal_of,
)
from twisted_upload.errors import NotFound, OutcomeUnknown, UploadInterrupted
from twisted_upload.receipt import Receipt

__all__ = ["TusStream"]

PIECE = 8 * 1024 * 1024
"""Bytes that are sent in one request."""


class TusStream:
    """
    The upload of content that is read only once.

    :param job: what is to be sent.
    :param requests: over which it goes.
    :ivar finishing: whether all of it may have been sent, and not been refused.
    """

    def __init__(self, job: HTTPUpload, requests: Requests) -> None:
        self._job = job
        self._requests = requests
        self._began = job.now()
        self.finishing = False
        self._digest = Digest()
        self._path: str | None = None
        self._piece = b""
        self._offset = 0  # of the piece
        self._ended = False

    def attempt(self) -> Conversation[Receipt]:
        """
        Send what the server does not have.

        :raises NoTus: it does not speak tus.
        :raises UploadError: this attempt failed.
        """
        if self._path is None:
            deferred = {"Upload-Defer-Length": "1"}
            self._path = yield from create(self._job, self._requests, deferred)
        else:
            response = yield from self._requests.ask("HEAD", self._path, VERSION)
            if response.status != 200:
                raise self._error(response)
            self._has(response)
            if self._is_stored(response):
                return (yield from self._receipt(response))
        self._job.attempts.sends_from(self._offset)
        while True:
            yield from self._read()
            response = yield from self._append(self._path)
            if response.status not in (200, 204):
                if is_believed(response):
                    self.finishing = False
                raise self._error(response)
            self._has(response)
            if self._is_stored(response):
                return (yield from self._receipt(response))

    def give_up(self) -> Conversation[None]:
        """Do nothing: what the server has expires."""
        yield from self._requests.abort()

    def _read(self) -> Conversation[None]:
        if self._piece or self._ended:
            return
        self._piece = yield Read(self._job.content, PIECE)
        self._digest.update(self._piece)
        if len(self._piece) < PIECE:
            self._job.content.check(self._size)
            self._ended = True

    @property
    def _size(self) -> int:
        return self._offset + len(self._piece)

    def _append(self, path: str) -> Conversation[Response]:
        fields = {**VERSION, **PATCH_TYPE, "Upload-Offset": str(self._offset)}
        if self._ended:
            self.finishing = True
            fields["Upload-Length"] = str(self._size)
        return (
            yield from self._requests.ask(
                "PATCH", path, fields, length=len(self._piece), body=self._body
            )
        )

    def _body(self) -> Conversation[bool]:
        sent = yield Send(self._piece, self._job.timeouts.stall)
        return bool(sent == len(self._piece))

    def _has(self, response: Response) -> None:
        """Note what the server has: that need not stay here."""
        offset = offset_in(response)
        if not self._offset <= offset <= self._size:
            raise OutcomeUnknown("the server has lost a part of what it had")
        self._piece = self._piece[offset - self._offset :]
        self._offset = offset
        self._job.attempts.progressed(offset)
        done = self._ended and not self._piece
        self._job.progress(offset, offset if done else None)

    def _is_stored(self, response: Response) -> bool:
        return self._ended and not self._piece and "stored-as" in response.fields

    def _error(self, response: Response) -> Exception:
        if not is_gone(response):
            return refusal_of(response)
        self._path = None
        if self._ended:
            return OutcomeUnknown(
                "everything was sent, but the server no longer knows whether it is stored"
            )
        if self._offset:
            return NotFound("the server no longer has what was sent, and it cannot be read again")
        return UploadInterrupted("the server does not know this upload any more")

    def _receipt(self, response: Response) -> Conversation[Receipt]:
        self._digest.close()
        return (
            yield from checked_receipt(
                self._job,
                name=response.fields.get("stored-as"),
                size=self._offset,
                sha256=digest_in(response),
                sent=self._offset,
                began=self._began,
                peer=self._requests.peer,
                computed=self._digest.hexdigest(),
            )
        )
