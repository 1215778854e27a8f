"""
Those that abuse the daemon, as the rows of `tests.proofs.abuse` do.  Nothing of theirs has
to be stored; they must get rid of nobody else.
"""

from __future__ import annotations

from typing import ClassVar

from tests.simulation.senders.http_sender import HttpSender, head_of
from tests.simulation.senders.sender import Impatient, Line, Script, Sender

__all__ = ["HOSTILE"]


MOST_KEPT = 200.0
"""Seconds after a refusal in which the daemon must have ended the connection."""


class Idle(Sender):
    """Connects, and sends nothing; it may stay when it has been refused."""

    kind = "hostile-idle"
    honest = False

    def script(self) -> Script:
        self.fresh_patience(600)
        began = self.scene.history.now()
        line = yield from self.connect(self.target, self.address)
        within = self.scene.facts.idle_timeout + 5.0
        try:
            yield from self.hear(line)
        except Impatient:
            self.check_noticed(began, within)
            raise
        self.check_noticed(began, within)
        if self.target in self.scene.raw and line.fin and self.choices.chance(0.5):
            yield from self._stay(line, began)

    def _stay(self, line: Line, began: float) -> Script:
        history = self.scene.history
        since = history.now()
        while line.is_open and max(history.disturbed, history.stopped) < began:
            if line.connection.is_closed_there:
                return  # who neither sends nor ends is not told
            if history.now() > since + MOST_KEPT:
                raise history.wrong("the connection of a sender that was refused never ends")
            yield from self.pause(5.0)


class Storm(Sender):
    """Connects many times, and closes or resets at once."""

    kind = "hostile-storm"
    honest = False

    def script(self) -> Script:
        for _ in range(1 + self.choices.below(20)):
            line = yield from self.connect(self.target, self.address)
            if self.choices.chance(0.5) and not self.scene.facts.allow_empty:
                line.close()
            else:
                line.reset()
            if self.choices.chance(0.5):
                yield from self.pause(self.choices.between(0, 0.01))


class Crowd(Sender):
    """Opens many connections from one address, and stays."""

    kind = "hostile-crowd"
    honest = False

    def script(self) -> Script:
        for _ in range(10 + self.choices.below(60)):
            yield from self.connect(self.target, self.address)
        yield from self.pause(self.choices.between(0, 30))


class Deaf(Sender):
    """Sends a file, one that is too large, or a part of one, and never reads the answer."""

    kind = "hostile-deaf"
    honest = False

    def script(self) -> Script:
        choices, history = self.choices, self.scene.history
        limit = self.scene.facts.max_size
        size = limit + 65_536 if limit and choices.chance(0.3) else None
        attempt = self.begin(size)
        line = yield from self.connect(self.target, self.address)
        if line.is_open:
            line.connection.stop_reading()
            end = attempt.size if choices.chance(0.7) else choices.below(attempt.size)
            self.fresh_patience(30)
            whole = yield from self.send_content(line, attempt, 0, end)
            if whole and end == attempt.size:
                self.send_end(line, attempt)
            yield from self.pause(choices.between(0, 60))
            if choices.chance(0.3):
                line.vanish()
        history.aborted(attempt)


class Garbage(HttpSender):
    """Sends bytes that are no request, or a request that two programs could read differently."""

    kind = "hostile-garbage"
    honest = False
    requests: ClassVar[tuple[bytes, ...]] = (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"PUT /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PUT / HTTP/1.1\nHost: a\n\n",
        b"PUT / HTTP/1.1\r\n folded\r\nHost: a\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"PATCH /files/" + b"0" * 32 + b" HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"DELETE /files/../../etc HTTP/1.1\r\nHost: a\r\nTus-Resumable: 1.0.0\r\n\r\n",
        b"PUT / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"PUT /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    )

    def script(self) -> Script:
        choices = self.choices
        line = yield from self.connect_http()
        if not line.is_open:
            return
        if choices.chance(0.3):
            data = choices.bytes(1 + choices.below(300))
        else:
            data = choices.pick(self.requests)
        line.responses.ask("PUT")
        yield from self.send(line, data)
        if choices.chance(0.5):
            line.half_close()
        response = yield from self.response(line)
        if response is not None and response.status < 300:
            raise self.wrong("garbage was accepted:", response)
        if response is not None:
            self.error_in(response)


class Guessing(HttpSender):
    """Tries tokens that are not valid; or, without tokens, uploads of others."""

    kind = "hostile-guess"
    honest = False

    def script(self) -> Script:
        choices = self.choices
        line = yield from self.connect_http()
        for _ in range(1 + choices.below(10)):
            if not line.is_usable:
                return
            if self.scene.facts.token:
                fields = {"Content-Length": "4"}
                if choices.chance(0.8):
                    fields["Authorization"] = f"Bearer tok_{choices.bits(200):043d}"[:60]
                method, request = "PUT", head_of("PUT", "/guess", fields) + b"evil"
            else:
                path = f"/files/{choices.bits(128):032x}"
                method = "HEAD"
                request = head_of(method, path, {"Tus-Resumable": "1.0.0"})
            line.responses.ask(method)
            yield from self.send(line, request)
            response = yield from self.response(line)
            if response is None:
                return
            if response.status < 300:
                raise self.wrong("a guess was right:", response)


class Hoarding(HttpSender):
    """Begins uploads by tus, and never completes them."""

    kind = "hostile-partials"
    honest = False

    def script(self) -> Script:
        choices = self.choices
        for _ in range(5 + choices.below(30)):
            line = yield from self.connect_http()
            if not line.is_open:
                return
            size = choices.below(2000)
            fields = self.fields(
                Tus_Resumable="1.0.0", Upload_Length="4096", Content_Length=str(size)
            )
            fields["Connection"] = "close"
            if size:
                fields["Content-Type"] = "application/offset+octet-stream"
            line.responses.ask("POST")
            yield from self.send(line, head_of("POST", "/files/", fields) + bytes(size))
            response = yield from self.response(line)
            if response is not None and response.status != 201:
                self.error_in(response)
            line.close()


HOSTILE: tuple[type[Sender], ...] = (Idle, Storm, Crowd, Deaf, Garbage, Guessing, Hoarding)
