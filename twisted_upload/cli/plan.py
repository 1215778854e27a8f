"""From the words of a command line to what is sent, before any connection is made."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from twisted_upload.cli.folders import Found, Skipped, entries
from twisted_upload.cli.items import (
    STDIN,
    ArchiveSource,
    FailedSource,
    FileSource,
    Item,
    StdinSource,
    open_stdin,
)
from twisted_upload.cli.patterns import Patterns

__all__ = ["Plan", "make_plan"]

_SEVERAL = "archive"
"""The name of an archive of several files, without its suffix."""


@dataclass(frozen=True, slots=True)
class Plan:
    """
    What is sent.

    :ivar items: in this order.
    :ivar skipped: what is not, although no option says so.
    """

    items: list[Item] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def size(self) -> int | None:
        """Return the number of bytes of all items; `None` if it is unknown."""
        size = 0
        for item in self.items:
            if item.size is None:
                return None
            size += item.size
        return size


@dataclass(frozen=True, slots=True)
class _Planner:
    files: Sequence[str]
    patterns: Patterns
    check: Callable[[], object]
    plan: Plan = field(default_factory=Plan)

    def each_file(self, *, recursive: bool, name: str | None) -> None:
        for file in self.files:
            if file == STDIN:
                source = StdinSource(open_stdin)
                self.plan.items.append(Item(file, name, None, source))
            elif recursive and os.path.isdir(file):
                self._files_in(file)
            else:
                self._file(file, name or base_name(file))

    def _file(self, path: str, name: str) -> None:
        try:
            status = os.stat(path)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            self.plan.items.append(Item(path, name, 0, FailedSource(why)))
            return
        if stat.S_ISDIR(status.st_mode):
            why = "it is a directory: -r sends its files, --tar sends it as one"
            self.plan.items.append(Item(path, name, 0, FailedSource(why)))
            return
        size = status.st_size if stat.S_ISREG(status.st_mode) else None
        self.plan.items.append(Item(path, name, size, FileSource(path)))

    def _files_in(self, folder: str) -> None:
        for entry in entries(folder, self.patterns, everything=False):
            self.check()
            if isinstance(entry, Found):
                source = FileSource(entry.path)
                item = Item(entry.path, entry.name, entry.status.st_size, source)
            elif entry.is_error:
                item = Item(entry.path, None, 0, FailedSource(entry.why))
            else:
                self.plan.skipped.append(entry)
                continue
            self.plan.items.append(item)

    def archive(self, name: str | None) -> None:
        from twisted_upload.client.tar_stream import Member, TarStream  # noqa: PLC0415 - slow

        members: dict[str, Member] = {}
        failed = ""
        for file in self.files:
            if file == STDIN:
                raise ValueError("standard input (-) cannot be in an archive: it has no name")
            base = archive_name(file)
            path = os.path.realpath(file) if os.path.islink(file) else file
            for entry in entries(path, self.patterns, everything=True):
                self.check()
                if isinstance(entry, Skipped):
                    if entry.is_error:
                        failed = failed or f"cannot read {entry.path}: {entry.why}"
                    else:
                        self.plan.skipped.append(entry)
                    continue
                inside = "/".join(filter(None, [base, entry.name]))
                if inside in members:
                    raise ValueError(f"two files would be called {inside!r} in the archive")
                members[inside] = Member(entry.path, inside, entry.status, entry.target)
        if name is None:
            name = f"{base_name(self.files[0]) if len(self.files) == 1 else _SEVERAL}.tar"
        if failed:
            self.plan.items.append(Item(name, name, 0, FailedSource(failed)))
        else:
            stream = TarStream(members.values())
            source = ArchiveSource(stream)
            self.plan.items.append(Item(name, name, stream.size, source))


def make_plan(
    files: Sequence[str],
    *,
    recursive: bool = False,
    archive: bool = False,
    name: str | None = None,
    patterns: Patterns | None = None,
    check: Callable[[], object] = lambda: None,
) -> Plan:
    """
    Find what is to be sent.

    :param files: the words of the command line.
    :param recursive: send the files in folders too, one by one.
    :param archive: send all as one tar archive.
    :param name: sent along instead of the name of the only file.
    :param patterns: which files in folders.
    :param check: called now and then; may raise.
    :raises ValueError: it cannot be sent in that way.
    """
    planner = _Planner(files, patterns or Patterns(), check)
    if archive:
        planner.archive(name)
    else:
        planner.each_file(recursive=recursive, name=name)
    return planner.plan


def base_name(path: str) -> str:
    """Return the last part of a path, also of ``.`` and ``photos/``."""
    return os.path.basename(os.path.abspath(path)) or "files"


def archive_name(path: str) -> str:
    """Return the name in an archive: the path as given, or its last part if it leads elsewhere."""
    normal = os.path.normpath(path)
    if normal == "." or os.path.isabs(normal) or normal.split(os.sep)[0] == "..":
        normal = base_name(path)
    return normal.replace(os.sep, "/")
