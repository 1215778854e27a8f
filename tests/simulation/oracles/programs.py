"""
What the programs of ``--on-upload`` are told: of each stored file, at least once, and not
again after they have succeeded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from tests.simulation.history import STORED, History
from tests.simulation.programs import Run
from twisted_upload.hooks.folders import FAILED, HOOKS, WAITING
from twisted_upload.hooks.spool import MARKER_NAME

__all__ = ["ProgramRuns"]

MOMENT = 60.0
"""Seconds in which the marker of a program that has succeeded is removed, or its daemon
dies."""


class ProgramRuns:
    """
    The runs of programs.

    :param file_system: has the drop folder.
    :param directory: its path.
    :param attempts: failures after which a file is set aside.
    :param objects: the contents of objects, by name, if the files become objects.
    :ivar cut: when the power was cut last; set by the world.
    """

    def __init__(
        self,
        history: History,
        file_system: Any,
        directory: str,
        *,
        attempts: int,
        objects: Any = None,
    ) -> None:
        self._history = history
        self._file_system = file_system
        self._directory = directory
        self._attempts = attempts
        self._objects = objects
        self._of: dict[str, list[Run]] = {}
        self._contents: dict[str, bytes] = {}
        self._died: dict[str, float] = {}
        self.cut = -1.0
        self.disk_fails = False

    def died(self, process: Any) -> None:
        """Note that a daemon has ended."""
        self._died[process.name] = self._history.now()

    def begins(self, run: Run) -> None:
        """
        A program is started for a file that is there, whole, and as it is told.

        It is not started while another runs for the same file, nor after one has succeeded,
        unless its daemon died before it could note that, or the power was cut; or once more,
        if the object was put again after that.
        """
        before = self._of.setdefault(run.name, [])
        for other in before:
            self._check_again(run, other)
        before.append(run)
        content = self._content(run)
        told = run.variables
        if content is None and self._may_be_gone(run):
            return
        if content is None:
            raise self._history.wrong(f"{run!r}: there is no such file")
        if told["UPLOAD_SIZE"] != str(len(content)):
            raise self._history.wrong(f"{run!r} was told a size of {told['UPLOAD_SIZE']}")
        if told["UPLOAD_SHA256"] != hashlib.sha256(content).hexdigest():
            raise self._history.wrong(f"{run!r} was told a wrong SHA-256")
        if not 1 <= int(told["UPLOAD_ATTEMPT"]) <= self._attempts:
            raise self._history.wrong(f"{run!r} is attempt {told['UPLOAD_ATTEMPT']}")
        if self._contents.setdefault(run.name, content) != content:
            raise self._history.wrong(f"{run!r}: the file was another one before")

    def _check_again(self, run: Run, other: Run) -> None:
        if other.process.alive:
            raise self._history.wrong(f"{run!r} begins while {other!r} runs")
        if not other.succeeded or self.cut >= other.began:
            return
        died = self._died.get(other.parent.name, float("inf"))
        if died > other.ended + MOMENT and not self._was_put_again(other):
            raise self._history.wrong(f"{run!r} begins, although {other!r} has succeeded")

    def _was_put_again(self, run: Run) -> bool:
        """
        Return whether a second marker of this object may be written after its program has
        succeeded: it was there when a daemon died that had not noted yet that it was put.
        """
        found = None if self._objects is None else self._objects.get(run.name)
        if found is None:
            return False
        ends = [when for when in (self.cut, *self._died.values()) if when <= run.began]
        last = max(ends, default=-1.0)
        again = [it for it in self._of[run.name] if it.succeeded and it.began >= last]
        return bool(found.stored <= last) and len(again) == 1

    def _may_be_gone(self, run: Run) -> bool:
        """
        Return whether an object may have been removed: it was never acknowledged, and the
        removal of its marker failed, or the power was cut before it had become durable.
        """
        attempt = self._history.names.get(run.name)
        told = attempt is not None and attempt.told == STORED
        return self._objects is not None and not told and (self.cut >= 0 or self.disk_fails)

    def _content(self, run: Run) -> bytes | None:
        if self._objects is not None:
            found = self._objects.get(run.name)
            return None if found is None else bytes(found.content)
        path = f"{self._directory}/{run.name}"
        if run.variables["UPLOAD_PATH"] != path:
            raise self._history.wrong(f"{run!r} was told {run.variables['UPLOAD_PATH']}")
        if not self._file_system.exists(path):
            return None
        content: bytes = self._file_system.content(path)
        return content

    def check_durable(self) -> None:
        """What a program was told of survives a power cut."""
        for name, content in self._contents.items():
            if self._objects is not None:
                continue
            path = f"{self._directory}/{name}"
            if not self._file_system.exists(path) or self._file_system.content(path) != content:
                raise self._history.wrong(f"a program was told of {name}, which a cut took away")

    def waiting(self) -> list[str]:
        """Return the markers of files whose programs have not succeeded."""
        return self._markers(WAITING)

    def check_finally(self, names: Iterable[str]) -> None:
        """
        When all is quiet, no file waits for its program: it has succeeded, or has failed as
        often as it may and was set aside.

        :param names: of all visible files.
        """
        waiting = self.waiting()
        if waiting:
            raise self._history.wrong(f"programs that were not started: {waiting}")
        aside = len(self._markers(FAILED))
        failed = 0
        for name in names:
            runs = self._of.get(name, [])
            attempt = self._history.names.get(name)
            if self._objects is not None and (attempt is None or attempt.told != STORED):
                continue  # an object that was never acknowledged: it has no marker
            if not runs:
                raise self._history.wrong(f"no program was told of {name}: {attempt!r}")
            failed += not any(it.succeeded for it in runs)
        if failed > aside:
            raise self._history.wrong(f"{failed} files without success, {aside} set aside")

    def _markers(self, where: str) -> list[str]:
        folder = f"{self._directory}/{HOOKS}/{where}"
        if not self._file_system.exists(folder):
            return []
        return [name for name in self._file_system.names(folder) if MARKER_NAME.match(name)]
