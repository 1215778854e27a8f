"""
An upload by PUT, to a server without tus: it cannot go on after a break.
"""

from __future__ import annotations

from urllib.parse import quote

from twisted_upload.client.conversation import Conversation, Read, Send, SendFrom
from twisted_upload.client.digest import Digest
from twisted_upload.client.http.job import HTTPUpload, Requests
from twisted_upload.client.http.messages import error_in
from twisted_upload.client.http.receipts import checked_receipt
from twisted_upload.receipt import Receipt

__all__ = ["PutUpload"]

_CHUNK = 256 * 1024


class PutUpload:
    """
    The upload of any content, in one request.

    :param job: what is to be sent.
    :param requests: over which it goes.
    :ivar finishing: whether all of it may have been sent.
    """

    def __init__(self, job: HTTPUpload, requests: Requests) -> None:
        self._job = job
        self._requests = requests
        self._began = job.now()
        self._digest = Digest()
        self._sent = 0
        self._started = False
        self.finishing = False  # once the kernel has all of it

    def attempt(self) -> Conversation[Receipt]:
        """
        Send all of it.

        :raises UploadError: this attempt failed.
        """
        job = self._job
        total = job.content.total if job.content.again else None
        job.attempts.sends_from(0)
        fields = {"Content-Type": job.metadata.content_type or "application/octet-stream"}
        response = yield from self._requests.ask(
            "PUT",
            job.target.path + quote(job.metadata.original_name, safe=""),
            {**fields, **job.digest_fields},
            length=total,
            body=self._stream if total is None else self._whole,
        )
        if response.status != 201:
            self.finishing = False
            raise error_in(response)
        told = response.json()
        name, size, sha256 = told.get("name"), told.get("size"), told.get("sha256")
        return (
            yield from checked_receipt(
                job,
                name=name if isinstance(name, str) else None,
                size=size if isinstance(size, int) else -1,
                sha256=sha256 if isinstance(sha256, str) else None,
                sent=self._sent,
                began=self._began,
                peer=self._requests.peer,
                computed=self._digest.hexdigest() if total is None else None,
            )
        )

    @property
    def repeatable(self) -> bool:
        """Whether the next attempt has something to send."""
        return self._job.content.again or not self._started

    def give_up(self) -> Conversation[None]:
        """Reset the connection: then nothing is stored."""
        yield from self._requests.abort()

    def _whole(self) -> Conversation[bool]:
        job = self._job
        total = self._sent = job.content.total or 0
        last = max(0, total - _CHUNK)
        if not (yield from self._send(0, last)):
            return False
        job.content.check(total)
        self.finishing = yield from self._send(last, total)
        return self.finishing

    def _send(self, start: int, end: int) -> Conversation[bool]:
        job, size = self._job, end - start
        if not size:
            return True
        sent = yield SendFrom(
            job.content, start, size, job.timeouts.stall, self._moved, hashed=job.sha256
        )
        return bool(sent == size)

    def _moved(self, offset: int) -> None:
        self._job.progress(offset, self._job.content.total)

    def _stream(self) -> Conversation[bool]:
        job = self._job
        self._started, self._sent = True, 0
        while True:
            chunk: bytes = yield Read(job.content, _CHUNK, some=True)
            if not chunk:
                job.content.check(self._sent)
            framed = b"%x\r\n%b\r\n" % (len(chunk), chunk)
            if (yield Send(framed, job.timeouts.stall)) < len(framed):
                return False
            if not chunk:
                self.finishing = True
                return True
            self._digest.update(chunk)
            self._sent += len(chunk)
            job.progress(self._sent, None)
