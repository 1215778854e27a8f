"""
The clock that everything is measured with.

Twisted's reactors tell the time of day (`time.time`), and that can be set: by NTP
on a device without a battery, after a virtual machine was resumed, by ``date -s``.
Set back by an hour, no time-out comes for an hour; set forward, all of them come
at once.  So the reactor of every process of ours is given a clock that nobody can
set, before it runs, and everything that has a time-out, a deadline, a watchdog or
a duration asks the reactor.  The time of day is for names and for what people
read: those who need it are handed `time.time`.

The clock stands still while the machine is suspended: nobody could send anything
meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

__all__ = ["use_monotonic_time"]


def use_monotonic_time(reactor: Any, now: Callable[[], float] = time.monotonic) -> None:
    """
    From now on a reactor measures with a clock that is never set.

    `ReactorBase` asks ``self.seconds()`` for all that it times, and each
    `DelayedCall` remembers the function it was made with.  That is why an
    attribute of the reactor is enough, and why calls that wait already are moved.
    Whatever asks `twisted.python.runtime.seconds` itself is not reached: that is
    the time of day, as before.

    :param reactor: any of Twisted's; harmless when that was done before.
    :param now: seconds, from any moment on.
    """
    before = reactor.seconds
    if before is now:
        return
    reactor.seconds = now
    passed = now() - before()
    for call in reactor.getDelayedCalls():
        # All by the same amount, so that their order stays.
        call.time += passed
        call.seconds = now
