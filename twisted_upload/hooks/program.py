"""
What is done for each file with ``--on-upload``: a program is started, with what is known
of the file in its environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Protocol

from twisted_upload.hooks.command import HookEnd
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool

__all__ = ["IProgram", "ProgramCommand"]


class IProgram(Protocol):
    """The program; see `twisted_upload.hooks.command.HookCommand`."""

    def check(self) -> None:
        """See `HookCommand.check`."""

    def start(self) -> None:
        """See `HookCommand.start`."""

    def run(self, variables: Mapping[str, str], held: int | None = None) -> HookEnd:
        """See `HookCommand.run`."""

    def end_orphans(self, held: int, folder: int) -> None:
        """See `HookCommand.end_orphans`."""

    def stop(self) -> None:
        """See `HookCommand.stop`."""

    def close(self) -> None:
        """See `HookCommand.close`."""


class ProgramCommand:
    """
    Starts a program for each file: see `twisted_upload.hooks.interfaces.IHookCommand`.

    :param program: the program.
    """

    def __init__(self, program: IProgram) -> None:
        self._program = program
        self.check, self.start = program.check, program.start
        self.stop, self.close = program.stop, program.close
        self.end_orphans = program.end_orphans

    def run(self, spool: HookSpool, marker: Marker, attempt: int, held: int) -> HookEnd:
        """See `IHookCommand.run`."""
        variables = {
            "NAME": marker.name,
            "PATH": "" if marker.url else os.path.join(spool.path, marker.name),
            "URL": marker.url,
            "SIZE": str(marker.size),
            "SHA256": marker.sha256 or "",
            "PEER": marker.peer,
            "LISTENER": marker.listener,
            "ARRIVED": f"{int(marker.arrived * 1000) / 1000:.3f}",  # as in the name
            "ATTEMPT": str(attempt),
            "ORIGINAL_NAME": marker.metadata.original_name,
            "CONTENT_TYPE": marker.metadata.content_type,
            "LABEL": marker.metadata.label,
            "FOLDER": marker.metadata.folder,
        }
        # An abstract unix address begins with a NUL, which no variable can hold.
        return self._program.run(
            {f"UPLOAD_{name}": value.replace("\0", "@") for name, value in variables.items()}, held
        )
