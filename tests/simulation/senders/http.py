"""
Senders of HTTP with plain requests: PUT, POST and forms.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Generator
from typing import ClassVar

from tests.simulation.history import LOST, REFUSED, Attempt
from tests.simulation.senders.http_sender import HttpLine, HttpSender, head_of
from tests.simulation.senders.responses import Response, WrongResponse, receipts_of
from tests.simulation.senders.sender import Script

__all__ = ["HTTP", "PlainSender"]

RETRIED = ("timeout", "busy", "no-space", "store-error", "shutting-down", "digest-mismatch")

NAMES = ("photo.jpg", "2026.txt", "a", "r%C3%A9sum%C3%A9.pdf", ".hidden", "x" * 100 + ".bin")


class Request:
    """
    How one request sends an upload.

    :ivar chunked: whether the body is sent in chunks.
    :ivar expects: whether it waits for ``100 Continue``.
    :ivar wrong_digest: whether it gives a digest that the content does not have.
    """

    __slots__ = ("attempt", "chunked", "expects", "head", "tail", "wants_digest", "wrong_digest")

    def __init__(self, sender: HttpSender, attempt: Attempt, *, more: bool) -> None:
        choices = sender.choices
        self.attempt = attempt
        self.chunked = choices.chance(0.15)
        self.expects = choices.chance(0.1)
        self.wants_digest = choices.chance(0.1)
        self.wrong_digest = False
        self.tail = b""
        method = "POST" if choices.chance(0.3) else "PUT"
        path = "/" if method == "POST" or choices.chance(0.3) else "/" + choices.pick(NAMES)
        fields = sender.fields()
        if choices.chance(0.2):
            fields["Accept"] = "application/json"
        if self.expects:
            fields["Expect"] = "100-continue"
        if self.wants_digest:
            fields["Want-Repr-Digest"] = "sha-256=1"
        if not more:
            fields["Connection"] = "close"
        if self.chunked:
            fields["Transfer-Encoding"] = "chunked"
            self.tail = b"0\r\n\r\n"
        else:
            fields["Content-Length"] = str(attempt.size)
        if choices.chance(0.15):
            self._give_digest(sender, fields)
        self.head = head_of(method, path, fields)

    def _give_digest(self, sender: HttpSender, fields: dict[str, str]) -> None:
        choices = sender.choices
        data = self.attempt.data()
        self.wrong_digest = choices.chance(0.3)
        if self.wrong_digest:
            self.attempt.honest = False
            data += b"x"
        kind = choices.pick(("sha-256", "sha-512"))
        digest = hashlib.new(kind.replace("-", ""), data).digest()
        name = choices.pick(("Repr-Digest", "Content-Digest"))
        value = f"{kind}=:{b64encode(digest).decode()}:"
        if self.chunked and choices.chance(0.5):
            fields["Trailer"] = name
            self.tail = b"0\r\n" + f"{name}: {value}\r\n\r\n".encode()
        else:
            fields[name] = value


class PlainSender(HttpSender):
    """
    Sends files, each with one request, and sends again what may be sent again.

    :cvar most: the most uploads on a connection.
    """

    kind = "http-put"
    tries: ClassVar[int] = 3
    most: ClassVar[int] = 1

    def script(self) -> Script:
        """Send, read the response, and try again if that may help."""
        left = 1 + self.choices.below(self.most)
        again: Attempt | None = None
        line: HttpLine | None = None
        failures = 0
        while left > 0 and failures < self.tries:
            self.fresh_patience()
            idle = line is not None and line.is_usable
            if line is None or not idle:
                line = yield from self.connect_http()
            attempt = self.begin(again=again)
            if line.is_open:
                yield from self.upload(line, attempt, more=left > 1)
            self.scene.history.lost(attempt)
            self.scene.history.end(attempt)
            if idle and attempt.told == LOST:
                again = attempt  # the server may close an idle connection: RFC 9112, 9.5
            elif self.tries_again(attempt):
                again, failures = attempt, failures + 1
                yield from self.pause(self.choices.between(0.1, 2.0) * 2**failures)
            else:
                again, left = None, left - 1

    def tries_again(self, attempt: Attempt) -> bool:
        """Return whether its content is sent again."""
        if attempt.told == REFUSED:
            return attempt.code in RETRIED
        return attempt.told == LOST and self.choices.chance(0.8)

    def upload(self, line: HttpLine, attempt: Attempt, *, more: bool) -> Script:
        """Send one file, and read the response."""
        request = Request(self, attempt, more=more)
        self.note_peer(line, attempt)
        line.spoken = False
        method = request.head[: request.head.index(b" ")].decode()
        line.responses.ask(method, expects_continue=request.expects)
        yield from self.send_request(line, request)
        response = yield from self.response(line)
        if response is None:
            return
        self.judge(request, response)
        if line.is_open and not attempt.complete:
            line.close()  # the rest of the body is still owed

    def send_request(self, line: HttpLine, request: Request) -> Script:
        """Send it, until a response comes early."""
        attempt, size = request.attempt, request.attempt.size
        if not request.chunked and not request.expects and size <= 65_536:
            data = attempt.data()
            if size == 0:
                attempt.complete = True
            sent = yield from self.send(line, request.head + data)
            attempt.sent = max(0, sent - len(request.head))
            attempt.complete = attempt.sent >= size
            return
        yield from self.send(line, request.head)
        if request.expects and not (yield from self.continued(line)):
            return
        if not request.chunked:
            if (yield from self.send_content(line, attempt, 0, size)):
                attempt.complete = True
            return
        yield from self.send_chunks(line, request)

    def send_chunks(self, line: HttpLine, request: Request) -> Script:
        """Send the body in chunks."""
        attempt, at = request.attempt, 0
        while at < attempt.size:
            if line.spoken or line.fin or not line.is_open:
                return
            end = min(attempt.size, at + 1 + self.choices.below(20_000))
            chunk = b"%x\r\n%s\r\n" % (end - at, attempt.piece(at, end))
            if (yield from self.send(line, chunk)) < len(chunk):
                return
            at = attempt.sent = end
        if line.is_open and (yield from self.send(line, request.tail)) == len(request.tail):
            attempt.complete = True

    def judge(self, request: Request, response: Response) -> None:
        """Note what a response tells."""
        attempt = request.attempt
        if response.status != 201:
            code = self.refused(attempt, response)
            if code == "digest-mismatch" and not request.wrong_digest:
                raise self.wrong("told that its digest is wrong:", attempt)
            return
        if request.wrong_digest:
            raise self.wrong("stored with a wrong digest:", attempt)
        try:
            ((name, size, sha256, code),) = receipts_of(response)
            digest = response.digest()
        except (WrongResponse, ValueError) as error:
            raise self.wrong("a wrong receipt:", error) from None
        if code or name is None or (digest is None and request.wants_digest):
            raise self.wrong("a receipt without what was asked for:", response)
        self.scene.history.stored(attempt, name, size, sha256)
        if digest is not None and digest != attempt.digest():
            raise self.wrong("a wrong Repr-Digest:", response)

    def note_receipts(self, attempts: list[Attempt], response: Response) -> None:
        """Note what a response says about some files."""
        try:
            receipts = receipts_of(response)
        except WrongResponse as error:
            raise self.wrong("a wrong receipt:", error) from None
        if len(receipts) != len(attempts):
            raise self.wrong(f"receipts for {len(receipts)} of {len(attempts)} files:", response)
        history = self.scene.history
        for attempt, (name, size, sha256, code) in zip(attempts, receipts, strict=True):
            if code:
                history.refused(attempt, code)
            else:
                history.stored(attempt, name, size, sha256)


class Put(PlainSender):
    """Sends a file with PUT or POST, in any of the ways that clients have."""


class KeepAlive(PlainSender):
    """Sends several files on one connection."""

    kind = "http-keep-alive"
    most = 8


class Pipelining(PlainSender):
    """Sends several requests at once, and reads the responses afterwards."""

    kind = "http-pipelining"

    def script(self) -> Script:
        line = yield from self.connect_http()
        if not line.is_open:
            return
        attempts = []
        data = b""
        count = 2 + self.choices.below(6)
        for number in range(count):
            attempt = self.begin(self.choices.below(2000) + 8)
            attempts.append(attempt)
            fields = self.fields(Content_Length=str(attempt.size))
            if number == count - 1:
                fields["Connection"] = "close"
            data += head_of("PUT", "/", fields) + attempt.data()
            attempt.sent, attempt.complete = attempt.size, True
            line.responses.ask("PUT")
        yield from self.send(line, data)
        for attempt in attempts:
            response = yield from self.response(line)
            if response is None:
                break
            if response.status == 201:
                self.note_receipts([attempt], response)
            else:
                self.refused(attempt, response)
                for other in attempts:  # which may have gone down with it
                    other.honest = False
        for attempt in attempts:
            self.scene.history.lost(attempt)
            self.scene.history.end(attempt)


class Form(PlainSender):
    """Sends several files in a form; perhaps it breaks off."""

    kind = "http-form"

    def script(self) -> Script:
        choices, history = self.choices, self.scene.history
        line = yield from self.connect_http()
        if not line.is_open:
            return
        attempts = [self.begin() for _ in range(1 + choices.below(5))]
        breaks_off = choices.chance(0.15)
        body = self._body(attempts)
        fields = self.fields(
            Content_Type="multipart/form-data; boundary=simulated",
            Content_Length=str(len(body)),
            Connection="close",
        )
        if choices.chance(0.3):
            fields["Accept"] = "application/json"
        if breaks_off:
            body = body[: choices.below(len(body))]
        for attempt in attempts:
            attempt.sent = attempt.size
            attempt.honest = not breaks_off
            attempt.complete = not breaks_off
        line.responses.ask("POST")
        yield from self.send(line, head_of("POST", "/", fields) + body)
        if breaks_off:
            yield from self._break_off(line)
        response = yield from self.response(line)
        if response is not None:
            self._note(attempts, response)
        for attempt in attempts:
            history.lost(attempt)
            history.end(attempt)

    def _body(self, attempts: list[Attempt]) -> bytes:
        head = b"--simulated\r\nContent-Disposition: form-data; name=f; filename=%d.bin\r\n\r\n"
        parts = [
            part
            for attempt in attempts
            for part in (head % attempt.number, attempt.data(), b"\r\n")
        ]
        return b"".join([*parts, b"--simulated--\r\n"])

    def _break_off(self, line: HttpLine) -> Generator[float, None, None]:
        if self.choices.chance(0.5):
            line.half_close()
        else:
            yield from self.pause(self.choices.between(0, 0.1))
            line.reset()

    def _note(self, attempts: list[Attempt], response: Response) -> None:
        if response.status == 201:
            self.note_receipts(attempts, response)
            return
        kind = response.fields.get("content-type", "")
        if response.body.startswith("上传成功".encode()) or kind == "application/json":
            self.note_receipts(attempts, response)  # some are stored: the disk failed at the end
            return
        if response.body.count(b"\n") == len(attempts) > 1 and kind.startswith("text/plain"):
            self.note_receipts(attempts, response)
            return
        code, limit = self.error_in(response), self.scene.facts.max_size
        too_large = any(0 < limit < it.size for it in attempts)
        for attempt in attempts:
            attempt.honest = attempt.honest and not too_large  # one is to blame for all
            self.scene.history.refused(attempt, code)


HTTP: tuple[type[HttpSender], ...] = (Put, KeepAlive, Pipelining, Form)
