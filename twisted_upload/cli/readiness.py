"""
Checks whether a server answers, for people: step by step, so that an error says which
step failed.

To a raw server it sends nothing, and half-closes; to an HTTP server it sends an empty
file.  A server that works answers that it stores no empty files.  Only that proves that
it works: the kernel accepts a connection even if the server is stalled.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from twisted_upload.cli.checking import Check, Findings
from twisted_upload.cli.reactor import get_reactor, run_until_done
from twisted_upload.cli.streams import PROGRAM, ExitStatus, Streams
from twisted_upload.client.targets import Target
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


def _interpret(result: Receipt | BaseException, timeout: float, *, sent: bool) -> _Result:
    """
    Return what the result of an empty upload means, or of one byte.

    :param sent: whether it was one byte.
    """
    if isinstance(result, Receipt):
        if sent:
            name = f" as {result.name}" if result.name else ""
            return _Result(None, f"one byte was stored{name}", ExitStatus.OK)
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
    to: Target,
    token: str | None,
    *,
    send: bool,
    timeout: float,
    answer: str,
    as_json: bool,
    quiet: bool,
) -> int:
    """
    Check a server, and print what it answered.

    :param token: for an HTTP server.
    :param send: whether to send one byte too.
    :param timeout: seconds within which it must have answered.
    :return: the exit status.
    :raises click.UsageError: the options are invalid after all.
    """
    try:
        reactor = get_reactor()
    except OSError as error:  # out of file descriptors
        streams.err.line(printable(f"{PROGRAM}: {error.strerror or error}"))
        return ExitStatus.FAILED

    def tell(step: str, text: str) -> None:
        if not as_json and not quiet:
            streams.out.line(printable(f"{step}: {text}"))

    check = Check(to, token, reactor, answer=answer, timeout=timeout, tell=tell)
    running = _Running(check, reactor, timeout, send=send)
    failure = run_until_done(reactor, streams.interrupts, running.run, running.cancel)
    if streams.interrupts.number:
        streams.err.line(f"{PROGRAM}: interrupted")
        return 128 + streams.interrupts.number
    end = _interpret(failure or running.result, timeout, sent=running.sent)
    _show(streams, str(to), end, running, as_json=as_json, quiet=quiet)
    if streams.out.error is not None:
        streams.err.line(f"{PROGRAM}: standard output: {streams.out.error.strerror}")
        return end.status or ExitStatus.FAILED
    return end.status


class _Running:
    """
    A check, within its time.

    :ivar result: its result.
    :ivar seconds: how long it took.
    :ivar sent: whether the result is that of one byte.
    """

    def __init__(self, check: Check, reactor: Any, timeout: float, *, send: bool) -> None:
        self.result: Receipt | BaseException = CancelledError()
        self.seconds = 0.0
        self.sent = False
        self.findings: Findings = check.findings
        self._check = check
        self._reactor = reactor
        self._timeout = timeout
        self._send = send
        self._asked: Deferred[Receipt] | None = None
        self._cancelled = False

    async def _run(self) -> None:
        if self._cancelled:
            return
        began = self._reactor.seconds()
        self._asked = Deferred.fromCoroutine(self._ask())
        if self._timeout > 0:
            self._asked.addTimeout(self._timeout, self._reactor, lambda failure, _: failure)
        try:
            self.result = await self._asked
        except Exception as error:
            self.result = error
        self.seconds = self._reactor.seconds() - began

    async def _ask(self) -> Receipt:
        try:
            receipt = await self._check.ask(b"")
        except Empty:
            if not self._send:
                raise
        else:
            if not self._send:
                return receipt
        self.sent = True
        return await self._check.ask(b".")

    def run(self) -> Deferred[None]:
        """Run it; fires when there is a result."""
        return Deferred.fromCoroutine(self._run())

    def cancel(self, _: int) -> None:
        """Cancel it, or do not begin it."""
        self._cancelled = True
        if self._asked is not None:
            self._asked.cancel()


def _show(
    streams: Streams, to: str, end: _Result, running: _Running, *, as_json: bool, quiet: bool
) -> None:
    ready = end.status == ExitStatus.OK
    if as_json:
        stored = running.result.name if isinstance(running.result, Receipt) else None
        report = {
            "to": to,
            "ready": ready,
            "code": end.code,
            "seconds": round(running.seconds, 3),
            "error": None if ready else end.text,
            **running.findings.to_json(),
            "stored_as": stored,
        }
        streams.out.line(json.dumps(report))
    elif ready and not quiet:
        took = format_duration(running.seconds)
        streams.out.line(printable(f"{to} is ready: it answered in {took} ({end.text})"))
    if not ready and not (as_json and quiet):
        streams.err.line(printable(f"{PROGRAM}: {to} is not ready: {end.text}"))
