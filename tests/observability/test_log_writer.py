"""
Writing the log while nobody takes it.
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
    A sink that takes nothing until it is let.

    :ivar text: what it has taken.
    :ivar entered: how often it was given something.
    """

    def __init__(self) -> None:
        self.text = ""
        self.entered = 0
        self._let = threading.Event()

    def __call__(self, text: str) -> None:
        self.entered += 1
        assert self._let.wait(PATIENCE)
        self.text += text

    def let(self) -> None:
        """From now on it takes all."""
        self._let.set()

    @property
    def lines(self) -> list[str]:
        """What it has taken."""
        return self.text.splitlines()


@contextlib.contextmanager
def writing(sink: Stuck, most: int = 100, most_loud: int = 150) -> Iterator[LogWriter]:
    """A writer that has begun, and one line for which it waits."""
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
        sink.let()
        writer.stop()


@pytest.fixture
def sink() -> Stuck:
    return Stuck()


def test_nobody_waits(sink: Stuck) -> None:
    """While the sink stands still, lines are taken, and written in their order when it can."""
    with writing(sink) as writer:
        for number in range(10):
            writer.write(f"{number}\n")
        assert sink.text == ""
        sink.let()
        writer.finish(PATIENCE)
        assert sink.lines == ["first", *map(str, range(10))]


def test_bound(sink: Stuck) -> None:
    """What does not fit is dropped; how many lines stands where they are missing."""
    with writing(sink, most=100) as writer:
        for _ in range(100):
            writer.write("123456789\n123456789\n")
        assert sink.text == ""
        sink.let()
        wait_until(lambda: "missing" in sink.text, "the count")
        writer.write("more\n")
        writer.finish(PATIENCE)
        assert sink.lines == ["first", *["123456789"] * 10, "190 missing", "more"]


def test_count_is_told_once(sink: Stuck) -> None:
    """What has been told as missing is not counted again."""
    with writing(sink, most=10) as writer:
        writer.write("x" * 20 + "\n")
        writer.write("fits\n")
        sink.let()
        writer.finish(PATIENCE)
        writer.write("more\n")
        assert sink.lines == ["first", "fits", "1 missing", "more"]


def test_loud_lines_come_first(sink: Stuck) -> None:
    """There is room for lines that somebody should look at when there is none for others."""
    with writing(sink, most=20, most_loud=60) as writer:
        writer.write("x" * 19 + "\n")
        writer.write("quiet\n!loud\n\tgoes on\nquiet\n\tgoes on\n")
        writer.write("!" * 60 + "\n")
        sink.let()
        writer.finish(PATIENCE)
        assert sink.lines == ["first", "x" * 19, "!loud", "\tgoes on", "4 missing"]


def test_nobody_waits_for_ever_at_the_end(sink: Stuck) -> None:
    """The end waits for a sink that stands still, but only so long in all."""
    with writing(sink) as writer:
        began = time.monotonic()
        writer.finish(0.2)
        for _ in range(100):
            writer.write("last\n")
        took = time.monotonic() - began
        assert 0.2 <= took < PATIENCE / 2
        assert sink.text == ""


def test_lines_that_come_one_after_the_other() -> None:
    """
    After lines it looks a few times for others by itself, and then not before it is
    woken: whoever writes has to do that seldom.
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
    """At the end, every line is written before it goes on."""
    sink.let()
    with writing(sink) as writer:
        writer.finish(PATIENCE)
        for number in range(10):
            writer.write(f"{number}\n")
            assert sink.lines[-1] == str(number)


def test_sink_fails(sink: Stuck) -> None:
    """What the sink does not take is counted with what is missing, and writing goes on."""
    fail = [True]

    class Failing(Stuck):
        def __call__(self, text: str) -> None:
            super().__call__(text)
            if fail[0]:
                self.text = ""
                raise OSError("no space")

    failing = Failing()
    failing.let()
    with writing(failing) as writer:
        writer.finish(PATIENCE)
        writer.write("lost\nlost\n")
        fail[0] = False
        writer.write("more\n")
        assert failing.lines == ["more", "3 missing"]


def test_order_of_what_is_done(sink: Stuck) -> None:
    """What is to be done with the file is done between the lines, and once however often asked."""
    done: list[str] = []

    def rotate() -> None:
        done.append(sink.text)

    with writing(sink) as writer:
        writer.write("before\n")
        for _ in range(1000):
            writer.do(rotate)
        writer.write("after\n")
        sink.let()
        writer.finish(PATIENCE)
        assert done == ["first\nbefore\n"]
        assert sink.lines == ["first", "before", "after"]
        writer.do(rotate)
        assert done[1:] == ["first\nbefore\nafter\n"]


def test_before_it_begins() -> None:
    """Until then, all is written and done at once, as before a fork it must be."""
    written: list[str] = []
    writer = LogWriter(written.append, str, bool)
    writer.write("x\n")
    writer.do(lambda: written.append("done"))
    writer.finish(1)
    assert written == ["x\n", "done"]


def test_what_is_done_fails(sink: Stuck, expected_errors: list[str]) -> None:
    """Whatever is done between the lines, and however it fails, lines are written after it."""

    expected_errors.append("AttributeError: closed")

    def fail() -> None:
        raise AttributeError("closed")

    sink.let()
    with writing(sink) as writer:
        writer.do(fail)
        writer.write("after\n")
        writer.finish(PATIENCE)
        assert sink.lines == ["first", "after"]


def test_thread_does_not_wait_for_itself(sink: Stuck) -> None:
    """What is done between the lines may write some, at the end too, when others wait for it."""
    took: list[float] = []

    def tell() -> None:
        began = time.monotonic()
        writer.write("told\n")
        took.append(time.monotonic() - began)

    with writing(sink) as writer:
        writer.do(tell)
        threading.Timer(0.05, sink.let).start()
        writer.finish(PATIENCE)
        assert sink.lines == ["first", "told"]
        assert took[0] < PATIENCE / 4


class Interrupted(str):
    """A text; whoever asks how long it is, is interrupted by a signal."""

    __slots__ = ()

    def __len__(self) -> int:
        signal.raise_signal(signal.SIGALRM)
        return super().__len__()


def test_handler_of_a_signal(sink: Stuck) -> None:
    """A handler of a signal may log whatever its thread is doing, as Twisted's do."""
    with writing(sink) as writer:
        before = signal.signal(signal.SIGALRM, lambda *_: writer.write("signal\n"))
        try:
            writer.write(Interrupted("interrupted\n"))
        finally:
            signal.signal(signal.SIGALRM, before)
        sink.let()
        writer.finish(PATIENCE)
        assert sorted(sink.lines) == ["first", "interrupted", *["signal"] * 2]


@pytest.mark.parametrize("end", ["", "raise SystemExit(3)", "raise RuntimeError"])
def test_end_of_the_process(end: str) -> None:
    """What was logged before a process ended, by itself or by an error, has been written."""
    code = (
        "import os; from twisted_upload.observability.log_writer import LogWriter;"
        "writer = LogWriter(lambda text: os.write(1, text.encode()), str, bool); writer.begin();"
        f"[writer.write(f'{{n}}\\n') for n in range(1000)]\n{end}"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines() == [str(n) for n in range(1000)]
