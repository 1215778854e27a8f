"""
Checks whether a server answers, for people.

It connects, sends nothing, and half-closes.  A server that works answers that it
stores no empty files.  Only that proves that it works: the kernel accepts a
connection even if the server is stalled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from twisted_upload.cli.common_options import endpoint_of
from twisted_upload.cli.destination import Destination
from twisted_upload.cli.reactor import get_reactor, run_until_done
from twisted_upload.cli.streams import PROGRAM, ExitStatus, Streams
from twisted_upload.client.upload import upload
from twisted_upload.core.text import format_duration, printable
from twisted_upload.errors import (
    CouldNotConnect,
    Empty,
    OutcomeUnknown,
    UploadError,
    UploadInterrupted,
    UploadRefused,
    UploadTimedOut,
)
from twisted_upload.interfaces import Receipt

__all__ = ["check_readiness"]


@dataclass(frozen=True, slots=True)
class _Result:
    """
    The result of the check.

    :ivar code: why the server is not ready; None if it is.
    :ivar text: for people.
    :ivar status: the exit status.
    """

    code: str | None
    text: str
    status: int


def _interpret(result: Receipt | BaseException, timeout: float) -> _Result:
    """Return what the result of an empty upload means."""
    if isinstance(result, Receipt):
        return _Result(None, "it accepts empty files, and stored one", ExitStatus.OK)
    if isinstance(result, Empty):
        return _Result(None, "nothing was sent, nothing was stored", ExitStatus.OK)
    if isinstance(result, UploadRefused):
        return _Result(result.code, f"{result.code}: {result.explanation}", ExitStatus.REFUSED)
    if isinstance(result, CancelledError):
        result = UploadTimedOut(f"no answer within {format_duration(timeout)}")
    for kind, code, text, status in _FAILURES:
        if isinstance(result, kind):
            return _Result(code, f"{text}{result}", status)
    return _Result("internal", f"internal error: {result!r}", ExitStatus.FAILED)


_FAILURES: tuple[tuple[type[UploadError], str, str, int], ...] = (
    (UploadTimedOut, "timed-out", "", ExitStatus.TIMED_OUT),
    (CouldNotConnect, "could-not-connect", "could not connect: ", ExitStatus.NO_CONNECTION),
    (OutcomeUnknown, "no-answer", "", ExitStatus.UNKNOWN),
    (UploadInterrupted, "connection-lost", "", ExitStatus.UNKNOWN),
)


def check_readiness(
    streams: Streams,
    to: Destination,
    *,
    tls: bool,
    cacert: str | None,
    timeout: float,
    answer: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """
    Check a server, and print what it answered.

    :param timeout: seconds within which it must have answered.
    :return: the exit status.
    :raises click.UsageError: the options are invalid after all.
    """
    try:
        reactor = get_reactor()
    except OSError as error:  # out of file descriptors
        streams.err.line(printable(f"{PROGRAM}: {error.strerror or error}"))
        return ExitStatus.FAILED
    check = _Check(endpoint_of(to, cacert, reactor, tls=tls), reactor, answer, timeout)
    failure = run_until_done(reactor, streams.interrupts, check.ask, check.cancel)
    if streams.interrupts.number:
        streams.err.line(f"{PROGRAM}: interrupted")
        return 128 + streams.interrupts.number
    end = _interpret(failure or check.result, timeout)
    _show(streams, to.text, end, check.seconds, as_json=as_json, quiet=quiet)
    if streams.out.error is not None:
        streams.err.line(f"{PROGRAM}: standard output: {streams.out.error.strerror}")
        return end.status or ExitStatus.FAILED
    return end.status


class _Check:
    """
    An empty upload.

    :ivar result: its result.
    :ivar seconds: how long it took.
    """

    def __init__(
        self, endpoint: IStreamClientEndpoint, reactor: Any, answer: str, timeout: float
    ) -> None:
        self.result: Receipt | BaseException = CancelledError()
        self.seconds = 0.0
        self._endpoint = endpoint
        self._reactor = reactor
        self._answer = answer
        self._timeout = timeout
        self._sent: Deferred[Receipt] | None = None
        self._cancelled = False

    async def _ask(self) -> None:
        if self._cancelled:
            return
        began = self._reactor.seconds()
        self._sent = upload(
            b"",
            self._endpoint,
            reactor=self._reactor,
            answer=self._answer,
            connect_timeout=self._timeout,
            stall_timeout=0,
            answer_timeout=0,
        )
        if self._timeout > 0:
            self._sent.addTimeout(self._timeout, self._reactor, lambda failure, _: failure)
        try:
            self.result = await self._sent
        except Exception as error:
            self.result = error
        self.seconds = self._reactor.seconds() - began

    def ask(self) -> Deferred[None]:
        """Make it; fires when there is a result."""
        return Deferred.fromCoroutine(self._ask())

    def cancel(self, _: int) -> None:
        """Cancel it, or do not begin it."""
        self._cancelled = True
        if self._sent is not None:
            self._sent.cancel()


def _show(
    streams: Streams, to: str, end: _Result, seconds: float, *, as_json: bool, quiet: bool
) -> None:
    ready = end.status == ExitStatus.OK
    if as_json:
        report = {
            "to": to,
            "ready": ready,
            "code": end.code,
            "seconds": round(seconds, 3),
            "error": None if ready else end.text,
        }
        streams.out.line(json.dumps(report))
    elif ready and not quiet:
        took = format_duration(seconds)
        streams.out.line(printable(f"{to} is ready: it answered in {took} ({end.text})"))
    if not ready and not (as_json and quiet):
        streams.err.line(printable(f"{PROGRAM}: {to} is not ready: {end.text}"))
