"""
Senders of HTTP that are too slow, or break off.
"""

from __future__ import annotations

from tests.simulation.senders.http import PlainSender
from tests.simulation.senders.http_sender import HttpSender, head_of
from tests.simulation.senders.sender import Script

__all__ = ["UNFINISHED"]


class CutBody(PlainSender):
    """Breaks off within the body: nothing of it may be stored."""

    kind = "http-cut"
    honest = False

    def script(self) -> Script:
        choices = self.choices
        line = yield from self.connect_http()
        attempt = self.begin()
        if not line.is_open:
            return
        self.note_peer(line, attempt)
        line.responses.ask("PUT")
        head = head_of("PUT", "/cut", self.fields(Content_Length=str(attempt.size)))
        yield from self.send(line, head)
        yield from self.send_content(line, attempt, 0, choices.below(attempt.size))
        yield from self.pause(choices.between(0, 0.1))
        if choices.chance(0.6):
            line.half_close()
            response = yield from self.response(line)
            if response is not None:
                self.refused(attempt, response)
        elif choices.chance(0.5):
            line.reset()
        else:
            line.vanish()


class SlowBody(PlainSender):
    """Sends a body a little at a time, perhaps slower than ``--min-rate``."""

    kind = "http-slow-body"
    honest = False

    def script(self) -> Script:
        choices = self.choices
        self.fresh_patience(600)
        line = yield from self.connect_http()
        attempt = self.begin(100 + choices.below(3000))
        if not line.is_open:
            return
        line.responses.ask("PUT")
        head = head_of("PUT", "/slow", self.fields(Content_Length=str(attempt.size)))
        seconds, at = choices.between(0.2, 8.0), 0
        yield from self.send(line, head)
        step = 1 + choices.below(attempt.size // 20)
        while at < attempt.size and line.is_open and not (line.spoken or line.fin):
            end = min(attempt.size, at + step)
            if not (yield from self.send_content(line, attempt, at, end)):
                break
            at = end
            attempt.complete = at >= attempt.size
            yield from self.pause(min(seconds, self.left()))
        response = yield from self.response(line)
        if response is None:
            return
        if response.status == 201:
            self.note_receipts([attempt], response)
        else:
            self.refused(attempt, response)


class SlowHead(HttpSender):
    """Sends a head that never ends, a byte or a field at a time; or nothing after a request."""

    kind = "http-slow-head"
    honest = False

    def script(self) -> Script:
        self.fresh_patience(600)
        line = yield from self.connect_http()
        if not line.is_open:
            return
        if self.choices.chance(0.3):  # idle after a request
            line.responses.ask("OPTIONS")
            yield from self.send(line, b"OPTIONS * HTTP/1.1\r\nHost: box.example\r\n\r\n")
            yield from self.response(line)
            if line.is_usable:
                yield from self.hear(line)
            return
        piece = self.choices.pick((b"x", b"X: y\r\n"))
        start = b"PUT /slow HTTP/1.1\r\nHost: box.example\r\n" + (b"X: " if piece == b"x" else b"")
        line.responses.ask("PUT")
        yield from self.send(line, start)
        yield from self.trickle(line, piece * 400, len(piece), self.choices.between(0.3, 3.0))
        response = yield from self.response(line)
        if response is not None:
            self.error_in(response)


UNFINISHED: tuple[type[HttpSender], ...] = (CutBody, SlowBody, SlowHead)
