"""
What is on the device when a sender is told that its file is stored.

A power cut at that moment would show the same, but seldom comes then.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.simulation.history import Attempt, History
from twisted_upload.core.outcome import UploadOutcome

__all__ = ["Durability"]


class Durability:
    """
    The durability of files in a drop folder.

    :param file_system: has the folder (`tests.simulation.filesystem`).
    :param directory: its path.
    """

    def __init__(self, history: History, file_system: Any, directory: str) -> None:
        self._history = history
        self._file_system = file_system
        self._directory = directory

    def observer(self, process: str) -> Callable[[UploadOutcome], None]:
        """Return an observer for the front ends of a process."""

        def observe(ended: UploadOutcome) -> None:
            if ended.name is not None:
                self._check(ended.name, ended, process)

        return observe

    def check_told(self, attempt: Attempt, name: str) -> None:
        """
        A file whose sender is told that it is stored is durable.

        :raises Violation: its content, or its name, is not.
        """
        self._check(name, attempt)

    def _check(self, name: str, about: object, process: str = "") -> None:
        """A file that is not there any more has been taken away."""
        path = f"{self._directory}/{name}"
        if self._file_system.is_durable(path, process) or not self._file_system.exists(path):
            return
        raise self._history.wrong(f"{name} is told to be stored, and is not durable: {about!r}")
