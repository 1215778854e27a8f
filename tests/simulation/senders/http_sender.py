"""
What all senders of HTTP have in common.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import ClassVar

from tests.simulation.history import Attempt
from tests.simulation.senders.responses import Response, Responses, WrongResponse, code_of
from tests.simulation.senders.sender import Line, Sender

__all__ = ["HttpLine", "HttpSender", "head_of"]

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

CONTINUE_PATIENCE = 1.0
"""Seconds that a client waits for ``100 Continue`` before it sends the body all the same."""


def head_of(method: str, path: str, fields: Mapping[str, str]) -> bytes:
    """Return the head of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: box.example"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


class HttpLine(Line):
    """A connection of a sender of HTTP."""

    __slots__ = ("responses",)

    def __init__(self, owner: Sender) -> None:
        super().__init__(owner)
        self.responses = Responses()

    def received(self, data: bytes) -> None:
        """Bytes have come."""
        self.responses.feed(data)
        self.spoken = True
        self._owner.wake()

    @property
    def is_usable(self) -> bool:
        """Whether another request can be sent."""
        return self.is_open and not self.fin and not self.responses.closes


class HttpSender(Sender):
    """A sender of HTTP."""

    kind = "http"
    needs_http: ClassVar[bool] = True
    line_type: ClassVar[type[Line]] = HttpLine

    def connect_http(self) -> Generator[float, None, HttpLine]:
        """Return a new connection; it is over if none could be made."""
        line = yield from self.connect(self.target, self.address)
        assert isinstance(line, HttpLine)
        return line

    def fields(self, **fields: str) -> dict[str, str]:
        """Return header fields, with the token if one is needed."""
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        token = self.scene.facts.token
        if token:
            named["Authorization"] = f"Bearer {token}"
        return named

    def wrong(self, what: str, about: object) -> Exception:
        """Return a violation."""
        now = self.scene.scheduler.now
        return self.scene.history.wrong(f"{self.kind} {self.number} at {now:.6f}: {what} {about}")

    def response(self, line: HttpLine) -> Generator[float, None, Response | None]:
        """
        Return the next final response; `None` if the connection ends without one.

        :raises Violation: what comes is not one.
        """
        began = self.scene.scheduler.now
        while True:
            response = self.next_response(line)
            if response is not None:
                return response
            if line.gone or line.fin:
                cut = line.was_reset or self.scene.history.disturbed >= began
                if line.responses.left and not cut:
                    raise self.wrong("a response that ends early", line.responses.left)
                return None
            yield self.left()

    def next_response(self, line: HttpLine) -> Response | None:
        """Return the next final response, if it has come."""
        try:
            return line.responses.next()
        except WrongResponse as error:
            raise self.wrong("a wrong response:", error) from None

    def continued(self, line: HttpLine) -> Generator[float, None, bool]:
        """Wait for ``100 Continue``; return whether the body should be sent."""
        scheduler = self.scene.scheduler
        end = scheduler.now + CONTINUE_PATIENCE
        responses = line.responses
        while True:
            left = responses.left
            if left == _CONTINUE:
                break
            if not _CONTINUE.startswith(left) or line.gone or line.fin:
                return False
            if scheduler.now >= end:
                break
            yield end - scheduler.now
        line.spoken = False
        return True

    def refused(self, attempt: Attempt, response: Response) -> str:
        """
        Note the refusal that a response tells; return its code.

        :raises Violation: it is none.
        """
        code = self.error_in(response)
        self.scene.history.refused(attempt, code)
        return code

    def error_in(self, response: Response) -> str:
        """Return the code of an error; `refused` without noting it."""
        try:
            return code_of(response)
        except WrongResponse as error:
            raise self.wrong("a wrong error:", error) from None

    def trickle(self, line: HttpLine, data: bytes, step: int, seconds: float) -> Generator:  # type: ignore[type-arg]
        """Send some bytes at a time, with pauses, until there is a word from the other side."""
        for at in range(0, len(data), step):
            if line.spoken or line.fin or not line.is_open:
                return
            yield from self.send(line, data[at : at + step])
            yield from self.pause(seconds)
