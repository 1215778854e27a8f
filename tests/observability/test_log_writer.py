"""
Writing the log while it cannot be written.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from tests.support.daemon import PATIENCE, wait_until
from twisted_upload.observability.log_writer import GATHER_INTERVAL, IDLE_CHECKS, LogWriter


class Stuck:
    """
    A sink that blocks until it is released.

    :ivar text: what it has written.
    :ivar entered: the number of calls.
    """

    def __init__(self) -> None:
        self.text = ""
        self.entered = 0
        self._released = threading.Event()

    def __call__(self, text: str) -> None:
        self.entered += 1
        assert self._released.wait(PATIENCE)
        self.text += text

    def release(self) -> None:
        """Write everything from now on."""
        self._released.set()

    @property
    def lines(self) -> list[str]:
        """The lines that it has written."""
        return self.text.splitlines()


@contextlib.contextmanager
def writing(sink: Stuck, most: int = 100, most_loud: int = 150) -> Iterator[LogWriter]:
    """Run a writer that has begun and is blocked by its first line."""
    writer = LogWriter(
        sink,
        lambda lines: f"{lines} missing\n",
        lambda line: line.startswith("!"),
        most=most,
        most_loud=most_loud,
    )
    writer.begin()
    try:
        writer.write("first\n")
        wait_until(lambda: sink.entered, "the first line to be written")
        yield writer
    finally:
        sink.release()
        writer.stop()


@pytest.fixture
def sink() -> Stuck:
    return Stuck()


def test_writing_does_not_block(sink: Stuck) -> None:
    """While the sink is stalled, lines are accepted; they are written in order when it can."""
    with writing(sink) as writer:
        for number in range(10):
            writer.write(f"{number}\n")
        assert sink.text == ""
        sink.release()
        writer.finish(PATIENCE)
        assert sink.lines == ["first", *map(str, range(10))]


def test_bound(sink: Stuck) -> None:
    """Lines beyond the limit are dropped; their number is written where they are missing."""
    with writing(sink, most=100) as writer:
        for _ in range(100):
            writer.write("123456789\n123456789\n")
        assert sink.text == ""
        sink.release()
        wait_until(lambda: "missing" in sink.text, "the count")
        writer.write("more\n")
        writer.finish(PATIENCE)
        assert sink.lines == ["first", *["123456789"] * 10, "190 missing", "more"]


def test_count_is_written_once(sink: Stuck) -> None:
    """Lines that were reported missing are not counted again."""
    with writing(sink, most=10) as writer:
        writer.write("x" * 20 + "\n")
        writer.write("fits\n")
        sink.release()
        writer.finish(PATIENCE)
        writer.write("more\n")
        assert sink.lines == ["first", "fits", "1 missing", "more"]


def test_loud_lines_come_first(sink: Stuck) -> None:
    """There is space for warnings and errors when there is none for other lines."""
    with writing(sink, most=20, most_loud=60) as writer:
        writer.write("x" * 19 + "\n")
        writer.write("quiet\n!loud\n\tgoes on\nquiet\n\tgoes on\n")
        writer.write("!" * 60 + "\n")
        sink.release()
        writer.finish(PATIENCE)
        assert sink.lines == ["first", "x" * 19, "!loud", "\tgoes on", "4 missing"]


def test_the_end_is_bounded(sink: Stuck) -> None:
    """The end waits for a stalled sink, but for a limited time in total."""
    with writing(sink) as writer:
        began = time.monotonic()
        writer.finish(0.2)
        for _ in range(100):
            writer.write("last\n")
        took = time.monotonic() - began
        assert 0.2 <= took < PATIENCE / 2
        assert sink.text == ""


def test_lines_in_quick_succession() -> None:
    """
    After writing, the thread looks for more lines a few times, and then waits until it is
    woken: callers rarely have to wake it.
    """
    lines, pauses = SimpleQueue[str](), SimpleQueue[float]()
    more = ["third\n", "second\n"]

    def pause(seconds: float) -> None:
        pauses.put(seconds)
        if more:
            writer.write(more.pop())

    writer = LogWriter(lines.put, str, bool, pause=pause)
    writer.begin()
    writer.write("first\n")
    assert [lines.get(timeout=PATIENCE) for _ in range(3)] == ["first\n", "second\n", "third\n"]
    assert [pauses.get(timeout=PATIENCE) for _ in range(3 + IDLE_CHECKS)] == [GATHER_INTERVAL] * (
        3 + IDLE_CHECKS
    )
    writer.write("fourth\n")
    assert lines.get(timeout=PATIENCE) == "fourth\n"
    writer.stop()


def test_last_lines(sink: Stuck) -> None:
    """At the end, every line is written before it continues."""
    sink.release()
    with writing(sink) as writer:
        writer.finish(PATIENCE)
        for number in range(10):
            writer.write(f"{number}\n")
            assert sink.lines[-1] == str(number)


def test_sink_fails() -> None:
    """Lines that the sink does not write count as missing, and writing continues."""
    fail = [True]

    class Failing(Stuck):
        def __call__(self, text: str) -> None:
            super().__call__(text)
            if fail[0]:
                self.text = ""
                raise OSError("no space")

    failing = Failing()
    failing.release()
    with writing(failing) as writer:
        writer.finish(PATIENCE)
        writer.write("lost\nlost\n")
        fail[0] = False
        writer.write("more\n")
        assert failing.lines == ["more", "3 missing"]


def test_order_of_actions(sink: Stuck) -> None:
    """An action on the file runs between lines, and once however often it is requested."""
    done: list[str] = []

    def rotate() -> None:
        done.append(sink.text)

    with writing(sink) as writer:
        writer.write("before\n")
        for _ in range(1000):
            writer.do(rotate)
        writer.write("after\n")
        sink.release()
        writer.finish(PATIENCE)
        assert done == ["first\nbefore\n"]
        assert sink.lines == ["first", "before", "after"]
        writer.do(rotate)
        assert done[1:] == ["first\nbefore\nafter\n"]


def test_before_it_begins() -> None:
    """Before the thread starts, everything is done at once, as it must be before a fork."""
    written: list[str] = []
    writer = LogWriter(written.append, str, bool)
    writer.write("x\n")
    writer.do(lambda: written.append("done"))
    writer.finish(1)
    assert written == ["x\n", "done"]


def test_action_fails(sink: Stuck, expected_errors: list[str]) -> None:
    """However an action fails, the lines after it are written."""

    expected_errors.append("AttributeError: closed")

    def fail() -> None:
        raise AttributeError("closed")

    sink.release()
    with writing(sink) as writer:
        writer.do(fail)
        writer.write("after\n")
        writer.finish(PATIENCE)
        assert sink.lines == ["first", "after"]


def test_thread_does_not_wait_for_itself(sink: Stuck) -> None:
    """An action may write lines, even at the end while other threads wait."""
    took: list[float] = []

    def tell() -> None:
        began = time.monotonic()
        writer.write("told\n")
        took.append(time.monotonic() - began)

    with writing(sink) as writer:
        writer.do(tell)
        threading.Timer(0.05, sink.release).start()
        writer.finish(PATIENCE)
        assert sink.lines == ["first", "told"]
        assert took[0] < PATIENCE / 4


class Interrupted(str):
    """A text whose length raises a signal when it is asked for."""

    __slots__ = ()

    def __len__(self) -> int:
        signal.raise_signal(signal.SIGALRM)
        return super().__len__()


def test_handler_of_a_signal(sink: Stuck) -> None:
    """A signal handler may log, whatever its thread is doing, as Twisted's do."""
    with writing(sink) as writer:
        before = signal.signal(signal.SIGALRM, lambda *_: writer.write("signal\n"))
        try:
            writer.write(Interrupted("interrupted\n"))
        finally:
            signal.signal(signal.SIGALRM, before)
        sink.release()
        writer.finish(PATIENCE)
        assert sorted(sink.lines) == ["first", "interrupted", *["signal"] * 2]


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "raise RuntimeError"])
def test_end_of_the_process(end: str) -> None:
    """Lines that were logged before a process ended, normally or by an error, have been written."""
    code = (
        "import os; from twisted_upload.observability.log_writer import LogWriter;"
        "writer = LogWriter(lambda text: os.write(1, text.encode()), str, bool); writer.begin();"
        f"[writer.write(f'{{n}}\\n') for n in range(1000)]\n{end}"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines() == [str(n) for n in range(1000)]
