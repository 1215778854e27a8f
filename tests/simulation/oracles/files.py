"""
What is visible in the drop folder, compared with what senders have sent and were told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.simulation.history import SMALLEST, STORED, Attempt, History, content_of, number_in

__all__ = ["PlantedFiles", "StoredFiles"]

Key = tuple[str, int]
"""What a visible file is: a content, a concatenation, or one that is too small to tell."""

CUT = "cut by silence"
"""Instead of a key's kind: a beginning so small that nobody knows of what."""


class StoredFiles:
    """
    The visible files of a drop folder.

    A file is read once, and again after a power cut and at the end.

    :param file_system: has the folder (`tests.simulation.filesystem`).
    :param directory: its path.
    :ivar disk_fails: whether the disk fails or stalls, or has done so.
    :ivar visible: the files, as of the last check.
    """

    def __init__(self, history: History, file_system: Any, directory: str) -> None:
        self._history = history
        self._file_system = file_system
        self._directory = directory
        self._planted: set[str] = set()
        self._cut_at = -1.0
        self._taken: dict[str, Key] = {}
        self._compared: dict[str, bytes] = {}
        self._gone: dict[str, Key] = {}
        self.disk_fails = False
        self.visible: dict[str, Key] = {}

    def take(self, names: Iterable[str]) -> list[str]:
        """
        Note that files are about to be taken away: they count as visible from now on, and
        no other may have their names.

        :return: those that are known to be whole.
        """
        taken = []
        for name in names:
            if name not in self._planted:
                self._taken[name] = self._identify(name)
                taken.append(name)
        return taken

    def plant(self, names: Iterable[str]) -> None:
        """Ignore files of others."""
        self._planted.update(names)

    def check(self, *, cut: bool = False, deep: bool = False) -> None:
        """
        Compare all that is visible.

        :param cut: the power was cut since the last check: what nobody was told may be gone.
        :param deep: read again what was read before.
        :raises Violation: a promise is broken.
        """
        if cut:
            self._cut_at = self._history.now()
        before, self.visible = self.visible, {}
        known = {} if cut or deep else before
        for name in self._file_system.names(self._directory):
            if name.startswith(".") or name in self._planted:
                continue
            key = known.get(name)
            self.visible[name] = self._identify(name) if key is None else key
        self._check_taken()
        if not cut:
            self._check_nothing_vanishes(before)
        self._check_promised()
        self._check_once()

    def _check_taken(self) -> None:
        """No name is given out again, even if its file has been taken away."""
        for name, key in self._taken.items():
            if self.visible.setdefault(name, key) != key:
                raise self._history.wrong(f"{name} is {self.visible[name]}, and was {key} before")

    def _check_nothing_vanishes(self, before: dict[str, Key]) -> None:
        """
        What was visible stays, unless its disk fails, or its daemon is stopped, before it is
        stored: then it is removed again, and nobody else gets its name.
        """
        may_vanish = self.disk_fails or self._history.stopped >= 0
        for name, key in before.items():
            if name in self.visible:
                continue
            if not may_vanish or self._is_told(name, key):
                raise self._history.wrong(f"{name} was visible, and is gone")
            self._gone[name] = key
        for name, key in self._gone.items():
            if self.visible.get(name, key) != key:
                raise self._history.wrong(f"{name} is {self.visible[name]}, and was {key} before")

    def _is_told(self, name: str, key: Key) -> bool:
        """Return whether all who have sent this content were told that it is stored."""
        attempts = [it for it in self._history.attempts.values() if self.key(it) == key]
        told = bool(attempts) and all(it.told == STORED for it in attempts)
        return told or name in self._history.names

    def _identify(self, name: str) -> Key:
        """Each visible file is exactly the content of one attempt whose end was sent."""
        data = self._file_system.content(f"{self._directory}/{name}")
        history, size = self._history, len(data)
        if size < SMALLEST:
            if data == b"a" * size and any(self._may_be(it) for it in history.tiny(size)):
                return "tiny", size
            if not self._is_cut_by_silence(data):
                self._who(name, data)
            return CUT, size
        number = number_in(data)
        if number is None:  # a concatenation may begin with a part that is too small to tell
            for attempts in history.finals.values():
                if any(it.size == size and it.data() == data for it in attempts):
                    return "final", history.contents[attempts[0].content][0].number
            self._who(name, data)
            return "unknown", 0
        for attempt in history.contents.get(number, ()):
            if attempt.size == size and not attempt.parts:
                if self._compared.get(name) is not data:  # bytes never change
                    if data != content_of(number, size):
                        raise history.wrong(f"{name} has other bytes than {attempt!r}")
                    self._compared[name] = data
                if any(self._may_be(it) for it in history.contents[number]):
                    return "content", number
                raise history.wrong(f"{name} is visible, but its end was not sent: {attempt!r}")
        for final in history.finals.get(number, ()):
            if final.size == size and final.data() == data:
                if final.may_be_stored() or any(
                    it.may_be_stored() for it in history.finals[number] if it.parts == final.parts
                ):
                    return "final", history.contents[final.content][0].number
                raise history.wrong(f"{name} is visible, but was refused: {final!r}")
        if self._is_cut_by_silence(data):
            return "content", number
        self._who(name, data)
        return "unknown", 0

    def _may_be(self, attempt: Attempt) -> bool:
        return (
            attempt.may_be_stored()
            or self._may_come_back(attempt)
            or self._may_be_cut_by_silence(attempt)
        )

    def _may_be_cut_by_silence(self, attempt: Attempt) -> bool:
        return self._history.ends_by_idle and attempt.kind.startswith(("raw", "hostile"))

    def _may_come_back(self, attempt: Attempt) -> bool:
        """
        Return whether a power cut may have brought back the whole file of a refused attempt:
        its folder could not be synced, neither with its name nor without it.
        """
        codes = ["store-error", "no-space"]
        if self.disk_fails:  # EMFILE of its sync
            codes.append("busy")
        return attempt.complete and attempt.code in codes and self._cut_at >= attempt.began

    def _is_cut_by_silence(self, data: bytes) -> bool:
        """Return whether it is the beginning of an upload that ``--finish-after-idle`` ended."""
        if not self._history.ends_by_idle:
            return False
        return any(
            self._may_be(it) and len(data) <= it.sent and data == it.piece(0, len(data))
            for it in self._history.attempts.values()
        )

    def _who(self, name: str, data: bytes) -> None:
        number = number_in(data)
        about = f"{len(data)} bytes {bytes(data[:16])!r}"
        attempts = self._history.contents.get(number, []) if number is not None else []
        raise self._history.wrong(f"{name} is no content of anybody: {about} {attempts}")

    def _check_promised(self) -> None:
        """A name that was told is that of the file of who was told."""
        visible, history = self.visible, self._history
        for name, attempt in history.names.items():
            key = visible.get(name)
            if key is None:
                raise history.wrong(f"lost: {name} of {attempt!r}")
            if key != self.key(attempt) and not history.ends_by_idle:
                raise history.wrong(f"{name} is {key}, but was told to {attempt!r}")

    def key(self, attempt: Attempt) -> Key:
        """Return what the file of an attempt is known by."""
        if attempt.parts:
            return "final", self._history.contents[attempt.content][0].number
        return ("tiny", attempt.size) if attempt.size < SMALLEST else ("content", attempt.content)

    def check_given_up(self, since: float) -> None:
        """
        What was reported as refused, or as aborted, is not visible in the end.

        :param since: when something last happened that may have kept it from being removed.
        :raises Violation: it is.
        """
        history = self._history
        counts: dict[Key, int] = {}
        for key in self.visible.values():
            counts[key] = counts.get(key, 0) + 1
        for attempts in history.contents.values():
            first = attempts[0]
            if first.began <= since or not any(it.given_up for it in attempts):
                continue
            possible = sum(self._may_be(it) and not it.given_up for it in attempts)
            key = self.key(first)
            if key[0] == "content" and counts.get(key, 0) > possible:
                raise history.wrong(f"reported as not stored, and visible: {attempts!r}")

    def _check_once(self) -> None:
        """There are as many files with a content as can have been stored, and as were promised."""
        history = self._history
        counts: dict[Key, int] = {}
        for key in self.visible.values():
            counts[key] = counts.get(key, 0) + 1
        promised: dict[Key, int] = {}
        possible: dict[Key, int] = {}
        names: dict[Key, set[str]] = {}
        once: set[tuple[Key, ...]] = set()
        for attempt in history.attempts.values():
            key = self.key(attempt)
            if attempt.told == STORED and not attempt.partial:
                # Two that were told one name have one file: a concatenation, asked for again.
                told = names.setdefault(key, set())
                if attempt.name is None or attempt.name not in told:
                    promised[key] = promised.get(key, 0) + 1
                    told.add(attempt.name or "")
            if self._may_be(attempt) and not self._is_repeated(attempt, once):
                possible[key] = possible.get(key, 0) + 1
        more = {key: it - possible.get(key, 0) for key, it in counts.items() if key[0] != CUT}
        tiny = sum(it for (kind, _), it in more.items() if kind == "tiny" and it > 0)
        cut = sum(kind == CUT for kind, _ in self.visible.values()) + tiny
        for key, number in promised.items():
            cut -= max(0, number - counts.get(key, 0))
            if counts.get(key, 0) < number and cut < 0:
                raise history.wrong(
                    f"lost: {key} is there {counts.get(key, 0)} times, {number} told"
                )
        for key, number in more.items():
            if number > 0 and not (key[0] == "tiny" and tiny <= self._tiny_and_cut()):
                sent = possible.get(key, 0)
                raise history.wrong(f"{key} is visible {counts[key]} times, {sent} sent")

    def _tiny_and_cut(self) -> int:
        """Return how many uploads may look like smaller ones, because silence ended them."""
        attempts = self._history.attempts.values()
        return sum(it.size < SMALLEST and self._may_be_cut_by_silence(it) for it in attempts)

    def _is_repeated(self, attempt: Attempt, once: set[tuple[Key, ...]]) -> bool:
        """
        Return whether an attempt asks again for a concatenation, which is then stored once.

        :param once: those that were asked for before.
        """
        if not (self._history.repeats_once and attempt.parts):
            return False
        parts = tuple(("part", part.number) for part in attempt.parts)
        before = len(once)
        once.add(parts)
        return len(once) == before


class PlantedFiles:
    """
    Files of others, in the drop folder and around it, which nobody touches.

    :param file_system: has them.
    """

    def __init__(self, history: History, file_system: Any) -> None:
        self._history = history
        self._file_system = file_system
        self._files: dict[str, bytes] = {}

    def plant(self, path: str, content: bytes) -> None:
        """Put a file there, which belongs to another user."""
        self._file_system.plant(path, content)
        self._files[path] = content

    def check(self) -> None:
        """The files of others are there, and have not changed."""
        for path, content in self._files.items():
            if not self._file_system.exists(path) or self._file_system.content(path) != content:
                raise self._history.wrong(f"a file of others was touched: {path}")
