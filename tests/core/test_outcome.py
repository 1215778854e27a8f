"""
Observers are told the outcome of each upload.
"""

from __future__ import annotations

import hashlib
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from twisted.logger import Logger, formatEvent, globalLogPublisher

from tests.support.frontends import open_frontend
from tests.support.senders import reset
from tests.support.waiting import until
from tests.support.ways import Way, half_close
from twisted_upload.core.outcome import OutcomeLog, UploadOutcome, log_outcome
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.interfaces import Metadata

STORED = UploadOutcome("stored", "", "192.0.2.7:50123", 2048, 0.5, "1795328130123.bin")


@pytest.mark.parametrize(
    ("ended", "line"),
    [
        (
            STORED,
            "stored 1795328130123.bin: 2.0 KiB (2048 bytes) in 500 ms, 4.0 KiB/s,"
            " from 192.0.2.7:50123",
        ),
        (STORED._replace(ended_by_idle=True), "{}, ended by idle timeout"),
        (STORED._replace(answered=False), "{}, sender disconnected before the answer"),
        (
            STORED._replace(
                metadata=Metadata('a", label "B\n.jpg', "image/jpeg", "Al\\ice"), answered=False
            ),
            '{}, original name "a\\", label \\"B\\n.jpg", label "Al\\\\ice"'
            ", sender disconnected before the answer",
        ),
        (
            UploadOutcome("aborted", "", "unix", 7, 0.0, metadata=Metadata("photo.jpg")),
            "aborted by sender after 7 bytes in 0 ms, 6.8 KiB/s, from unix"
            ', original name "photo.jpg"',
        ),
        (
            UploadOutcome("refused", "", "192.0.2.7:50123", 7, 1.0, code="too-large"),
            "refused (too-large) after 7 bytes in 1.0 s, 7 B/s, from 192.0.2.7:50123",
        ),
        (
            UploadOutcome("aborted", "scanner", "192.0.2.7:50123", 7, 0.0),
            "aborted by sender after 7 bytes in 0 ms, 6.8 KiB/s, from 192.0.2.7:50123",
        ),
    ],
)
def test_line(ended: UploadOutcome, line: str) -> None:
    """
    Each outcome is one line in the log, with the size in units and in bytes; and with
    the listener if there are several.
    """
    event, event_of_one, stored_event = logged(
        lambda: log_outcome(ended),
        lambda: OutcomeLog(time.time).ended_with_listener(ended),
        lambda: log_outcome(STORED),
    )
    assert formatEvent(event) == line.format(formatEvent(stored_event))
    assert formatEvent(event_of_one) == f"{formatEvent(event)}, through {ended.listener}"
    assert event.items() >= ended._asdict().items()


def test_event() -> None:
    """The event for log observers has the form of a Logger's, with all fields of the outcome."""
    logger = Logger(namespace="twisted_upload.core.outcome")
    event, expected = logged(
        lambda: log_outcome(STORED),
        lambda: logger.info("{upload}", upload=STORED, **STORED._asdict()),
    )
    assert repr(event.pop("log_logger")) == repr(expected.pop("log_logger"))
    assert expected.pop("log_time") >= event.pop("log_time") > 0
    assert event == expected


def logged(*log: Callable[[], None]) -> list[Any]:
    """Return what is logged."""
    events: list[Any] = []
    observer: Any = events.append
    globalLogPublisher.addObserver(observer)
    try:
        for one in log:
            one()
    finally:
        globalLogPublisher.removeObserver(observer)
    return events


async def test_observers(way: Way) -> None:
    """Every observer of a front end is told of each upload once, whatever the outcome."""
    seen: list[UploadOutcome] = []
    async with open_frontend(RawSettings(max_size=4, receipts=True)) as frontend:
        frontend.factory.name = "scanner"
        frontend.factory.observers = (seen.append, log_outcome)
        names: list[str] = []
        for content, end in (b"kept", half_close), (b"12345", half_close), (b"los", reset):
            peer = await way.arrive(frontend, content, end=_noting(names, end))
            await until(partial(_observed, seen, len(names)))
            await frontend.is_quiet()
            peer.close()
        (name,) = frontend.store.files
        stored = UploadOutcome("stored", "scanner", names[0], 4, 0.0, name, sha256=_sha256(b"kept"))
        assert seen == [
            stored,
            UploadOutcome("refused", "scanner", names[1], 5, 0.0, code="too-large"),
            UploadOutcome("aborted", "scanner", names[2], 3, 0.0),
        ]
        assert (stored.answered, stored.ended_by_idle) == (True, False)
        assert frontend.log.kinds == ["stored", "refused", "aborted"]


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _observed(seen: list[UploadOutcome], number: int) -> bool:
    return len(seen) == number


def _noting(
    names: list[str], end: Callable[[socket.socket], None]
) -> Callable[[socket.socket], None]:
    """Wrap the end of a sender to record its address first, as observers will see it."""

    def note(peer: socket.socket) -> None:
        names.append("{}:{}".format(*peer.getsockname()))
        end(peer)

    return note
