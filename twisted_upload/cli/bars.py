"""Progress bars: one for each file that is being sent, and one for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from twisted_upload.cli.streams import Output
from twisted_upload.core.text import format_size

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import Progress, Task, TaskID
    from rich.text import Text

__all__ = ["FRAME", "WAITING_FOR_ANSWER", "WAITING_TO_RETRY", "Bars", "Note", "Widths"]

FRAME = 0.1
"""Seconds between two drawings of the progress bars."""

PERCENTAGE = len("9.9 MiB")
"""Columns of a percentage, and of what is there in its place."""

_TOTAL = -1
_SPEED_SECONDS = 10.0  # over which a rate is averaged, so that the time left is readable


@dataclass(frozen=True, slots=True)
class Note:
    """What is shown in place of amounts: for wide terminals, and for narrow ones."""

    text: str
    short: str


WAITING_FOR_ANSWER = Note("waiting for confirmation", "waiting")
WAITING_TO_RETRY = Note("waiting to retry", "retry")


@dataclass(frozen=True, slots=True)
class Widths:
    """
    How the columns of a terminal are shared; each column but the first has one space before
    it.  A name is always there, whatever else has no room.

    :ivar name: of the names.
    :ivar bar: of the bars; 0 for none.
    :ivar amount: of the amounts; 0 for a percentage.
    :ivar left: of the time left; 0 for none.
    """

    name: int
    bar: int = 0
    amount: int = 0
    left: int = 0

    @classmethod
    def of(cls, width: int) -> Widths:
        """Share this many columns."""
        if width >= 72:
            amount = len("1000.0 MiB of 1000.0 MiB, 1000.0 MiB/s")
            left = len("0:00:00")
            rest = width - amount - left - 3
            bar = max(8, min(rest - 30, rest * 2 // 5))
            return cls(rest - bar, bar, amount, left)
        amount, left = len("waiting for confirmation"), len("00:00")
        if width >= 48:
            return cls(width - amount - left - 2, 0, amount, left)
        if width >= 24:
            return cls(width - PERCENTAGE - left - 2, 0, 0, left)
        return cls(max(1, width - PERCENTAGE - 1))


@dataclass(slots=True)
class _Line:
    """What one bar shows."""

    name: str
    sent: int = 0
    total: int | None = None
    note: Note | None = None


class Bars:
    """
    Draws the bars, with rich.

    They appear with the first `FRAME`, so a faster upload shows none, and does not wait
    for the import of rich, which takes half as long as everything else that a small file
    takes.  They are drawn in the reactor thread: rich's own thread would draw at any
    moment.

    :param count: number of files; more than one have a bar for all of them.
    :param size: of all files together, in bytes; `None` if it is unknown.
    """

    def __init__(
        self, clock: IReactorTime, err: Output, *, count: int = 1, size: int | None = None
    ) -> None:
        self._err = err
        self._count = count
        self._ended = 0
        self._passed = 0  # bytes of those that have ended
        self._size = size
        self._lines: dict[int, _Line] = {}
        self._tasks: dict[int, TaskID] = {}
        self._progress: Progress | None = None
        self._frames = LoopingCall(self._draw)
        self._frames.clock = clock
        self._frames.start(FRAME, now=False)

    def add(self, index: int, name: str) -> None:
        """Add a bar for a file."""
        self._lines[index] = _Line(name)

    def set(self, index: int, sent: int, total: int | None, note: Note | None = None) -> None:
        """
        Set the progress of a file.

        :param note: shown in place of the time left.
        """
        line = self._lines.get(index)
        if line is not None:
            line.sent, line.note = sent, note
            line.total = line.total if total is None else total

    def remove(self, index: int, size: int | None) -> None:
        """
        Remove the bar of a file.

        :param size: of that file, if it is known: the total advances by as much, whatever
            became of it.
        """
        line = self._lines.pop(index, None)
        if line is not None and size is None:
            size = line.sent
        self._ended += 1
        self._passed += size or 0
        self._forget(index)

    def print_above(self, text: str) -> bool:
        """Print a line that stays; return false if there are no bars to print it above."""
        if self._progress is None:
            return False
        try:
            self._progress.console.print(_plain(text), soft_wrap=True)
        except OSError as error:
            self._err.give_up(error)
        return True

    def close(self) -> None:
        """Erase the bars."""
        if self._frames.running:
            self._frames.stop()
        if self._progress is not None:
            progress, self._progress = self._progress, None
            try:
                progress.stop()
            except OSError as error:
                self._err.give_up(error)

    def _forget(self, index: int) -> None:
        task = self._tasks.pop(index, None)
        if self._progress is not None and task is not None:
            self._progress.remove_task(task)

    def _draw(self) -> None:
        begins = self._progress is None
        progress = self._progress = self._progress or _rich_progress(self._err)
        try:
            self._update(progress)
            if begins:
                progress.start()
            progress.refresh()
        except OSError as error:
            self._err.give_up(error)
            self._frames.stop()
            self._progress = None  # it cannot be closed either

    def _update(self, progress: Progress) -> None:
        lines = self._visible(progress.console.height)
        for index in [*self._tasks]:
            if index not in lines and index != _TOTAL:
                self._forget(index)
        for index, line in lines.items():
            if index not in self._tasks:
                # rich shows them in this order; the total comes last.
                self._forget(_TOTAL) if index != _TOTAL else None
                self._tasks[index] = progress.add_task(line.name, total=None, note=None)
            progress.update(
                self._tasks[index],
                description=line.name,
                completed=line.sent,
                total=line.total,
                note=line.note,
            )

    def _visible(self, height: int) -> dict[int, _Line]:
        """Return the lines that a terminal has room for."""
        if self._count == 1:
            return self._lines
        first = max(1, height - 2)  # for the total and the cursor
        lines = dict([*self._lines.items()][:first])
        sent = self._passed + sum(line.sent for line in self._lines.values())
        lines[_TOTAL] = _Line(f"{self._ended} of {self._count}", sent, self._size)
        return lines


def _plain(text: str) -> Text:
    """Wrap a text for rich, which parses a str for markup, emoji codes and more."""
    from rich.text import Text  # noqa: PLC0415 - as below

    return Text(text)


def _rich_progress(err: Output) -> Progress:
    # Imported here, because it is slow.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress as RichProgress  # noqa: PLC0415

    console = Console(
        file=err.stream,
        force_terminal=True,
        force_interactive=True,
        markup=False,
        emoji=False,
        highlight=False,
    )

    class Lines(RichProgress):
        """One line for each task; names are never left out."""

        def get_renderables(self) -> Iterable[RenderableType]:
            # Room for the ^C that a terminal echoes: a wrapped line would move the bars.
            yield _table(self.tasks, Widths.of(max(1, console.width - 3)))

    return Lines(
        console=console,
        auto_refresh=False,
        transient=True,
        speed_estimate_period=_SPEED_SECONDS,
        redirect_stdout=False,
        redirect_stderr=False,
    )


def _table(tasks: Iterable[Task], widths: Widths) -> RenderableType:
    from rich.progress_bar import ProgressBar  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table.grid(padding=(0, 1, 0, 0), pad_edge=False)
    columns = [widths.name, widths.bar, widths.amount or PERCENTAGE, widths.left]
    for width in filter(None, columns):
        table.add_column(width=width, no_wrap=True)
    for task in tasks:
        row: list[Any] = [_plain(shown_name(task.description, widths.name))]
        if widths.bar:
            row.append(
                ProgressBar(
                    total=task.total,
                    completed=task.completed,
                    width=widths.bar,
                    pulse=task.total is None,
                    animation_time=task.get_time(),
                )
            )
        row.append(_plain(_amount(task, widths)))
        if widths.left:
            row.append(_plain(_left(task, widths)))
        table.add_row(*row)
    return table


def _amount(task: Task, widths: Widths) -> str:
    note: Note | None = task.fields["note"]
    sent = format_size(task.completed)
    if not widths.amount:
        if note is not None:
            return note.short
        return f"{task.percentage:3.0f}%" if task.total else sent
    if note is not None:
        return note.text if not widths.bar else f"{sent}, {note.text}"
    if task.total is not None:
        sent += f" of {format_size(task.total)}"
    if widths.bar and task.speed:
        sent += f", {format_size(task.speed)}/s"
    return sent


def _left(task: Task, widths: Widths) -> str:
    remaining = task.time_remaining
    if task.fields["note"] is not None or remaining is None or not task.total:
        return ""
    minutes, seconds = divmod(int(remaining), 60)
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{minutes:02}:{seconds:02}"
    return f"{hours}:{minutes:02}:{seconds:02}" if hours < 10 and widths.left > 6 else f"{hours} h"


def shown_name(name: str, width: int) -> str:
    """
    Return the part of a name that fits into so many columns: its end, because the
    beginnings of the names in a folder are all the same.
    """
    from rich.cells import cell_len  # noqa: PLC0415 - slow to import

    if cell_len(name) <= width:
        return name
    start = 0
    while start < len(name) and cell_len(name[start:]) > width - 1:
        start += 1
    return f"\N{HORIZONTAL ELLIPSIS}{name[start:]}"
