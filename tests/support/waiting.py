"""
Waiting for what happens in the reactor, or in a thread, and time that a test lets pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread

reactor: Any = _reactor


PATIENCE = 10.0
"""Seconds after which a test gives up waiting; a bound, not an interval."""


TICK = 0.25
"""Seconds by which the clock advances at once."""


T = TypeVar("T")


async def until(condition: Callable[[], object]) -> None:
    """Let the reactor run until a condition holds."""
    deadline = reactor.seconds() + PATIENCE
    while not condition():
        assert reactor.seconds() < deadline, "it did not happen"
        await deferLater(reactor, 0.0005)


async def turns(number: int = 5) -> None:
    """Let the reactor check all its sockets a few times."""
    for _ in range(number):
        await deferLater(reactor, 0)


def in_thread(function: Callable[..., T], *arguments: Any, **keywords: Any) -> Deferred[T]:
    """Let a blocking peer do something."""
    return deferToThread(function, *arguments, **keywords)


def pass_time(clock: Clock, seconds: float) -> None:
    """
    Let time pass as it does for a running process: one that finds itself much later all
    at once (`Clock.advance`) was stalled.
    """
    for _ in range(int(seconds / TICK)):
        clock.advance(TICK)
    clock.advance(seconds % TICK)


class TurnByTurn(Clock):
    """A clock that in one turn calls only what was due before it, as a reactor does."""

    def turn(self, seconds: float = 0) -> None:
        """Run one turn, this many seconds after the last one."""
        self.rightNow += seconds
        for call in [call for call in self.calls if call.getTime() <= self.rightNow]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)
