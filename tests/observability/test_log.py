"""
The log: what is written for an event, and where.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import (
    ILogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogPublisher,
    globalLogPublisher,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from tests.support.daemon import SUCCESS, Daemon
from twisted_upload.core.log_format import LogFormat
from twisted_upload.core.outcome import OutcomeLog, UploadOutcome, log_outcome
from twisted_upload.observability.log import (
    LineObserver,
    is_journald,
    is_loud,
    to_syslog,
    unbuffered,
)
from twisted_upload.observability.records import FIELDS

STORED = UploadOutcome("stored", "", "192.0.2.7:50123", 2048, 0.5, "1795328130123.bin")
REFUSED = UploadOutcome("refused", "", "192.0.2.7:50123", 7, 1.0, code="too-large")
MOMENT = 1_795_351_404.291


@contextlib.contextmanager
def observing(observer: ILogObserver) -> Iterator[None]:
    """Let it observe all that is logged."""
    globalLogPublisher.addObserver(observer)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observer)


@implementer(ILogObserver)
class Written:
    """
    The lines that are written for events.

    :ivar log: the logger that emits them.
    """

    def __init__(self, form: LogFormat, *, journald: bool = False) -> None:
        self._written = ""
        self._observer = LineObserver(self._write, form, journald=journald)
        publisher = LogPublisher()
        publisher.addObserver(self)
        self.log = Logger(namespace="here", observer=publisher)

    def __call__(self, event: LogEvent) -> None:
        """Write an event at a fixed time."""
        self._observer({**event, "log_time": MOMENT})

    def _write(self, text: str) -> None:
        self._written += text

    def ended(self, *ends: UploadOutcome) -> None:
        """Let these uploads end."""
        with observing(self):
            for ended in ends:
                log_outcome(ended)

    @property
    def lines(self) -> list[str]:
        """All lines that were written."""
        assert self._written.endswith("\n")
        return self._written[:-1].split("\n")

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The same, parsed as JSON."""
        return [json.loads(line) for line in self.lines]


def broken() -> Failure:
    """Return a failure."""
    try:
        raise RuntimeError("broken")
    except RuntimeError:
        return Failure()


# Text


def test_text() -> None:
    """A line begins with the time in UTC; warnings and errors say so."""
    written = Written(LogFormat.TEXT)
    written.log.info("hello {who}", who="world")
    written.log.emit(LogLevel.warn, "careful")
    written.log.error("wrong")
    written.ended(STORED)
    assert written.lines == [
        "2026-11-22T12:43:24Z hello world",
        "2026-11-22T12:43:24Z WARN careful",
        "2026-11-22T12:43:24Z ERROR wrong",
        f"2026-11-22T12:43:24Z {STORED}",
    ]


def test_text_of_a_failure() -> None:
    """The lines of a traceback are indented, so that each other line is an event."""
    written = Written(LogFormat.TEXT)
    written.log.failure("it broke", broken())
    first, *rest = written.lines
    assert first == "2026-11-22T12:43:24Z CRITICAL it broke"
    assert rest
    assert all(line.startswith("\t") for line in rest)
    assert rest[-1] == "\tbuiltins.RuntimeError: broken"


@pytest.mark.parametrize("form", [LogFormat.TEXT, LogFormat.JSON])
def test_nothing(form: LogFormat) -> None:
    """An event without text writes no line."""
    written = Written(form)
    written.log.info("")
    written.log.info("words")
    assert len(written.lines) == 1


@pytest.mark.parametrize(
    ("template", "words"),
    [("{missing}", "Unable to format"), ("{called()}", "42"), ("{0}", "Unable to format")],
)
def test_odd_events(template: str, words: str) -> None:
    """Whatever Twisted can format is logged; if it cannot, that is logged."""
    written = Written(LogFormat.TEXT)
    written.log.info(template, called=lambda: 42)
    assert words in written.lines[0]


# JSON


def test_json_of_an_end() -> None:
    """An upload is one object with the documented fields, and no text."""
    written = Written(LogFormat.JSON)
    written.ended(STORED, REFUSED)
    assert written.objects == [
        {
            "time": "2026-11-22T12:43:24.291Z",
            "level": "info",
            "event": "stored",
            "peer": "192.0.2.7:50123",
            "size": 2048,
            "seconds": 0.5,
            "name": "1795328130123.bin",
        },
        {
            "time": "2026-11-22T12:43:24.291Z",
            "level": "notice",
            "event": "refused",
            "peer": "192.0.2.7:50123",
            "size": 7,
            "seconds": 1.0,
            "code": "too-large",
        },
    ]


def test_json_of_other_events() -> None:
    """Any other event has a message, and a traceback in a separate field."""
    written = Written(LogFormat.JSON)
    written.log.info("hello\n{who}", who="world")
    written.log.failure("it broke", broken(), level=LogLevel.error)
    written.log.failure("", broken())
    hello, told, bare = written.objects
    assert hello == {
        "time": "2026-11-22T12:43:24.291Z",
        "level": "info",
        "message": "hello\nworld",
    }
    assert (told["level"], told["message"]) == ("error", "it broke")
    assert told["traceback"].endswith("RuntimeError: broken")
    assert (bare["level"], bare["message"]) == ("critical", "broken")
    assert {*told} <= {*FIELDS}


# Together


def test_ends_of_one_turn_are_written_together() -> None:
    """Lines of uploads that end in one turn of the reactor are one write, at its end."""
    clock, written = Clock(), list[str]()
    observer = LineObserver(written.append, clock=clock)
    with observing(observer):
        log_outcome(STORED)
        log_outcome(REFUSED)
        assert written == []
        clock.advance(0)
        (text,) = written
        assert [line[21:] for line in text.splitlines()] == [str(STORED), str(REFUSED)]
        clock.advance(0)
        log_outcome(STORED)
        clock.advance(0)
    assert len(written) == 2
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize("form", [LogFormat.TEXT, LogFormat.JSON])
@pytest.mark.parametrize("journald", [False, True])
def test_ends_need_no_event(form: LogFormat, journald: bool) -> None:
    """An outcome passed directly writes the same line as its event."""
    ends = (
        STORED._replace(listener="scanner"),
        REFUSED,
        REFUSED._replace(outcome="aborted", code=None),
    )
    written: list[str] = []
    observer = LineObserver(written.append, form, journald=journald)
    with_listener = OutcomeLog(lambda: 1e9).ended_with_listener
    for log, told in (
        (log_outcome, observer.ended),
        (with_listener, observer.ended_with_listener),
    ):
        for ended in ends:
            with observing(observer):
                log(ended)
            told(ended)
    time = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?Z")
    lines = [time.sub("TIME", line) for line in written]
    assert lines[::2] == lines[1::2]
    assert all(line.count("TIME") == line.count("\n") == 1 for line in lines)


def test_ends_and_the_rest_are_in_order() -> None:
    """Lines of uploads and other lines are written in order."""
    clock, written = Clock(), list[str]()
    observer = LineObserver(written.append, clock=clock)
    observer.ended(STORED)
    with observing(observer):
        Logger().error("wrong")
    observer.ended(REFUSED)
    clock.advance(0)
    lines = "".join(written).splitlines()
    assert [line[21:] for line in lines] == [str(STORED), "ERROR wrong", str(REFUSED)]


def test_the_rest_is_written_at_once() -> None:
    """Any other line is written at once, after those before it."""
    clock, written = Clock(), list[str]()
    observer = LineObserver(written.append, clock=clock)
    with observing(observer):
        log_outcome(STORED)
        Logger().error("wrong")
    (text,) = written
    assert [line[21:] for line in text.splitlines()] == [str(STORED), "ERROR wrong"]


def test_nothing_is_held_back_at_the_end() -> None:
    """Flushing at the end writes the rest."""
    written: list[str] = []
    observer = LineObserver(written.append, clock=Clock())
    with observing(observer):
        log_outcome(STORED)
    observer.flush()
    observer.flush()
    assert len(written) == 1


@pytest.mark.parametrize("form", [LogFormat.TEXT, LogFormat.JSON])
@pytest.mark.parametrize("journald", [False, True])
def test_loud(form: LogFormat, journald: bool) -> None:
    """A line at warning level or above is recognised, whatever its text."""
    written = Written(form, journald=journald)
    written.ended(STORED, REFUSED)
    for level in (LogLevel.info, LogLevel.warn, LogLevel.error, LogLevel.critical):
        written.log.emit(level, '2026-01-01T00:00:00Z ERROR "level": "error"')
    assert [*map(is_loud, written.lines)] == [False, False, False, True, True, True]


# journald


@pytest.mark.parametrize("form", [LogFormat.TEXT, LogFormat.JSON])
def test_priorities(form: LogFormat) -> None:
    """journald receives the priority of each line: an upload that was not stored is a notice."""
    written = Written(form, journald=True)
    written.ended(STORED, REFUSED, REFUSED._replace(outcome="aborted", code=None))
    for level in (LogLevel.info, LogLevel.warn, LogLevel.error, LogLevel.critical):
        written.log.emit(level, "words")
    assert [line[:3] for line in written.lines] == [
        *("<6>", "<5>", "<5>"),
        *("<6>", "<4>", "<3>", "<2>"),
    ]


def test_priority_of_each_line() -> None:
    """Each line of a traceback is an entry for journald, with the priority of the first."""
    written = Written(LogFormat.TEXT, journald=True)
    written.log.failure("it broke", broken())
    assert len(written.lines) > 2
    assert all(line.startswith("<2>") for line in written.lines)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The two ends of a pipe."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_which_stream_is_journald(pipe: tuple[int, int], tmp_path: Path) -> None:
    """Only the stream that systemd connected counts; a file that it was redirected to does not."""
    stat = os.fstat(pipe[1])
    environment = {"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}
    assert is_journald(pipe[1], environment)
    assert not is_journald(pipe[1], {})
    with (tmp_path / "log").open("w") as file:
        assert not is_journald(file.fileno(), environment)


# Where it goes


def test_syslog() -> None:
    """syslog receives the priority of each line, and no characters that it cannot handle."""
    sent: list[tuple[int, str]] = []
    sink = to_syslog("upload", lambda priority, line: sent.append((priority, line)))
    observer = LineObserver(sink, journald=True)
    publisher = LogPublisher()
    publisher.addObserver(observer)
    log = Logger(observer=publisher)
    log.info("words")
    log.error("上传 \0 \u2028 \udc80")
    log.failure("it broke", broken())
    assert [(priority, line[21:]) for priority, line in sent[:2]] == [
        (6, "words"),
        (3, "ERROR 上传 \\x00 \u2028 \\udc80"),
    ]
    assert len(sent) > 3
    assert all(priority == 2 for priority, _ in sent[2:])


@pytest.mark.parametrize("line", ["printed", "", "<", "<x>", "<9>9", "6"])
def test_syslog_without_a_priority(line: str) -> None:
    """A line without a priority is sent whole, and so are those after it."""
    sent: list[tuple[int, str]] = []
    sink = to_syslog("upload", lambda priority, line: sent.append((priority, line)))
    sink(f"<4>one\n{line}\n<3>other\n")
    assert sent == [(4, "one"), (6, line), (3, "other")]


@pytest.mark.parametrize("workers", ["--workers=1", "--workers=2"])
def test_syslog_of_the_daemon(tmp_path: Path, workers: str) -> None:
    """With --syslog, lines go to syslog only, including those of workers."""
    (tmp_path / "sitecustomize.py").write_text(
        "import syslog\n"
        "def send(priority, line):\n"
        "    with open('daemon.log', 'a') as log: log.write(f'{priority} {line}\\n')\n"
        "syslog.syslog = send\n"
    )
    environment = {"PYTHONPATH": str(tmp_path)}
    daemon = Daemon(
        tmp_path, workers, general=["--syslog"], environment=environment, output=subprocess.DEVNULL
    )
    with daemon:
        assert daemon.send(b"content") == SUCCESS
        assert re.match(r"6 \S+Z stored ", daemon.wait_for_line("stored "))


def test_no_reader() -> None:
    """A closed pipe raises no error."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        LineObserver(unbuffered(stream)).write("words\n")


def test_non_blocking_stream(pipe: tuple[int, int]) -> None:
    """A stream that another program has made non-blocking gets every byte."""
    os.set_blocking(pipe[1], False)
    text = "x" * 200_000 + "\n"
    with os.fdopen(os.dup(pipe[1]), "w") as stream:
        writing = threading.Thread(target=unbuffered(stream), args=[text])
        writing.start()
        received = b""
        while len(received) < len(text):
            received += os.read(pipe[0], 65536)
        writing.join()
    assert received.decode() == text


def test_all_characters(tmp_path: Path) -> None:
    """What cannot be encoded is escaped."""
    with (tmp_path / "log").open("w") as file:
        unbuffered(file)("上传成功 \udc80\n")
    assert (tmp_path / "log").read_text("utf-8") == "上传成功 \\udc80\n"
