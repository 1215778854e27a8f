"""
Scripts of calls that a seed chooses, for a comparison of the simulation with real file
systems: both sides run them through `twisted_upload.disk.files.Files`.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from tests.simulation.choices import Choices
from twisted_upload.disk.file_calls import Space
from twisted_upload.disk.files import Files

__all__ = ["ALL", "POWER", "Actor", "Step", "script"]

Step = tuple[Any, ...]
"""Name of a method of `Actor`, and its arguments."""

PLACES = 6
"""Descriptors that a script uses: the first is that of the folder, the second that of ``d``."""

FLAGS = (
    os.O_RDONLY,
    os.O_RDWR,
    os.O_WRONLY,
    os.O_RDWR | os.O_CREAT,
    os.O_RDWR | os.O_CREAT | os.O_EXCL,
    os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    os.O_RDWR | os.O_NOFOLLOW,
    os.O_RDONLY | os.O_NOFOLLOW,
    os.O_RDONLY | os.O_DIRECTORY,
    os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW,
    os.O_RDONLY | os.O_NONBLOCK,
)
NAMES = {
    "a": 6.0, "b": 6.0, "c": 3.0, "d": 2.0, "e": 2.0, "d/a": 2.0, "d/b": 1.0, "e/a": 1.0,
    "./a": 0.5, "d/../b": 0.5, "a/b": 0.5, ".": 0.3, "d/.": 0.2, "d/..": 0.2, "": 0.2,
    "link": 1.0, "dangling": 0.7, "d-link": 0.7, "d-link/a": 0.7, "loop": 0.5, "n" * 255: 0.2,
    "n" * 256: 0.2, "of root": 0.5, "closed/a": 0.5, "closed": 0.3, "sticky/x": 0.5,
    "sticky/a": 0.5,
}  # fmt: skip
"""What is in the folder at first: see `tests.simulation.filesystem.comparison`."""


Calls = dict[str, tuple[float, Callable[[Choices], tuple[Any, ...]]]]
"""How likely each call is, and what chooses its arguments."""


def script(choices: Choices, length: int, calls: Calls) -> list[Step]:
    """Return a script."""
    weights = {name: weight for name, (weight, _) in calls.items()}
    steps: list[Step] = []
    for _ in range(length):
        name = choices.weighted(weights)
        steps.append((name, *calls[name][1](choices)))
    return steps


def _slot(choices: Choices) -> int:
    return 2 + choices.below(PLACES - 2)


def _any(choices: Choices) -> int:
    return choices.below(PLACES)


def _name(choices: Choices) -> str:
    return choices.weighted(NAMES)


def _at(choices: Choices) -> int:
    return choices.pick((0, 0, 0, 0, 1, 1, _any(choices)))


def _size(choices: Choices) -> int:
    return choices.pick((0, 1, 10, 100, 4096, 5000, 9000))


def _data(choices: Choices) -> bytes:
    return bytes([97 + choices.below(26)]) * _size(choices)


ALL: Calls = {
    "open": (8, lambda c: (_slot(c), _name(c), c.pick(FLAGS), c.pick((0o600, 0o644)), _at(c))),
    "create": (5, lambda c: (_slot(c), _at(c), _name(c), 0o666)),
    "open_record": (2, lambda c: (_slot(c), _at(c), _name(c), c.chance(0.5))),
    "close": (3, lambda c: (_slot(c),)),
    "duplicate": (1, lambda c: (_slot(c), _any(c))),
    "status": (2, lambda c: (_any(c),)),
    "status_of": (4, lambda c: (_name(c), _at(c), c.chance(0.3))),
    "links": (1, lambda c: (_any(c),)),
    "names": (2, lambda c: (_at(c),)),
    "scan": (1, lambda c: (_at(c),)),
    "can_write": (1, lambda c: (_name(c), _at(c))),
    "attribute": (1, lambda c: (_any(c), c.pick(("user.a", "user.b")))),
    "set_attribute": (1, lambda c: (_any(c), "user.a", c.pick((b"value", b"", None)))),
    "read": (3, lambda c: (_any(c), _size(c))),
    "read_at": (2, lambda c: (_any(c), _size(c), _size(c))),
    "seek": (2, lambda c: (_slot(c), c.below(6000) - 50, c.below(3))),
    "write": (6, lambda c: (_any(c), _data(c))),
    "writev": (2, lambda c: (_any(c), [_data(c) for _ in range(1 + c.below(3))])),
    "write_at": (2, lambda c: (_any(c), _data(c), _size(c))),
    "truncate": (2, lambda c: (_any(c), _size(c))),
    "through_pipe": (2, lambda c: (_any(c), _data(c), _size(c))),
    "copy": (2, lambda c: (_any(c), _any(c), _size(c))),
    "chmod": (1, lambda c: (_any(c), c.pick((0o600, 0o644, 0o755, 0o700)))),
    "set_times": (1, lambda c: (_any(c), float(c.below(1000)))),
    "set_owner": (0.5, lambda c: (_any(c), c.pick((-1, 0, 7)), -1)),
    "rename": (5, lambda c: (_at(c), _name(c), _at(c), _name(c))),
    "replace": (3, lambda c: (_at(c), _name(c), _at(c), _name(c))),
    "move": (1, lambda c: (_name(c), _name(c))),
    "link": (3, lambda c: (_at(c), _name(c), _at(c), _name(c))),
    "unlink": (4, lambda c: (_at(c), _name(c))),
    "remove": (1, lambda c: (_name(c),)),
    "make_folder": (2, lambda c: (_name(c), c.pick((0o700, 0o755, 0o777)), _at(c))),
    "remove_folder": (2, lambda c: (_name(c), _at(c))),
    "lock": (2, lambda c: (_any(c),)),
    "lock_shared": (2, lambda c: (_any(c),)),
    "unlock": (1, lambda c: (_any(c),)),
    "claim": (1, lambda c: (_any(c), c.below(3))),
    "unclaim": (0.5, lambda c: (_any(c), c.pick((None, 0, 1)))),
    "is_claimed": (1, lambda c: (_any(c), c.pick((None, 0, 1)))),
    "fsync": (2, lambda c: (_any(c),)),
    "datasync": (1, lambda c: (_any(c),)),
    "fsync_all": (1, lambda c: ([_any(c), _any(c)],)),
    "start_write_back": (0.5, lambda c: (_any(c), 0, 4096)),
    "finish_write_back": (0.5, lambda c: (_any(c), 0, 4096)),
    "free": (0.5, lambda c: (_any(c),)),
}
"""All calls."""


def _few(choices: Choices) -> str:
    return choices.pick(("a", "a", "b", "c", "d/a", "d/b", "e/a"))


POWER: Calls = {
    "create": (6, lambda c: (_slot(c), 0, _few(c), 0o666)),
    "open_record": (2, lambda c: (_slot(c), 0, _few(c), True)),
    "write": (8, lambda c: (_slot(c), _data(c))),
    "write_at": (2, lambda c: (_slot(c), _data(c), _size(c))),
    "truncate": (1, lambda c: (_slot(c), _size(c))),
    "rename": (4, lambda c: (0, _few(c), 0, _few(c))),
    "replace": (3, lambda c: (0, _few(c), 0, _few(c))),
    "link": (2, lambda c: (0, _few(c), 0, _few(c))),
    "unlink": (3, lambda c: (0, _few(c))),
    "make_folder": (1, lambda c: ("e", 0o700, 0)),
    "remove_folder": (0.5, lambda c: ("e", 0)),
    "open": (1, lambda c: (_slot(c), "e", os.O_RDONLY, 0, 0)),
    "fsync": (6, lambda c: (_any(c),)),
    "fsync_all": (1, lambda c: ([_any(c), _any(c)],)),
    "datasync": (1, lambda c: (_any(c),)),
}
"""Calls that matter if the power fails."""

_MADE = {"open", "create", "open_record", "duplicate"}
_PATHS = {"remove", "move"}
_FOLDER_LAST = {"open", "status_of", "can_write", "make_folder", "remove_folder"}
_DESCRIPTORS = {"rename": (0, 2), "replace": (0, 2), "link": (0, 2), "copy": (0, 1)}


class Actor:
    """
    Runs the steps of a script.

    :param files: the real calls or the simulated ones.
    :param path: the folder, in which there is a folder ``d``.
    """

    def __init__(self, files: Files, path: str) -> None:
        self._files = files
        self._path = path
        base = files.open(path, os.O_RDONLY | os.O_DIRECTORY)
        self._slots: list[int | None] = [base, files.open("d", os.O_RDONLY, folder=base)]
        self._slots += [None] * (PLACES - 2)

    def do(self, step: Step) -> object:
        """Make a call; return what it returns, or its error, so that it can be compared."""
        call, *arguments = step
        try:
            return _comparable(self._do(call, arguments))
        except OSError as error:
            name = errno.errorcode[error.errno or 0]
            # POSIX allows both, if a folder that is to be replaced is not empty.
            return "ENOTEMPTY" if call in {"replace", "move"} and name == "EEXIST" else name
        except ValueError as error:
            return str(error)

    def close(self) -> None:
        """Close everything."""
        for descriptor in self._slots:
            if descriptor is not None:
                self._files.close(descriptor)

    def _number(self, slot: int) -> int:
        number = self._slots[slot]
        return 999 if number is None else number  # which is not open

    def _do(self, call: str, arguments: list[Any]) -> object:
        if call == "through_pipe":
            return self._through_pipe(*arguments)
        if call == "close":
            number, self._slots[arguments[0]] = self._number(arguments[0]), None
            self._files.close(number)
            return None
        if call in _MADE:
            return self._make(call, *arguments)
        if call in _PATHS:
            arguments = [f"{self._path}/{name or 'a'}" for name in arguments]
        elif call == "fsync_all":
            arguments = [[self._number(slot) for slot in arguments[0]]]
        elif call in _FOLDER_LAST:
            return self._at(call, *arguments)
        else:
            for index in _DESCRIPTORS.get(call, (0,)):
                arguments[index] = self._number(arguments[index])
        if call == "seek" and stat.S_ISDIR(self._files.status(arguments[0]).st_mode):
            return "positions in folders differ"
        if call == "scan":
            with self._files.scan(*arguments) as names:
                return [*names]
        return getattr(self._files, call)(*arguments)

    def _at(self, call: str, name: str, *rest: Any) -> object:
        method = getattr(self._files, call)
        if call == "status_of":
            return method(name, folder=self._number(rest[0]), follow=rest[1])
        return method(name, *rest[:-1], folder=self._number(rest[-1]))

    def _make(self, call: str, slot: int, *arguments: Any) -> object:
        if call == "open":
            made: Any = self._at("open", *arguments)
        else:
            made = getattr(self._files, call)(self._number(arguments[0]), *arguments[1:])
        before, self._slots[slot] = self._slots[slot], made
        if before is not None:
            self._files.close(before)
        return "a descriptor"

    def _through_pipe(self, slot: int, data: bytes, length: int) -> object:
        reading, writing = self._files.pipe()
        moved: object = 0
        try:
            self._files.write(writing, data)
            if data and length:
                try:
                    moved = self._files.splice(reading, self._number(slot), length)
                except OSError as error:
                    moved = error.errno
            self._files.close(writing)
            return moved, self._files.read(reading, 1 << 20)
        finally:
            self._files.close(reading)


def _comparable(result: object) -> object:
    if isinstance(result, os.stat_result):
        kind, mode = stat.S_IFMT(result.st_mode), stat.S_IMODE(result.st_mode)
        if kind != stat.S_IFREG:
            return kind, mode, result.st_uid
        return kind, mode, result.st_uid, result.st_size, result.st_nlink
    if isinstance(result, Space):
        return result.read_only
    if isinstance(result, list):
        if all(isinstance(it, str) for it in result):
            return sorted(result)
        return [None if it is None else errno.errorcode[it.errno] for it in result]
    return result
