"""The output of the command: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence

from twisted_upload.cli.bars import WAITING_FOR_ANSWER, WAITING_TO_RETRY, Bars
from twisted_upload.cli.folders import Skipped
from twisted_upload.cli.items import Item
from twisted_upload.cli.results import Result, skipped_json
from twisted_upload.cli.streams import PROGRAM, Output
from twisted_upload.core.text import format_duration, format_size, printable
from twisted_upload.interfaces import Receipt

__all__ = ["Display"]


class Display:
    """
    Shows the progress of a batch.

    :param items: what is sent.
    :param where: where to, for people.
    :param resumes: whether an interrupted upload goes on when it is sent again.
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
        items: Sequence[Item],
        where: str,
        resumes: bool = False,
        answer: str | None = None,
        sha256: bool = False,
        as_json: bool = False,
        quiet: bool = False,
        bars: Bars | None = None,
    ) -> None:
        self._out = out
        self._err = err
        self._items = items
        self._where = printable(where)
        self._resumes = resumes
        self._answer = answer
        self._sha256 = sha256
        self._as_json = as_json
        self._quiet = quiet
        self._bars = bars
        self._over_bars = bars is not None and out.is_same_terminal_as(err)

    # Watcher

    def began(self, index: int, item: Item) -> None:
        """Add a bar for an item that is about to be sent."""
        if self._bars is not None:
            self._bars.add(index, printable(item.file))

    def progress(self, index: int, sent: int, total: int | None) -> None:
        """Update the bar of a file."""
        if self._bars is not None:
            note = WAITING_FOR_ANSWER if sent == total else None
            self._bars.set(index, sent, total, note)

    def retrying(self, result: Result, delay: float, limit: int | None) -> None:
        """Report that a file will be retried."""
        if self._bars is not None:
            self._bars.set(result.index, 0, None, WAITING_TO_RETRY)
        if not self._quiet:
            text = f"{self._about(result)}; retrying in {format_duration(delay)}"
            self.say(text if limit is None else f"{text} ({result.effort.attempts} of {limit})")

    def ended(self, result: Result) -> None:
        """Report the result of a file."""
        if self._bars is not None:
            size = result.receipt.size if result.receipt else self._items[result.index].size
            self._bars.remove(result.index, size)
        if self._as_json:
            self._result(json.dumps(result.to_json()))
        elif result.receipt is not None and not self._quiet:
            self._result(f"{_name(result.file)}: {self._success(result.receipt)}")
        if result.error is not None and not result.cancelled and not self._json_only:
            self.say(self._about(result))

    # The rest

    def skipped(self, skipped: Skipped) -> None:
        """Report what is not sent although no option says so."""
        if self._as_json:
            self._result(json.dumps(skipped_json(skipped)))
        if not self._json_only:
            self.say(f"{_name(skipped.path)}: {skipped.why}")

    def summary(self, results: Sequence[Result], skipped: int, seconds: float) -> None:
        """Report in one line the outcome of several files."""
        if self._quiet or (len(results) < 2 and not skipped):
            return
        size = sum(result.receipt.size for result in results if result.receipt is not None)
        count = Counter(result.outcome for result in results)
        text = f"{count['stored']} stored"
        if size:
            text += f", {format_size(size)} in {format_duration(seconds)}"
        others = [
            (count["refused"], "refused"),
            (count["failed"], "failed"),
            (count["unknown"], "may or may not be stored"),
            (skipped, "skipped"),
        ]
        listed = ", ".join(f"{number} {what}" for number, what in others if number)
        self._err.line(f"{text}; {listed}" if listed else text)

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
        parts = [f"{kept} of {len(self._items)} stored"] if kept else []
        unknown = [_name(result.file) for result in results if result.outcome == "unknown"]
        if unknown:
            parts.append(f"may or may not be stored: {', '.join(unknown)}")
        text = f"interrupted: {'; '.join(parts) or 'nothing stored'}"
        if self._resumes and any(result.cancelled for result in results):
            text += "; the same command goes on where it stopped"
        self.say(text)

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
