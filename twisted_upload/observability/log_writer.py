"""
Writes the log, and lets nobody wait for it.

Where the log goes may stand still: a terminal after Ctrl-S, a pipe to a program
that does not read, a disk that does not answer.  So lines go into a buffer that is
bounded, and a thread of its own writes them.  What does not fit is dropped and
counted; the count stands in the log where the lines are missing.
"""

from __future__ import annotations

import atexit
import re
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue

from twisted.logger import Logger

__all__ = ["LogWriter"]

MOST = 1024 * 1024
"""Characters of lines that wait at the most; as many may be in hand."""

MOST_LOUD = MOST + 256 * 1024
"""The same, for lines that somebody should look at."""

LAST_LINES = 2.0
"""Seconds for which the end of the process waits for its last lines."""

GATHER = 0.01
"""Seconds for which lines are gathered after others have been written."""

IN_VAIN = 3
"""Times that the thread then looks for lines, and there are none, before it has to be
woken: that costs the reactor more than all its lines of one turn."""

_LINE = re.compile(r"[^\n]*\n")


class LogWriter:
    """
    Writes text, in the order in which it comes.

    Until `begin`, and in the caller's thread, at once; then in a thread.  May be used
    by all threads, and by handlers of signals.

    :param sink: takes text.  It may wait, and it may fail: then what it was given is
        lost, and counted with what was dropped.
    :param dropped: a line about so many that were dropped; called in the thread.
    :param is_loud: whether a line is one that somebody should look at; asked when
        there is no room for all.
    :param most: characters of lines that wait at the most.
    :param most_loud: the same, for those that are loud.
    :param pause: waits for so many seconds, in the thread.
    """

    def __init__(
        self,
        sink: Callable[[str], object],
        dropped: Callable[[int], str],
        is_loud: Callable[[str], bool],
        *,
        most: int = MOST,
        most_loud: int = MOST_LOUD,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._sink = sink
        self._tell_of = dropped
        self._is_loud = is_loud
        self._most, self._most_loud = most, most_loud
        self._pause = pause
        # A handler of a signal may log while its thread is in here.
        self._lock = threading.RLock()
        self._waiting: list[str | Callable[[], object]] = []
        self._size = 0
        self._dropped = 0
        self._lost = 0
        self._begun = False
        self._at_work = False
        self._thread: int | None = None
        self._ends = float("inf")  # when nobody waits any more
        # Unlike a condition, it may be used by a handler of a signal too.
        self._work: SimpleQueue[bool] = SimpleQueue()

    def write(self, text: str) -> None:
        """Write whole lines, or drop them."""
        if not self._begun:
            self._taken(text)
            return
        with self._lock:
            if self._size + len(text) <= self._most:
                self._waiting.append(text)
                self._size += len(text)
            else:
                self._keep_some(text)
        self._wake()

    def do(self, function: Callable[[], object]) -> None:
        """
        Have something done between the lines that have come and those that will:
        with the file that they go to.  What waits already is not done twice.  In the
        thread it may write lines itself, and fail.
        """
        if not self._begun:
            function()
            return
        with self._lock:
            if function not in self._waiting:
                self._waiting.append(function)
        self._wake()

    def begin(self) -> None:
        """From now on write in a thread; to be called in the process that stays."""
        self._begun = True
        thread = threading.Thread(target=self._run, name="log", daemon=True)
        thread.start()
        self._thread = thread.ident
        atexit.register(self.finish)

    def finish(self, seconds: float = LAST_LINES) -> None:
        """
        Wait until all is written, and from now on do that for every line; but for no
        longer than so many seconds in all.
        """
        if self._begun:
            self._ends = min(self._ends, time.monotonic() + seconds)
            self._wake()

    def stop(self) -> None:
        """End the thread, when it has nothing to do."""
        atexit.unregister(self.finish)
        self._work.put(False)

    def _keep_some(self, text: str) -> None:
        """There is no room for all of that: keep what is loud while there is some."""
        loud = False
        for line in _LINE.findall(text):
            if not _continues(line):
                loud = self._is_loud(line)
            if loud and self._size + len(line) <= self._most_loud:
                self._waiting.append(line)
                self._size += len(line)
            else:
                self._dropped += 1

    def _wake(self) -> None:
        with self._lock:
            asleep, self._at_work = not self._at_work, True
        if asleep:
            self._work.put(True)
        while self._at_work and time.monotonic() < self._ends < float("inf"):
            if threading.get_ident() == self._thread:
                break  # it has this to do first
            time.sleep(0.001)

    def _run(self) -> None:
        while self._work.get():
            in_vain = 0
            while self._at_work:
                hurry = self._ends < float("inf")
                in_vain = 0 if self._write_what_waits(hurry or in_vain == IN_VAIN) else in_vain + 1
                if self._at_work and not hurry:
                    self._pause(GATHER)

    def _write_what_waits(self, last: bool) -> bool:
        """
        Whether anything did.

        :param last: if not, somebody has to wake us.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, []
            self._size = 0
            if not waiting:
                self._at_work = not last
                return False
            dropped = self._dropped + self._lost
            self._dropped = self._lost = 0
        lines: list[str] = []
        for one in waiting:
            if isinstance(one, str):
                lines.append(one)
            else:
                self._put(lines)
                lines.clear()
                self._do(one)
        self._put(lines)
        if dropped and not self._taken(self._tell_of(dropped)):
            self._lost += dropped
        return True

    def _do(self, one: Callable[[], object]) -> None:
        try:
            one()
        except Exception:  # there would be no log any more
            _log.failure("internal error: an operation on the log failed")

    def _put(self, texts: list[str]) -> None:
        text = "".join(texts)
        if text and not self._taken(text):
            self._lost += text.count("\n")

    def _taken(self, text: str) -> bool:
        try:
            self._sink(text)
        except Exception:
            return False  # it cannot be told, for this is where things are told
        return True


def _continues(line: str) -> bool:
    """Whether it goes on with what the line before it began, as in a traceback."""
    return line.startswith("\t") or (line.startswith("<") and line[2:4] == ">\t")


_log = Logger()
