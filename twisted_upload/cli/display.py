"""The output of the command: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from twisted_upload.cli.batch import Result
from twisted_upload.cli.streams import PROGRAM, Output
from twisted_upload.core.text import format_duration, format_size, printable
from twisted_upload.interfaces import Receipt

if TYPE_CHECKING:
    from rich.progress import Progress, Task, TaskID
    from rich.text import Text

__all__ = ["Bars", "Display"]

FRAME = 0.1
"""Seconds between two drawings of the progress bars."""


class Display:
    """
    Shows the progress of a batch.

    :param answer: the answer of success; with it, a line repeats the answer of the server
        instead of saying in English what has happened.
    :param sha256: whether a line also says the SHA-256 of what is stored.
    :param as_json: print one object per file on ``out`` instead of a line of text.
    :param quiet: print nothing about successes; with ``as_json``, only the objects.
    :param bars: if there is a terminal to draw them on.
    """

    def __init__(
        self,
        out: Output,
        err: Output,
        *,
        files: int,
        where: str,
        answer: str | None = None,
        sha256: bool = False,
        as_json: bool = False,
        quiet: bool = False,
        bars: Bars | None = None,
    ) -> None:
        self._out = out
        self._err = err
        self._files = files
        self._where = printable(where)
        self._answer = answer
        self._sha256 = sha256
        self._as_json = as_json
        self._quiet = quiet
        self._bars = bars
        self._over_bars = bars is not None and out.is_same_terminal_as(err)

    # Watcher

    def began(self, index: int, file: str) -> None:
        """Add a bar for a file that is about to be sent."""
        if self._bars is not None:
            count = f"{index + 1}/{self._files} " if self._files > 1 else ""
            self._bars.add(index, count + printable(file))

    def progress(self, index: int, sent: int, total: int | None) -> None:
        """Update the bar of a file."""
        if self._bars is not None:
            note = "waiting for confirmation" if sent == total else ""
            self._bars.set(index, sent, total, note)

    def retrying(self, result: Result, delay: float, limit: int) -> None:
        """Report that a file will be retried."""
        if self._bars is not None:
            self._bars.set(result.index, 0, None, "waiting to retry")
        if not self._quiet:
            self.say(
                f"{self._about(result)}; retrying in {format_duration(delay)}"
                f" ({result.attempts} of {limit})"
            )

    def ended(self, result: Result) -> None:
        """Report the result of a file."""
        if self._bars is not None:
            self._bars.remove(result.index)
        if self._as_json:
            self._result(json.dumps(result.to_json()))
        elif result.receipt is not None and not self._quiet:
            self._result(f"{_name(result.file)}: {self._success(result.receipt)}")
        if result.error is not None and not result.cancelled and not self._json_only:
            self.say(self._about(result))

    # The rest

    def say(self, text: str) -> None:
        """Tell the user something that is not a result."""
        text = printable(f"{PROGRAM}: {text}")
        if self._bars is not None and self._bars.print_above(text):
            return
        self._err.line(text)

    def interrupted(self, results: list[Result]) -> None:
        """Report in one line the outcome of the files so far."""
        if self._json_only:
            return
        kept = sum(result.outcome == "stored" for result in results)
        parts = [f"{kept} of {self._files} stored"] if kept else []
        unknown = [_name(result.file) for result in results if result.outcome == "unknown"]
        if unknown:
            parts.append(f"may or may not be stored: {', '.join(unknown)}")
        self.say(f"interrupted: {'; '.join(parts) or 'nothing stored'}")

    def close(self) -> None:
        """Restore the terminal."""
        if self._bars is not None:
            self._bars.close()

    @property
    def _json_only(self) -> bool:
        return self._as_json and self._quiet

    def _result(self, line: str) -> None:
        if self._over_bars and self._bars is not None and self._bars.print_above(line):
            return
        self._out.line(line)

    def _success(self, receipt: Receipt) -> str:
        if self._answer is not None:
            words = [self._answer, receipt.sha256]
            if receipt.name:
                words[1:1] = [receipt.name, str(receipt.size)]
            return " ".join(filter(None, words))
        text = f"stored as {printable(receipt.name)}" if receipt.name else "stored"
        if self._sha256 and receipt.sha256:
            text += f", SHA-256 {receipt.sha256}"
        return text

    def _about(self, result: Result) -> str:
        text = result.error
        if result.outcome == "refused":
            text = f"refused: {result.code}: {result.error}"
        elif result.outcome == "unknown":
            text = f"may or may not be stored: {result.error}"
        elif result.code == "could-not-connect":
            text = f"could not connect to {self._where}: {result.error}"
        elif result.code in ("connection-lost", "timed-out", "changed"):
            text = f"not stored: {result.error}"
        return f"{_name(result.file)}: {text}"


def _name(file: str) -> str:
    return printable(file) or "''"


@dataclass(slots=True)
class _Line:
    """What one bar shows."""

    name: str
    sent: int = 0
    total: int | None = None
    note: str = ""


class Bars:
    """
    A progress bar for each file that is being sent, drawn by rich.

    The bars appear with the first `FRAME`, so a faster upload shows none, and does not
    wait for the import of rich, which takes half as long as everything else that a
    small file takes.  They are drawn in the reactor thread: rich's own thread would
    draw at any moment.
    """

    def __init__(self, clock: IReactorTime, err: Output) -> None:
        self._err = err
        self._lines: dict[int, _Line] = {}
        self._tasks: dict[int, TaskID] = {}
        self._progress: Progress | None = None
        self._frames = LoopingCall(self._draw)
        self._frames.clock = clock
        self._frames.start(FRAME, now=False)

    def add(self, index: int, name: str) -> None:
        """Add a bar for a file."""
        self._lines[index] = _Line(name)

    def set(self, index: int, sent: int, total: int | None, note: str) -> None:
        """
        Set the progress of a file.

        :param note: shown in place of the time left.
        """
        line = self._lines.get(index)
        if line is not None:
            line.sent, line.note = sent, note
            line.total = line.total if total is None else total

    def remove(self, index: int) -> None:
        """Remove the bar of a file."""
        self._lines.pop(index, None)
        task = self._tasks.pop(index, None)
        if self._progress is not None and task is not None:
            self._progress.remove_task(task)

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

    def _draw(self) -> None:
        begins = self._progress is None
        progress = self._progress = self._progress or _rich_progress(self._err)
        try:
            for index, line in self._lines.items():
                if index not in self._tasks:
                    self._tasks[index] = progress.add_task(line.name, total=None, note="")
                progress.update(
                    self._tasks[index], completed=line.sent, total=line.total, note=line.note
                )
            if begins:
                progress.start()
            progress.refresh()
        except OSError as error:
            self._err.give_up(error)
            self._frames.stop()


def _plain(text: str) -> Text:
    """Wrap a text for rich, which parses a str for markup, emoji codes and more."""
    from rich.text import Text  # noqa: PLC0415 - as below

    return Text(text)


def _rich_progress(err: Output) -> Progress:
    # Imported here, because it is slow.
    from rich.console import Console, RenderableType  # noqa: PLC0415
    from rich.constrain import Constrain  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415
    from rich.text import Text as RichText  # noqa: PLC0415

    console = Console(
        file=err.stream,
        force_terminal=True,
        force_interactive=True,
        markup=False,
        emoji=False,
        highlight=False,
    )

    class Amount(ProgressColumn):
        """How much has been sent, and how fast."""

        def render(self, task: Task) -> Text:
            text = format_size(task.completed)
            if task.fields["note"]:
                return RichText(text)
            if task.total is not None:
                text += f" of {format_size(task.total)}"
            if task.speed:
                text += f", {format_size(task.speed)}/s"
            return RichText(text)

    class Left(TimeRemainingColumn):
        """The time left, or the note."""

        def render(self, task: Task) -> Text:
            note = task.fields["note"]
            return RichText(note) if note else super().render(task)

    class Narrower(RichProgress):
        """Leaves room for the ^C that a terminal echoes: a wrapped line would move the bars."""

        def get_renderables(self) -> Iterable[RenderableType]:
            width = max(1, console.width - 3)
            return [Constrain(self.make_tasks_table(self.tasks), width)]

    whole: dict[str, Any] = {"no_wrap": True}
    return Narrower(
        TextColumn(
            "{task.description}",
            markup=False,
            table_column=Column(overflow="ellipsis", ratio=2, min_width=10, **whole),
        ),
        BarColumn(bar_width=None, table_column=Column(ratio=2)),
        Amount(table_column=Column(**whole)),
        Left(compact=True, table_column=Column(**whole)),
        console=console,
        auto_refresh=False,
        transient=True,
        expand=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
