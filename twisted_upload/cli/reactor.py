"""
The reactor of a command: made ready, run until all is done, or until a signal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner
from twisted.python.failure import Failure

from twisted_upload.cli.interrupts import Interrupts
from twisted_upload.cli.resolver import DaemonResolver
from twisted_upload.core.garbage import Importing
from twisted_upload.net.clock import use_monotonic_time

__all__ = ["get_reactor", "run_until_done"]


def get_reactor() -> Any:
    """
    The global reactor, ready for a command.

    :raises OSError: there are too few descriptors for one.
    """
    with Importing():
        # Only here, because to import it is to choose it.
        from twisted.internet import reactor as _reactor  # noqa: PLC0415

    reactor: Any = _reactor
    use_monotonic_time(reactor)
    reactor.installNameResolver(DaemonResolver(reactor))
    # What Twisted logs is not for the user of a command, least of all tracebacks.
    globalLogBeginner.beginLoggingTo([], discardBuffer=True, redirectStandardIO=False)
    return reactor


def run_until_done(
    reactor: Any,
    interrupts: Interrupts,
    begin: Callable[[], Deferred[Any]],
    interrupt: Callable[[int], object],
) -> BaseException | None:
    """
    Run the reactor.

    :param begin: what to do in it.  When that has fired, the reactor stops.
    :param interrupt: called in it with a signal, once; also before ``begin``.
    :return: what it has failed with, if it has.
    """
    failures: list[BaseException | None] = []

    def ended(result: object) -> None:
        failures.append(result.value if isinstance(result, Failure) else None)
        reactor.stop()

    def started() -> None:
        # Now, because the reactor has just installed handlers of its own; it keeps
        # waking up for ours.
        interrupts.tell(lambda number: reactor.callFromThread(interrupt, number))
        reactor.callFromThread(lambda: begin().addBoth(ended))

    reactor.callWhenRunning(started)
    interrupts.hold()
    reactor.run()
    return failures[0]
