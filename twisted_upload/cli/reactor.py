"""The reactor of a command: prepared, and run until everything is done or a signal arrives."""

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
    Return the global reactor, prepared for a command.

    :raises OSError: too few file descriptors for a reactor.
    """
    with Importing():
        # Imported here, because importing it chooses it.
        from twisted.internet import reactor as _reactor  # noqa: PLC0415

    reactor: Any = _reactor
    use_monotonic_time(reactor)
    reactor.installNameResolver(DaemonResolver(reactor))
    # Twisted's log is not for the user of a command, least of all its tracebacks.
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

    :param begin: called in it.  When its Deferred has fired, the reactor stops.
    :param interrupt: called in it with a signal, once; possibly before ``begin``.
    :return: the exception with which it failed, if it failed.
    """
    failures: list[BaseException | None] = []

    def ended(result: object) -> None:
        failures.append(result.value if isinstance(result, Failure) else None)
        reactor.stop()

    def started() -> None:
        # Only now, because the reactor has just installed its own handlers; it still
        # wakes up for ours.
        interrupts.tell(lambda number: reactor.callFromThread(interrupt, number))
        reactor.callFromThread(lambda: begin().addBoth(ended))

    reactor.callWhenRunning(started)
    interrupts.hold()
    reactor.run()
    return failures[0]
