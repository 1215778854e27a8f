"""
Senders of raw TCP, as there are netcats, cameras and scripts.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import ClassVar

from tests.simulation.history import LOST, NOTHING, REFUSED, Attempt
from tests.simulation.senders.sender import Impatient, Line, Script, Sender

__all__ = ["CODES", "RAW", "judge_answer"]

CODES: dict[str, bool] = {
    "empty": False,
    "too-large": False,
    "timeout": True,
    "busy": True,
    "not-allowed": False,
    "no-space": True,
    "store-error": True,
    "shutting-down": True,
}
"""The codes of raw TCP, and whether a retry is worth it."""

_REFUSED = re.compile("上传失败: ([a-z-]+) ([^\n\x00-\x1f]{1,500})\n\\Z")
_RECEIPT = re.compile(" ([^ \n/]+) ([0-9]+) ([0-9a-f]{64})\n\\Z")


def judge_answer(sender: Sender, attempt: Attempt, answer: bytes, line: Line) -> None:
    """
    Note what an answer says.

    :raises Violation: it is none of those that there are.
    """
    scene, history, facts = sender.scene, sender.scene.history, sender.scene.facts
    if not answer:
        history.lost(attempt)
        return
    try:
        text = answer.decode()
    except UnicodeDecodeError:
        text = ""
    if facts.receipts is not True and text == facts.answer:
        history.stored(attempt, None)
        return
    refused = _REFUSED.match(text)
    if refused is not None and refused[1] in CODES:
        history.refused(attempt, refused[1])
        return
    if facts.receipts is not False and facts.answer and text.startswith(facts.answer):
        receipt = _RECEIPT.match(text, len(facts.answer))
        if receipt is not None:
            history.stored(attempt, receipt[1], int(receipt[2]), receipt[3])
            return
    if line.was_reset or history.disturbed >= attempt.began:  # cut off on its way
        history.lost(attempt)
        return
    raise history.wrong(f"{attempt!r} at {scene.scheduler.now:.6f}: wrong answer {answer!r}")


class RawSender(Sender):
    """
    A sender of one file at a time; tries again if that is worth it.

    :cvar tries: how often it tries.
    """

    kind = "raw"
    tries: ClassVar[int] = 3

    def size(self) -> int | None:
        """Return the size of its content; `None` if any will do."""
        return None

    def script(self) -> Script:
        """Send, read the answer, and try again if that may help."""
        again: Attempt | None = None
        for turn in range(self.tries):
            self.fresh_patience()
            attempt = self.begin(self.size(), again=again)
            line = yield from self.connect(self.target, self.address)
            if line.connection is not None:
                self.note_peer(line, attempt)
                yield from self.upload(line, attempt)
            line.close()
            if attempt.told == NOTHING:
                self.scene.history.lost(attempt)
            self.scene.history.end(attempt)
            if not self._tries_again(attempt):
                return
            again = attempt
            yield from self.pause(self.choices.between(0.1, 2.0) * 2**turn)

    def _tries_again(self, attempt: Attempt) -> bool:
        if attempt.told == REFUSED:
            return CODES[attempt.code or ""]
        return attempt.told == LOST and self.choices.chance(0.8)

    def upload(self, line: Line, attempt: Attempt) -> Script:
        """Send it all at once, and read the answer."""
        yield from self.send_all(line, attempt)
        yield from self.read_answer(line, attempt)

    def send_all(self, line: Line, attempt: Attempt) -> Generator[float, None, bool]:
        """Send all of it, and its end; return whether it went out."""
        sent = yield from self.send_content(line, attempt, 0, attempt.size)
        if sent:
            self.send_end(line, attempt)
        return sent

    def read_answer(self, line: Line, attempt: Attempt) -> Script:
        """Read the answer until the other side ends, and note it."""
        try:
            answer = yield from self.hear(line)
        except Impatient:
            answer = line.take()
            if answer:
                judge_answer(self, attempt, answer, line)
            raise
        judge_answer(self, attempt, answer, line)


class Whole(RawSender):
    """Sends all of it, and its end, at once."""

    kind = "raw-whole"


class InPieces(RawSender):
    """Sends it in pieces of any size, with pauses that are too short to matter."""

    kind = "raw-pieces"

    def upload(self, line: Line, attempt: Attempt) -> Script:
        choices, size, facts = self.choices, attempt.size, self.scene.facts
        most = min(1.0, facts.idle_timeout / 4 or 1.0, facts.finish_after_idle / 4 or 1.0)
        at = 0
        pieces = 1 + choices.below(6)
        while at < size:
            end = size if pieces <= 1 else min(size, at + 1 + choices.below(size - at))
            pieces -= 1
            if not (yield from self.send_content(line, attempt, at, end)):
                break
            at = end
            if choices.chance(0.5):
                yield from self.pause(choices.between(0, most))
        else:
            self.send_end(line, attempt)
        yield from self.read_answer(line, attempt)


class Slow(RawSender):
    """Sends a little at a time, perhaps slower than ``--min-rate``, or falls silent."""

    kind = "raw-slow"
    honest = False
    tries = 1

    def size(self) -> int | None:
        return 100 + self.choices.below(4000)

    def upload(self, line: Line, attempt: Attempt) -> Script:
        choices = self.choices
        self.fresh_patience(600)
        seconds, at = choices.between(0.2, 8.0), 0
        step = 1 + choices.below(attempt.size // 20)
        while at < attempt.size and line.is_open and not (line.received_data or line.fin):
            end = min(attempt.size, at + step)
            if not (yield from self.send_content(line, attempt, at, end)):
                break
            at = end
            yield from self.wait_for_answer(line, min(seconds, self.left()))
        if at >= attempt.size and not line.fin:
            self.send_end(line, attempt)
        yield from self.read_answer(line, attempt)

    def wait_for_answer(self, line: Line, seconds: float) -> Script:
        """Wait so long, or until there is an answer."""
        end = self.scene.scheduler.now + seconds
        while not (line.received_data or line.fin or line.gone):
            left = end - self.scene.scheduler.now
            if left <= 0:
                return
            yield left


class NoEnd(Slow):
    """Sends all of it or a part, and neither its end nor anything else."""

    kind = "raw-no-end"

    def upload(self, line: Line, attempt: Attempt) -> Script:
        self.fresh_patience(600)
        end = self.choices.below(attempt.size + 1)
        yield from self.send_content(line, attempt, 0, end)
        since = self.scene.scheduler.now
        yield from self.read_answer(line, attempt)
        # What has come and was not read puts it off, once.
        self.check_noticed(since, 2 * self.scene.facts.idle_timeout + 30.0)


class Resets(RawSender):
    """Resets the connection at some moment, perhaps after its end was sent."""

    kind = "raw-reset"
    honest = False

    def upload(self, line: Line, attempt: Attempt) -> Script:
        choices = self.choices
        end = attempt.size if choices.chance(0.4) else choices.below(attempt.size + 1)
        yield from self.send_content(line, attempt, 0, end)
        if end == attempt.size and choices.chance(0.7):
            self.send_end(line, attempt)
        if choices.chance(0.5):
            yield from self.pause(choices.between(0, 0.05))
        line.reset()
        self.scene.history.aborted(attempt)


class Urgent(RawSender):
    """Marks bytes of its content as urgent (``MSG_OOB``)."""

    kind = "raw-urgent"

    def upload(self, line: Line, attempt: Attempt) -> Script:
        size, at = attempt.size, 0
        marks = sorted(self.choices.below(size) for _ in range(1 + self.choices.below(3)))
        for mark in dict.fromkeys(marks):
            if not (yield from self.send_content(line, attempt, at, mark)):
                break
            at = mark
            if not line.is_open or not line.connection.urgent(attempt.piece(at, at + 1)):
                continue  # no room for it: it is sent as an ordinary byte
            at += 1
            attempt.sent = max(attempt.sent, at)
        if (yield from self.send_content(line, attempt, at, size)):
            self.send_end(line, attempt)
        yield from self.read_answer(line, attempt)


class Vanishes(RawSender):
    """Is dead from some moment on: nothing comes from it any more, and nothing arrives there."""

    kind = "raw-vanish"
    honest = False
    tries = 1

    def upload(self, line: Line, attempt: Attempt) -> Script:
        end = self.choices.below(attempt.size + 1)
        yield from self.send_content(line, attempt, 0, end)
        if end == attempt.size:
            self.send_end(line, attempt)
        yield from self.pause(self.choices.between(0, 0.2))
        line.vanish()
        self.scene.history.aborted(attempt)


class Leaves(RawSender):
    """Closes without waiting for the answer, unless that comes before it has sent all."""

    kind = "raw-leaves"
    tries = 1

    def upload(self, line: Line, attempt: Attempt) -> Script:
        if not (yield from self.send_content(line, attempt, 0, attempt.size)):
            yield from self.read_answer(line, attempt)
        elif line.is_open:
            attempt.complete = True
            line.close()
            self.scene.history.aborted(attempt)


class Empty(RawSender):
    """Sends its end, and nothing before."""

    kind = "raw-empty"
    honest = False
    tries = 1

    def size(self) -> int | None:
        return 0


class Huge(RawSender):
    """Sends a file that may be larger than ``--max-size``, or than the disk."""

    kind = "raw-huge"
    honest = False
    tries = 1

    def size(self) -> int | None:
        limit = self.scene.facts.max_size
        if limit and self.choices.chance(0.7):
            return limit + 1 + self.choices.below(4096)
        return (1 << 20) + self.choices.below(8 << 20)


RAW: tuple[type[RawSender], ...] = (
    Whole,
    InPieces,
    Slow,
    NoEnd,
    Resets,
    Urgent,
    Vanishes,
    Leaves,
    Empty,
    Huge,
)
