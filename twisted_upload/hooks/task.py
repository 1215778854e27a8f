"""
A file whose program is to be started: what a thread does for it, and what came of it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from twisted_upload.hooks.command import HookEnd
from twisted_upload.hooks.log import reason
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool

__all__ = ["HookTask", "IHookCommand", "not_started"]


class IHookCommand(Protocol):
    """The program; see `twisted_upload.hooks.command.HookCommand`."""

    def check(self) -> None:
        """See `HookCommand.check`."""

    def start(self) -> None:
        """See `HookCommand.start`."""

    def run(self, variables: Mapping[str, str], held: int | None = None) -> HookEnd:
        """See `HookCommand.run`."""

    def stop(self) -> None:
        """See `HookCommand.stop`."""

    def close(self) -> None:
        """See `HookCommand.close`."""


class HookTask:
    """
    A file, and what has become of its program since the file became known here.

    :param spool: holds its marker.
    :ivar failures: how often the program has run and failed.
    :ivar tries: how often it has failed, whether it ran or not.
    :ivar waits: for a program that another daemon has started.
    """

    __slots__ = ("_success", "failures", "marker", "spool", "tries", "waits")

    def __init__(self, spool: HookSpool, marker: Marker) -> None:
        self.spool = spool
        self.marker = marker
        self.failures = 0
        self.tries = 0
        self.waits = False
        self._success: HookEnd | None = None  # its marker could not be removed

    def run(self, command: IHookCommand) -> HookEnd | None:
        """
        Start the program, wait until it ends, and remove the marker if it has succeeded.
        Waits for the disk.

        :return: how it ended; None if the program of another daemon is still running.
        :raises Exception: it was not started.
        """
        spool, marker = self.spool, self.marker
        try:
            held = spool.lock(marker)
        except FileNotFoundError:
            return _nothing("its marker is gone")
        if held is None:
            return None
        try:
            end = self._success or self._start(command, held)
        finally:
            os.close(held)
        if not end.succeeded:
            return end
        try:
            spool.remove(marker)
        except OSError as error:
            self._success = replace(end, ran=False)  # its run is counted now
            what = f"{end.what}, but its marker cannot be removed: {reason(error)}"
            return replace(end, what=what, succeeded=False, counts=False)
        return end

    def _start(self, command: IHookCommand, held: int) -> HookEnd:
        spool, marker = self.spool, self.marker
        sha256 = spool.digest(marker)
        if sha256 is None:
            return _nothing("the file is gone")
        variables = {
            "NAME": marker.name,
            "PATH": "" if marker.url else os.path.join(spool.path, marker.name),
            "URL": marker.url,
            "SIZE": str(marker.size),
            "SHA256": sha256,
            "PEER": marker.peer,
            "LISTENER": marker.listener,
            "ARRIVED": f"{int(marker.arrived * 1000) / 1000:.3f}",  # as in the name
            "ATTEMPT": str(self.failures + 1),
            "ORIGINAL_NAME": marker.metadata.original_name,
            "CONTENT_TYPE": marker.metadata.content_type,
            "LABEL": marker.metadata.label,
        }
        # An abstract unix address begins with a NUL, which no variable can hold.
        return command.run(
            {f"UPLOAD_{name}": value.replace("\0", "@") for name, value in variables.items()}, held
        )


def not_started(error: BaseException | None) -> HookEnd:
    """Return an error before the start, such as an unreadable file, as an end."""
    return HookEnd(
        f"not started: {reason(error)}",
        succeeded=False,
        seconds=0.0,
        ran=False,
        counts=not isinstance(error, OSError),
    )


def _nothing(why: str) -> HookEnd:
    return HookEnd(f"nothing to do, {why}", succeeded=True, seconds=0.0, ran=False)
