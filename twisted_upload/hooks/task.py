"""
A file whose program is to be started, or which is to be forwarded: what a thread does
for it, and what came of it.
"""

from __future__ import annotations

from dataclasses import replace

from twisted_upload.hooks.command import HookEnd
from twisted_upload.hooks.interfaces import IHookCommand
from twisted_upload.hooks.log import reason
from twisted_upload.hooks.marked_file import sha256_of
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool

__all__ = ["HookTask", "not_started", "nothing_to_do"]


class HookTask:
    """
    A file, and what has been done for it since it became known here.

    :param spool: holds its marker.
    :ivar failures: how often the program, or forwarding, has failed.
    :ivar tries: how often it has failed, whether it ran or not.
    :ivar waits: for what another daemon has started.
    :ivar succeeded: whether it has succeeded here, with or without its marker removed.
    """

    __slots__ = ("_success", "failures", "marker", "spool", "succeeded", "tries", "waits")

    def __init__(self, spool: HookSpool, marker: Marker) -> None:
        self.spool = spool
        self.marker = marker
        self.failures = 0
        self.tries = 0
        self.waits = False
        self.succeeded = False
        self._success: HookEnd | None = None  # its marker could not be removed

    def run(self, command: IHookCommand) -> HookEnd | None:
        """
        Do what is to be done, and remove the marker if that has succeeded.  Waits for the
        disk, and for the program or the network.

        :return: how it ended; None if another daemon is still doing it.
        :raises Exception: it was not started.
        """
        spool, marker = self.spool, self.marker
        try:
            held = spool.lock(marker, command.end_orphans)
        except FileNotFoundError:
            return nothing_to_do("its marker is gone")
        if held is None:
            return None
        try:
            end = self._success or self._start(command, held)
        finally:
            spool.files.give_up(held)  # nothing was written to it
        if not end.succeeded:
            return end
        self.succeeded |= end.ran
        try:
            spool.remove(marker)
        except OSError as error:
            self._success = replace(end, ran=False)  # its run is counted now
            what = f"{end.what}, but its marker cannot be removed: {reason(error)}"
            return replace(end, what=what, succeeded=False, counts=False)
        return end

    def _start(self, command: IHookCommand, held: int) -> HookEnd:
        spool, marker = self.spool, self.marker
        if sha256_of(spool, marker) is None:
            return nothing_to_do("the file is gone")
        return command.run(spool, marker, self.failures + 1, held)


def not_started(error: BaseException | None) -> HookEnd:
    """Return an error before the start, such as an unreadable file, as an end."""
    return HookEnd(
        f"not started: {reason(error)}",
        succeeded=False,
        seconds=0.0,
        ran=False,
        counts=not isinstance(error, OSError),
    )


def nothing_to_do(why: str) -> HookEnd:
    """Return the end for a file for which nothing is left to do."""
    return HookEnd(f"nothing to do, {why}", succeeded=True, seconds=0.0, ran=False)
