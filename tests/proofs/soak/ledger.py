"""
The acknowledged uploads, and the files found.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from tests.proofs.load import visible
from tests.proofs.soak.content import Contents

__all__ = ["Collector", "Ledger"]

_YOUNG = 3.0
"""Seconds for which a file is left for the program that is started for it."""


class Ledger:
    """
    The answers to the senders, and for each upload whether its file must be found.

    :ivar ends: number of uploads for each outcome, as in a journal: listener; ``stored``,
        ``refused`` or ``aborted``; and the code.
    :ivar rejected: number of rejected connections for each code.
    :ivar unused: number of connections without a byte, which leave no trace.
    :ivar kept: number of uploads that must be found.
    :ivar size: total bytes of these.
    :ivar named: the numbers of the uploads, by the file names in their receipts.
    :ivar collected: total bytes of the files that were found and removed.
    :ivar wrong: the errors found, one line each.
    """

    def __init__(self) -> None:
        self.ends: Counter[tuple[str, str, str]] = Counter()
        self.rejected: Counter[str] = Counter()
        self.unused = self.kept = self.size = self.collected = 0
        self.named: dict[str, int] = {}
        self.wrong: list[str] = []
        self._to_come = 0
        self._promised = bytearray()
        self._found = bytearray()

    def begin(self, size: int) -> int:
        """Return the number of the next upload."""
        self._promised.append(0)
        self._found.append(0)
        self._to_come += size
        return len(self._promised) - 1

    @property
    def on_disk(self) -> int:
        """Bytes that may be on disk and have not been collected yet."""
        return self._to_come - self.collected

    def keep(self, listener: str, number: int, size: int) -> None:
        """Note that an upload was stored, so that its file must be found."""
        self._promised[number] = 1
        self.kept += 1
        self.size += size
        self.ends[listener, "stored", ""] += 1

    def give_up(self, listener: str, end: str, code: str, size: int) -> None:
        """Note that an upload was not stored, so that no file may be found."""
        self.ends[listener, end, code] += 1
        self._to_come -= size

    def find(self, number: int) -> None:
        """Note that the whole file of an upload was found."""
        if number >= len(self._found):
            self.wrong.append(f"upload {number} is there, and nobody has sent it")
        elif self._found[number]:
            self.wrong.append(f"upload {number} is there twice")
        else:
            self._found[number] = 1

    def compare(self) -> list[str]:
        """Return all errors, at the end."""
        pairs = [*zip(self._promised, self._found, strict=True)]
        wrong = [f"lost upload {number}" for number, it in enumerate(pairs) if it == (1, 0)]
        wrong += [
            f"upload {number} is there, and was not acknowledged"
            for number, it in enumerate(pairs)
            if it == (0, 1)
        ]
        return self.wrong + wrong

    @property
    def found(self) -> int:
        """Number of uploads found."""
        return sum(self._found)


class Collector:
    """
    Compares the visible files, and removes them.

    :param folders: the drop folders, by listener.
    :param hooked: the listener that starts a program for each file.
    :param receipts: the listener whose answers contain the file name.
    """

    def __init__(
        self, folders: Mapping[str, str], hooked: str, receipts: str, ledger: Ledger
    ) -> None:
        self.folders = folders
        self._hooked = hooked
        self._receipts = receipts
        self._ledger = ledger
        self._contents = Contents()
        self._seen: dict[str, int] = {}

    def collect(self, *, all_of_it: bool = False) -> None:
        """
        Compare and remove the files that are there.

        :param all_of_it: include files that the program may not have seen yet.
        """
        young = time.time() - (0 if all_of_it else _YOUNG)
        for listener, folder in self.folders.items():
            for name in visible(folder):
                path = f"{folder}/{name}"
                if listener == self._hooked and os.stat(path).st_mtime > young:
                    continue
                try:
                    number, size = self._contents.number(path)
                except ValueError as error:
                    self._ledger.wrong.append(f"{name}: {error}")
                    size = os.stat(path).st_size
                else:
                    self._ledger.find(number)
                    if listener == self._receipts:
                        self._seen[name] = number
                os.unlink(path)
                self._ledger.collected += size

    def steal(self) -> bool:
        """Remove a file without comparing it; return whether there was one."""
        for folder in self.folders.values():
            for name in visible(folder):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(f"{folder}/{name}")
                    return True
        return False

    def misnamed(self) -> Sequence[str]:
        """Return the receipts that are wrong."""
        return [
            f"a receipt for upload {number} names {name}"
            for name, number in self._ledger.named.items()
            if self._seen.get(name) != number
        ]

    def left(self) -> Sequence[str]:
        """Return what is in the folders but should not be."""
        left = [f"{folder}/{name}" for folder in self.folders.values() for name in visible(folder)]
        for folder in self.folders.values():
            incoming = {*os.listdir(f"{folder}/.incoming")} - {"latest-names"}
            left += [f"{folder}/.incoming/{name}" for name in sorted(incoming)]
        return [f"left behind: {path}" for path in left]
