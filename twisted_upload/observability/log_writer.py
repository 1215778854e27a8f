"""
Writing the log without blocking the daemon.

The destination of the log may stall: a terminal after Ctrl-S, a pipe to a program that
does not read, a disk that does not respond.  Lines therefore go into a bounded buffer,
and a dedicated thread writes them.  Lines that do not fit are dropped and counted; the
count is logged where the lines are missing.
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
"""Maximum number of characters waiting; as many again may be in the process of being
written."""

MOST_LOUD = MOST + 256 * 1024
"""The same, for lines that need attention."""

FINISH_TIMEOUT = 2.0
"""Seconds for which the exit of the process waits for the last lines."""

GATHER_INTERVAL = 0.01
"""Seconds for which lines are collected after others have been written."""

IDLE_CHECKS = 3
"""How often the thread then checks for lines and finds none before it sleeps until it is
woken.  Waking it costs the reactor more than all its lines of one iteration."""

_LINE = re.compile(r"[^\n]*\n")


class LogWriter:
    """
    Writes text in order.

    Before `begin`, it writes at once, in the caller's thread; after that, in its own
    thread.  It can be used from any thread, and from signal handlers.

    :param sink: writes text.  It may block, and it may fail: then its text is lost, and
        counted with the dropped lines.
    :param dropped: returns a line that tells the number of dropped lines; called in the
        thread.
    :param is_loud: returns whether a line needs attention; called if there is no space
        for all lines.
    :param most: maximum number of characters waiting.
    :param most_loud: the same, for lines that need attention.
    :param pause: waits for a number of seconds; called in the thread.
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
        self._dropped_line = dropped
        self._is_loud = is_loud
        self._most, self._most_loud = most, most_loud
        self._pause = pause
        # A signal handler may log while its thread holds the lock.
        self._lock = threading.RLock()
        self._waiting: list[str | Callable[[], object]] = []
        self._size = 0
        self._dropped = 0
        self._lost = 0
        self._begun = False
        self._at_work = False
        self._thread: int | None = None
        self._ends = float("inf")  # when to stop waiting for lines to be written
        # Unlike a condition, it can also be used from a signal handler.
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
                self._keep_loud(text)
        self._wake()

    def do(self, function: Callable[[], object]) -> None:
        """
        Call a function between the lines written so far and later ones, for example to
        rotate their file.

        A function that is already waiting is not added again.  In the thread, it may write
        lines itself, and it may fail.
        """
        if not self._begun:
            function()
            return
        with self._lock:
            if function not in self._waiting:
                self._waiting.append(function)
        self._wake()

    def begin(self) -> None:
        """Start writing in a thread.  Call this after any fork, in the process that remains."""
        self._begun = True
        thread = threading.Thread(target=self._run, name="log", daemon=True)
        thread.start()
        self._thread = thread.ident
        atexit.register(self.finish)

    def finish(self, seconds: float = FINISH_TIMEOUT) -> None:
        """
        Wait until all lines are written, now and after each later line, but no longer than
        a number of seconds in total.
        """
        if self._begun:
            self._ends = min(self._ends, time.monotonic() + seconds)
            self._wake()

    def stop(self) -> None:
        """End the thread once it has nothing to do."""
        atexit.unregister(self.finish)
        self._work.put(False)

    def _keep_loud(self, text: str) -> None:
        """Keep only the lines that need attention, as far as they fit; drop the others."""
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
                break  # the writing thread must not wait for itself
            time.sleep(0.001)

    def _run(self) -> None:
        while self._work.get():
            idle = 0
            while self._at_work:
                hurry = self._ends < float("inf")
                idle = 0 if self._write_what_waits(hurry or idle == IDLE_CHECKS) else idle + 1
                if self._at_work and not hurry:
                    self._pause(GATHER_INTERVAL)

    def _write_what_waits(self, last: bool) -> bool:
        """
        Write what waits; return whether there was anything.

        :param last: whether the thread has to be woken again if there was nothing.
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
        if dropped and not self._taken(self._dropped_line(dropped)):
            self._lost += dropped
        return True

    def _do(self, one: Callable[[], object]) -> None:
        try:
            one()
        except Exception:  # otherwise the thread would end, and nothing be logged any more
            _log.failure("internal error: an operation on the log failed")

    def _put(self, texts: list[str]) -> None:
        text = "".join(texts)
        if text and not self._taken(text):
            self._lost += text.count("\n")

    def _taken(self, text: str) -> bool:
        try:
            self._sink(text)
        except Exception:
            return False  # this cannot be logged, as logging is what has failed
        return True


def _continues(line: str) -> bool:
    """Return whether a line continues the previous one, as in a traceback."""
    return line.startswith("\t") or (line.startswith("<") and line[2:4] == ">\t")


_log = Logger()
