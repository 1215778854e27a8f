"""
A sender: a script, and the connections that it makes.

A script is a generator that yields for how many seconds it waits at most.  It goes on when
something happens to one of its connections, or when that time is over.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, ClassVar

from tests.simulation.choices import Choices
from tests.simulation.history import Attempt
from tests.simulation.scheduler import Call
from tests.simulation.senders.scene import Scene, Target

__all__ = ["ATTEMPTS_EACH", "SLOWEST", "Impatient", "Line", "Script", "Sender"]

ATTEMPTS_EACH = 256
"""Attempts that one sender can make."""

Script = Generator[float, None, None]


class Impatient(Exception):
    """A sender has waited long enough."""


class Line:
    """
    A connection of a sender: a peer of the simulated network.

    :ivar received_data: what has come and was not read.
    :ivar spoken: whether anything has come; scripts set it back.
    :ivar fin: whether the other side has sent its end.
    :ivar gone: whether the connection is over.
    :ivar was_reset: whether that was a reset, of either side.
    """

    __slots__ = ("_owner", "connection", "fin", "gone", "received_data", "spoken", "was_reset")

    def __init__(self, owner: Sender) -> None:
        self._owner = owner
        self.connection: Any = None
        self.received_data = b""
        self.spoken = False
        self.fin = False
        self.gone = False
        self.was_reset = False

    # Called by the network

    def connected(self, connection: Any) -> None:
        """It is open."""
        self.connection = connection
        self._owner.wake()

    def received(self, data: bytes) -> None:
        """Bytes have come."""
        self.spoken = True
        self.received_data = self.received_data + data if self.received_data else bytes(data)
        self._owner.wake()

    def ended(self) -> None:
        """The other side has sent its end."""
        self.fin = True
        self._owner.wake()

    def lost(self, reset: bool) -> None:
        """It is over, or was never made."""
        self.gone = True
        self.was_reset = reset
        self._owner.wake()

    def writable(self) -> None:
        """There is room for more bytes."""
        self._owner.wake()

    # Called by the script

    @property
    def is_open(self) -> bool:
        """Whether bytes can be sent."""
        return self.connection is not None and not self.gone

    def take(self, size: int | None = None) -> bytes:
        """Return what has come, or the first bytes of it, and forget it."""
        data = self.received_data
        if size is None or size >= len(data):
            self.received_data = b""
            return data
        self.received_data = data[size:]
        return data[:size]

    def half_close(self) -> None:
        """Send the end, if it is still open."""
        if self.is_open:
            self.connection.half_close()

    def close(self) -> None:
        """Close it, if it is still open."""
        if self.is_open:
            self.gone = True
            self.connection.close()

    def reset(self) -> None:
        """Reset it, if it is still open."""
        if self.is_open:
            self.gone = self.was_reset = True
            self.connection.reset()

    def vanish(self) -> None:
        """Be a dead peer from now on."""
        if self.is_open:
            self.gone = True
            self.connection.vanish()


_PIECE = 256 << 10

SLOWEST = 5_000.0
"""Bytes per second of the slowest networks that there are."""


class Sender:
    """
    A sender.

    :param choices: decide what it does.
    :param number: unique in a world.
    :cvar kind: its name in plans and reports.
    :cvar honest: whether it does nothing that should keep its file from being stored.
    :cvar needs_http: whether it speaks HTTP.
    :ivar until: when its patience ends, in virtual seconds.
    """

    kind: ClassVar[str] = ""
    honest: ClassVar[bool] = True
    needs_http: ClassVar[bool] = False
    line_type: ClassVar[type[Line]] = Line

    def __init__(self, scene: Scene, choices: Choices, number: int) -> None:
        self.scene = scene
        self.choices = choices
        self.number = number
        self.key = str(number)
        self.until = 0.0
        self.address = choices.pick(scene.addresses)
        ports = scene.http if self.needs_http else scene.raw
        self.target = ports[0] if len(ports) == 1 else choices.pick(ports)
        self.lines: list[Line] = []
        self.made = 0
        self.attempt: Attempt | None = None
        self._script: Script | None = None
        self._timer: Call | None = None
        self._running = False
        self._again = False

    def script(self) -> Script:
        """Do what such a sender does."""
        raise NotImplementedError

    def begin(
        self, size: int | None = None, *, again: Attempt | None = None, kind: str = ""
    ) -> Attempt:
        """Begin an attempt, with more patience if it is large; its size is chosen if not given."""
        assert self.made < ATTEMPTS_EACH
        number = self.number * ATTEMPTS_EACH + self.made
        self.made += 1
        if size is None:
            size = self.scene.sizes.choose(self.choices) if again is None else again.size
        self.attempt = self.scene.history.begin(
            number, kind or self.kind, size, again=again, honest=self.honest
        )
        self.until += self.attempt.size / SLOWEST
        return self.attempt

    def fresh_patience(self, seconds: float | None = None) -> None:
        """Be patient, from now on."""
        self.until = self.scene.scheduler.now + (
            self.scene.patience if seconds is None else seconds
        )

    def start(self) -> None:
        """Begin the script."""
        self.scene.running[self.key] = self
        self.fresh_patience()
        self._script = self.script()
        self.wake()

    def wake(self) -> None:
        """Go on with the script."""
        if self._running:
            self._again = True
            return
        script = self._script
        if script is None:
            return
        self._running = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            while True:
                self._again = False
                seconds = next(script)
                if not self._again:
                    self._timer = self.scene.scheduler.call_later(seconds, self._time_is_over)
                    return
        except (StopIteration, Impatient):
            self.finish()
        finally:
            self._running = False

    def _time_is_over(self) -> None:
        self._timer = None
        self.wake()

    def finish(self) -> None:
        """Go away: what is left of its connections is closed, or reset before its end."""
        self._script = None
        self.scene.running.pop(self.key, None)
        attempt, history = self.attempt, self.scene.history
        whole = self.needs_http or (attempt is not None and attempt.complete)
        for line in self.lines:
            if whole:
                line.close()
            else:
                line.reset()
        if attempt is not None:
            history.lost(attempt)
            history.end(attempt)

    def note_peer(self, line: Line, attempt: Attempt) -> None:
        """Note from where an attempt is sent, as the daemon names it."""
        attempt.connection = line.connection
        if line.connection is not None and line.connection.address:
            host, port, *_ = line.connection.address
            name = f"{host}:{port}"
            if name not in attempt.peers:
                attempt.peers.append(name)
            self.scene.history.senders[name] = attempt

    def check_noticed(self, since: float, within: float) -> None:
        """
        Who falls silent is noticed, if nothing goes wrong that could keep that from happening.

        :param since: when it fell silent, in virtual seconds.
        :param within: seconds.
        """
        scene = self.scene
        took = scene.scheduler.now - since
        if took > within and scene.facts.quiet_from <= since:
            raise scene.history.wrong(
                f"{self.kind} {self.number} was silent for {took:.0f} s before it was noticed"
            )

    # What scripts are made of: generators for ``yield from``

    def left(self) -> float:
        """
        Return how many seconds of patience are left.

        :raises Impatient: none.
        """
        left = self.until - self.scene.scheduler.now
        if left <= 0:
            raise Impatient
        return left

    def pause(self, seconds: float) -> Script:
        """Wait so long, whatever happens."""
        scheduler = self.scene.scheduler
        end = scheduler.now + seconds
        while scheduler.now < end:
            yield end - scheduler.now

    def connect(self, target: Target, address: str) -> Generator[float, None, Line]:
        """Return a new connection; it is over if none could be made."""
        line = self.line_type(self)
        self.lines.append(line)
        self.scene.network.connect(
            line, target.host, target.port, address=address, choices=self.choices
        )
        while line.connection is None and not line.gone:
            yield self.left()
        return line

    def send(self, line: Line, data: bytes) -> Generator[float, None, int]:
        """
        Send bytes; stop early if the connection is over.

        :return: how many were handed to the network.
        """
        sent, size = 0, len(data)
        while line.is_open:
            sent += line.connection.send(data if not sent else memoryview(data)[sent:])
            if sent >= size:
                break
            yield self.left()
        return sent

    def send_content(
        self, line: Line, attempt: Attempt, start: int, end: int
    ) -> Generator[float, None, bool]:
        """
        Send a piece of a content; stop when the other side has something to say.

        :return: whether all of it was sent.
        """
        at = start
        while at < end:
            piece = attempt.piece(at, min(end, at + _PIECE))
            sent = 0
            while sent < len(piece):
                if not line.is_open or line.spoken or line.fin:
                    return False
                sent += line.connection.send(piece if not sent else memoryview(piece)[sent:])
                attempt.sent = max(attempt.sent, at + sent)
                if sent < len(piece):
                    yield self.left()
            at += len(piece)
        return True

    def send_end(self, line: Line, attempt: Attempt) -> None:
        """Send the end of an upload by a half-close, if the connection is still open."""
        if line.is_open:
            attempt.complete = True
            line.half_close()

    def hear(self, line: Line) -> Generator[float, None, bytes]:
        """Return what comes until the other side ends."""
        while not (line.fin or line.gone):
            yield self.left()
        return line.take()
