"""
A planted bug: a text in one module of the package, and what it is replaced with.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

__all__ = ["Bug", "NotThere", "plant", "source_of"]

PACKAGE = "twisted_upload"


class NotThere(Exception):
    """The text to be replaced is not in its module exactly once: the bug has to be written anew."""


class Bug(NamedTuple):
    """
    A bug.

    :ivar name: unique.
    :ivar module: its name within the package.
    :ivar old: a text of that module, which is in it exactly once.
    :ivar new: what it is replaced with.
    :ivar breaks: what goes wrong then, in a few words.
    :ivar promise: which promise is broken.
    """

    name: str
    module: str
    old: str
    new: str
    breaks: str
    promise: str

    @property
    def full_name(self) -> str:
        """The name of the module."""
        return f"{PACKAGE}.{self.module}"

    def put_into(self, source: str) -> str:
        """
        Return the source of the module with the bug.

        :raises NotThere: it cannot be planted.
        """
        count = source.count(self.old)
        if count != 1:
            raise NotThere(f"{self.name}: its text is {count} times in {self.full_name}")
        return source.replace(self.old, self.new)


def source_of(module: str) -> str:
    """Return the source of a module of the package, without importing it."""
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent.joinpath(*module.split("."))
    return path.with_suffix(".py").read_text("utf-8")


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads a module with a bug; what has been compiled without it is not used."""

    def __init__(self, bug: Bug, path: str) -> None:
        super().__init__(bug.full_name, path)
        self._bug = bug

    def get_code(self, fullname: str) -> CodeType:
        source = self._bug.put_into(Path(self.path).read_text("utf-8"))
        return compile(source, self.path, "exec", dont_inherit=True)


class _Finder(MetaPathFinder):
    def __init__(self, bug: Bug) -> None:
        self._bug = bug

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._bug.full_name:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert spec.origin is not None
        loader = _Loader(self._bug, spec.origin)
        return importlib.util.spec_from_file_location(fullname, spec.origin, loader=loader)


def plant(bug: Bug) -> None:
    """
    Plant a bug in this process, before its module is imported.

    :raises NotThere: it cannot be planted.
    """
    if bug.full_name in sys.modules:
        raise NotThere(f"{bug.name}: {bug.full_name} has been imported already")
    bug.put_into(source_of(bug.module))
    sys.meta_path.insert(0, _Finder(bug))
