"""
A drop folder of which only the names and contents of files matter, for tests of oracles.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulation.history import Attempt, History, Violation
from tests.simulation.oracles.files import StoredFiles

__all__ = ["Folder"]


class Paths:
    """A file system of which only the paths of files matter."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def names(self, path: str) -> list[str]:
        inside = [it[len(path) + 1 :] for it in self.files if it.startswith(f"{path}/")]
        return [*dict.fromkeys(it.split("/")[0] for it in inside)]

    def content(self, path: str) -> bytes:
        return self.files[path]

    def exists(self, path: str) -> bool:
        return path in self.files or any(it.startswith(f"{path}/") for it in self.files)

    def plant(self, path: str, content: bytes) -> None:
        self.files[path] = content


class Folder:
    """A drop folder, and the oracle about it."""

    def __init__(self) -> None:
        self.now = 1.0
        self.paths = Paths()
        self.history = History(lambda: self.now)
        self.oracle = StoredFiles(self.history, self.paths, "/inbox")

    def sent(self, number: int, size: int = 100, **more: Any) -> Attempt:
        """Return an attempt whose end was sent."""
        attempt = self.history.begin(number, more.pop("kind", "raw-whole"), size, **more)
        attempt.sent, attempt.complete = attempt.size, True
        return attempt

    def put(self, name: str, content: bytes) -> None:
        """Make a file visible."""
        self.paths.files[f"/inbox/{name}"] = content

    def wrong(self, text: str, **how: bool) -> None:
        """Check that the oracle finds something."""
        with pytest.raises(Violation, match=text):
            self.oracle.check(**how)
        assert self.history.violations
