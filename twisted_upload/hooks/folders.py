"""
The folders of a queue (`twisted_upload.hooks.spool`) in the drop folder.
"""

from __future__ import annotations

import contextlib

from twisted_upload.disk.files import Files
from twisted_upload.disk.folders import open_private
from twisted_upload.errors import CannotStart

__all__ = ["FAILED", "FORWARD", "HOOKS", "WAITING", "check_folders", "queue_folders"]

HOOKS, FORWARD = ".on-upload", ".forward"
WAITING, FAILED = "waiting", "failed"


def queue_folders(name: str) -> tuple[str, ...]:
    """Return the folders of a queue, relative to the drop folder, parents first."""
    return name, f"{name}/{WAITING}", f"{name}/{FAILED}"


def check_folders(path: str, final: int, files: Files, queue: str = HOOKS) -> None:
    """
    Check whether a queue can be opened, without becoming one of its owners.

    :param path: path of the drop folder.
    :param final: descriptor of the drop folder.
    :param queue: name of the queue's folder.
    :raises CannotStart: it cannot; the text says why.
    """
    with contextlib.ExitStack() as opened:
        above = final
        try:
            for name in queue, WAITING, FAILED:
                folder = open_private(above, name, files)
                opened.callback(files.give_up, folder)
                above = folder if name == queue else above
        except OSError as error:
            raise CannotStart(f"cannot use {path}/{queue}: {error.strerror}") from error
