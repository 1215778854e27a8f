"""
Progress bars on terminals of all widths.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from twisted.internet.task import Clock

from twisted_upload.cli.bars import (
    FRAME,
    WAITING_FOR_ANSWER,
    WAITING_TO_RETRY,
    Bars,
    Widths,
    shown_name,
)
from twisted_upload.cli.streams import Output

MIB = 1024 * 1024


class Screen:
    """Bars on a terminal of this size, with a fake clock."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        columns: int,
        lines: int = 24,
        *,
        count: int = 1,
        size: int | None = None,
    ) -> None:
        for name, value in {"COLUMNS": columns, "LINES": lines, "TERM": "xterm"}.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setenv("NO_COLOR", "1")
        self.clock = Clock()
        self.out = io.StringIO()
        self.bars = Bars(self.clock, Output(self.out), count=count, size=size)

    def frame(self) -> list[str]:
        """Draw, and return the lines that are seen."""
        self.out.seek(0)
        self.out.truncate()
        self.clock.advance(FRAME)
        drawn = self.out.getvalue().rpartition("\x1b[2K")[2]  # after the last erased line
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", drawn)
        return [line.rstrip() for line in text.splitlines() if line.strip()]


@pytest.fixture(params=[10, 20, 30, 40, 50, 60, 80, 120, 200])
def columns(request: pytest.FixtureRequest) -> int:
    """The width of a terminal."""
    width: int = request.param
    return width


def test_name(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    """However narrow the terminal is, the name is there, and no line is wrapped."""
    screen = Screen(monkeypatch, columns, count=2, size=400 * MIB)
    screen.bars.add(0, "photos/2026/07/a.jpg")
    screen.bars.set(0, 190 * MIB, 200 * MIB)
    first, total = screen.frame()
    name = first.split()[0]
    assert "photos/2026/07/a.jpg".endswith(name.removeprefix("…"))
    assert len(name) >= min(20, max(1, columns - 21))
    assert max(len(first), len(total)) <= columns - 3
    assert total.startswith(("0 of 2", "…"))
    screen.bars.close()


@pytest.mark.parametrize("note", [WAITING_FOR_ANSWER, WAITING_TO_RETRY])
def test_notes(monkeypatch: pytest.MonkeyPatch, columns: int, note: object) -> None:
    """A note is shown whole, or its short form is."""
    screen = Screen(monkeypatch, columns)
    screen.bars.add(0, "a.jpg")
    screen.bars.set(0, 5, 5, note)  # type: ignore[arg-type]
    (line,) = screen.frame()
    assert line.endswith((WAITING_FOR_ANSWER.text, WAITING_TO_RETRY.text) if columns > 50 else
                         (WAITING_FOR_ANSWER.short, WAITING_TO_RETRY.short))  # fmt: skip
    screen.bars.close()


def test_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 40 columns: name, percentage and time left."""
    screen = Screen(monkeypatch, 40)
    screen.bars.add(0, "photo.jpg")
    for sent in range(0, 100, 10):
        screen.bars.set(0, sent * MIB, 100 * MIB)
        (line,) = screen.frame()
    assert re.fullmatch(r"photo\.jpg +90% +\d\d:\d\d", line)
    screen.bars.set(0, 5 * MIB, None)
    screen.bars.close()


def test_unknown_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a pipe, what has been sent is shown."""
    for columns in (40, 60, 90):
        screen = Screen(monkeypatch, columns, count=2)
        screen.bars.add(0, "-")
        screen.bars.set(0, 5 * MIB, None)
        line, total = screen.frame()
        assert re.match(r"-.* 5\.0 MiB$", line)
        assert re.match(r"0 of 2.* 5\.0 MiB$", total)
        screen.bars.close()


def test_total(monkeypatch: pytest.MonkeyPatch) -> None:
    """The total comes last, and has what ended and what is being sent."""
    screen = Screen(monkeypatch, 90, count=4, size=400 * MIB)
    for index in range(3):
        screen.bars.add(index, f"{index}.jpg")
        screen.bars.set(index, 50 * MIB, 100 * MIB)
    assert "150.0 MiB of 400.0 MiB" in screen.frame()[-1]
    screen.bars.remove(1, 100 * MIB)
    screen.bars.remove(2, None)  # a pipe
    screen.bars.add(3, "3.jpg")
    first, second, total = screen.frame()
    assert (first[:5], second[:5], total[:6]) == ("0.jpg", "3.jpg", "2 of 4")
    assert "200.0 MiB of 400.0 MiB" in total
    screen.bars.close()


def test_no_total(monkeypatch: pytest.MonkeyPatch) -> None:
    """One file has no total."""
    screen = Screen(monkeypatch, 90)
    screen.bars.add(0, "a.jpg")
    assert len(screen.frame()) == 1
    screen.bars.close()


def test_more_files_than_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the terminal has too few lines, the total is still there."""
    screen = Screen(monkeypatch, 90, 10, count=100, size=100)
    for index in range(50):
        screen.bars.add(index, f"{index}.jpg")
    assert [line.split()[0] for line in screen.frame()] == [
        *(f"{index}.jpg" for index in range(8)),
        "0",
    ]
    for index in range(8):
        screen.bars.remove(index, 1)
    assert [line.split()[0] for line in screen.frame()] == [
        *(f"{index}.jpg" for index in range(8, 16)),
        "8",
    ]
    screen.bars.close()


def test_widths() -> None:
    """The columns of a line and the spaces between them never exceed the terminal."""
    for width in range(5, 300):
        widths = Widths.of(width)
        columns = [widths.name, widths.bar, widths.amount or 7, widths.left]
        columns = [one for one in columns if one]
        assert widths.name >= 1
        if width >= 9:
            assert sum(columns) + len(columns) - 1 <= width


@pytest.mark.parametrize(
    ("name", "width", "shown"),
    [
        ("a.jpg", 5, "a.jpg"),
        ("photos/a.jpg", 8, "…s/a.jpg"),
        ("照片照片.jpg", 8, "…片.jpg"),
        ("abc", 1, "…"),
    ],
)
def test_shortened_name(name: str, width: int, shown: str) -> None:
    """Of a name that is too long, the end is shown; wide characters take two columns."""
    assert shown_name(name, width) == shown
    assert cell_len(shown) <= width


def test_broken_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that is gone does not stop anything."""
    screen = Screen(monkeypatch, 90)
    with Path("/dev/full").open("w") as broken:
        bars = Bars(screen.clock, output := Output(broken))
        bars.add(0, "a.jpg")
        screen.clock.advance(FRAME)
        assert output.stream is None
        bars.close()
    screen.bars.close()
