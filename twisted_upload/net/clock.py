"""
The monotonic clock that all durations are measured with.

Twisted's reactors use the time of day (`time.time`), which can be set: by NTP on a
device without a battery, after a virtual machine is resumed, by ``date -s``.  If it is
set back by an hour, no timeout fires for an hour; if it is set forward, all of them
fire at once.  So the reactor of each of our processes is given, before it runs, a clock
that cannot be set, and everything with a timeout, a deadline, a watchdog or a duration
asks the reactor.  The time of day is for names and for what people read: code that
needs it is passed `time.time`.

The clock stops while the machine is suspended: no sender could send anything during
that time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["use_monotonic_time"]


def use_monotonic_time(reactor: Any, now: Callable[[], float] = time.monotonic) -> None:
    """
    Make a reactor measure time with a clock that is never set.

    `ReactorBase` uses ``self.seconds()`` for everything that it times, and each
    `DelayedCall` stores the function that it was made with.  That is why an attribute
    of the reactor is enough, and why pending calls are moved.  Code that uses
    `twisted.python.runtime.seconds` directly is not affected: it gets the time of day,
    as before.

    :param reactor: any of Twisted's; harmless if this was done before.
    :param now: seconds, from an arbitrary starting point.
    """
    before = reactor.seconds
    if before is now:
        return
    reactor.seconds = now
    passed = now() - before()
    for call in reactor.getDelayedCalls():
        # All by the same amount, so that they stay in order.
        call.time += passed
        call.seconds = now
