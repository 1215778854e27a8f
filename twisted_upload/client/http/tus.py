"""
Uploads by tus 1.0, which go on after a break: https://tus.io/protocols/resumable-upload

Rules for anyone who changes this file:

1. A file is created with a URL before its first byte is sent.  One whose creation was not
   answered has no bytes, and expires.
2. After any doubt, the server is asked how much it has (HEAD), and is sent the rest.
3. All of a file may have been stored from the moment its last bytes are sent.  From then
   on, a server that does not know the upload (404) does not mean that it is not stored.
4. A file is stored if the server sends a receipt for it, and not otherwise.
5. A refusal of the request with the last bytes means that it is not stored.  One of a later
   question (HEAD) does not.
"""

from __future__ import annotations

import base64
import contextlib
import re

from twisted_upload.client.conversation import Conversation, SendFrom
from twisted_upload.client.http.job import HTTPUpload, Requests
from twisted_upload.client.http.messages import NotUnderstood, Response, error_in
from twisted_upload.client.http.receipts import checked_receipt, digest_in
from twisted_upload.errors import (
    OutcomeUnknown,
    UploadError,
    UploadInterrupted,
    UploadRefused,
)
from twisted_upload.receipt import Metadata, Receipt

__all__ = [
    "CREATION",
    "PATCH_TYPE",
    "VERSION",
    "NoTus",
    "TusUpload",
    "create",
    "is_believed",
    "is_gone",
    "offset_in",
    "refusal_of",
]

VERSION = {"Tus-Resumable": "1.0.0"}
PATCH_TYPE = {"Content-Type": "application/offset+octet-stream"}
CREATION = "files/"

_ORIGIN = re.compile(r"https?://[^/?#]*", re.IGNORECASE)
_ACCESS = (401, 403, 407, 413)
_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]*\Z")

LAST = 64 * 1024
"""Bytes that are sent only after the file has been checked once more (rule 3)."""

PIECES = (64 * 1024 * 1024, 8 * 1024 * 1024, 512 * 1024)
"""Sizes of requests that are tried one after the other if a proxy takes no larger ones."""


class NoTus(Exception):
    """The server does not speak tus."""


class TusUpload:
    """
    The upload of content whose length is known, and that can be read again.

    :param job: what is to be sent.
    :param requests: over which it goes.
    """

    def __init__(self, job: HTTPUpload, requests: Requests) -> None:
        self._job = job
        self._requests = requests
        self._began = job.now()
        self._total = job.content.total or 0
        self._pieces = [*PIECES]
        self._piece: int | None = None

    def attempt(self) -> Conversation[Receipt]:
        """
        Send what the server does not have.

        :raises NoTus: it does not speak tus.
        :raises UploadError: this attempt failed.
        """
        state = yield from self._state()
        while True:
            if isinstance(state, Receipt):
                return state
            state = yield from self._append(state)

    def give_up(self) -> Conversation[None]:
        """Have the server remove what it has, if it can be reached: it is of no use."""
        saved = self._job.saved
        path, finishing = saved.path, saved.finishing
        saved.forget()
        yield from self._requests.abort()
        if path is None or finishing:
            return
        with contextlib.suppress(UploadError):  # then it expires
            yield from self._requests.ask("DELETE", path, VERSION)
        yield from self._requests.close()

    # What the server has

    def _state(self) -> Conversation[int | Receipt]:
        path = self._job.saved.path
        if path is not None:
            response = yield from self._requests.ask("HEAD", path, VERSION)
            if response.status == 200 and response.number("upload-length") == self._total:
                return (yield from self._progress(response))
            if response.status != 200 and not is_gone(response):
                raise refusal_of(response)
            self._lost()
        job = self._job
        created = yield from create(job, self._requests, {"Upload-Length": str(self._total)})
        job.saved.save(created)
        job.attempts.sends_from(0)
        return 0

    def _lost(self) -> None:
        """Note that the server does not know the upload (any more)."""
        finishing = self._job.saved.finishing
        self._job.saved.lost()
        if finishing:
            raise OutcomeUnknown(
                "everything was sent, but the server no longer knows whether it is stored"
            )

    def _progress(self, response: Response) -> Conversation[int | Receipt]:
        """Return how much the server has, or the receipt if it has all."""
        offset = offset_in(response)
        if offset > self._total:
            raise NotUnderstood("the server has more bytes of this upload than there are")
        if offset == self._total:
            return (yield from self._receipt(response))
        self._not_finishing()
        self._job.attempts.sends_from(offset)
        return offset

    def _not_finishing(self) -> None:
        saved = self._job.saved
        if saved.finishing and saved.path is not None:
            saved.save(saved.path)

    def _receipt(self, response: Response) -> Conversation[Receipt]:
        job = self._job
        try:
            receipt = yield from checked_receipt(
                job,
                name=response.fields.get("stored-as"),
                size=self._total,
                sha256=digest_in(response),
                sent=self._total,
                began=self._began,
                peer=self._requests.peer,
            )
        finally:
            job.saved.forget()
        return receipt

    # Sending the rest

    def _append(self, offset: int) -> Conversation[int | Receipt]:
        path = self._job.saved.path
        assert path is not None
        end = self._total if self._piece is None else min(self._total, offset + self._piece)
        response = yield from self._requests.ask(
            "PATCH",
            path,
            {**VERSION, **PATCH_TYPE, "Upload-Offset": str(offset)},
            length=end - offset,
            body=lambda: self._body(offset, end),
        )
        if response.status in (200, 204):
            reached = offset_in(response)
            if reached <= offset:
                raise UploadInterrupted("the server has taken nothing")
            self._job.attempts.progressed(reached)
            if reached < self._total:
                return reached
            return (yield from self._progress(response))
        if is_gone(response):
            self._lost()
            raise UploadInterrupted("the server does not know this upload any more")
        if is_believed(response):
            self._not_finishing()
        foreign = "tus-resumable" not in response.fields
        if foreign and response.status == 413 and self._pieces:
            self._piece = self._pieces.pop(0)
            return offset
        raise refusal_of(response)

    def _body(self, offset: int, end: int) -> Conversation[bool]:
        if end == self._total:
            last = max(offset, end - LAST)
            if not (yield from self._send(offset, last)):
                return False
            self._job.content.check(self._total)
            self._job.saved.mark_finishing()
            offset = last
        return (yield from self._send(offset, end))

    def _send(self, offset: int, end: int) -> Conversation[bool]:
        job = self._job
        size = end - offset
        if not size:
            return True
        sent = yield SendFrom(
            job.content, offset, size, job.timeouts.stall, self._moved, hashed=job.sha256
        )
        return bool(sent == size)

    def _moved(self, offset: int) -> None:
        self._job.progress(offset, self._total)


def is_gone(response: Response) -> bool:
    """Return whether the server says that there is no such upload; no proxy is believed."""
    return response.status in (404, 410) and "tus-resumable" in response.fields


def is_believed(response: Response) -> bool:
    """
    Return whether an error is one of the server, or about the access of this client.

    A proxy in front of the server may answer anything else while that is away.
    """
    return "tus-resumable" in response.fields or response.status in _ACCESS


def refusal_of(response: Response) -> UploadError:
    """Return what an error means to a request for an upload that was created."""
    error = error_in(response)
    if isinstance(error, UploadRefused) and not is_believed(response):
        return UploadInterrupted(str(error.explanation))
    return error


def offset_in(response: Response) -> int:
    """
    Return how much the server has.

    :raises CouldNotConnect: it does not say that.
    """
    offset = response.number("upload-offset")
    if offset is None:
        raise NotUnderstood("the server does not speak tus: it tells no offset")
    return offset


def create(job: HTTPUpload, requests: Requests, length: dict[str, str]) -> Conversation[str]:
    """
    Create an upload; return the path of its URL.

    The origin is that of the target, whatever the server says: it may not know that it is
    behind a proxy, and the token is for no other server.

    :param length: the field that tells its length.
    :raises NoTus: the server does not speak tus.
    :raises UploadError: it refuses, or does not respond.
    """
    fields = {**VERSION, **job.digest_fields, **_metadata(job.metadata), **length}
    response = yield from requests.ask("POST", job.target.path + CREATION, fields)
    if response.status == 201:
        return _path_in(response.fields.get("location", ""), job.target.path)
    foreign = "tus-resumable" not in response.fields
    if response.status == 501 or (foreign and response.status in (404, 405)):
        raise NoTus
    raise error_in(response)


def _path_in(location: str, base: str) -> str:
    origin = _ORIGIN.match(location)
    path = location[origin.end() :] if origin is not None else location
    if not path.startswith("/"):
        path = f"{base}{CREATION}{path}"
    elif not path.startswith(base):
        path = base.rstrip("/") + path
    if not location or not _PATH.match(path):
        raise NotUnderstood("the server does not speak tus: it created an upload without a URL")
    return path


def _metadata(metadata: Metadata) -> dict[str, str]:
    """Return the field ``Upload-Metadata``."""
    pairs = {
        "filename": metadata.original_name,
        "filetype": metadata.content_type,
        "label": metadata.label,
    }
    if metadata.folder:
        pairs["relativePath"] = f"{metadata.folder}/{metadata.original_name}"
    told = ",".join(
        f"{key} {base64.b64encode(text.encode()).decode()}" for key, text in pairs.items() if text
    )
    return {"Upload-Metadata": told} if told else {}
