"""
The PID file: twistd's ``--pidfile``.
"""

from __future__ import annotations

import os
from typing import Any

from twisted_upload.errors import CannotStart

__all__ = ["check_pid_file", "omit_in_foreground"]


def omit_in_foreground(twistd: Any) -> None:
    """
    Have twistd write no PID file in the foreground, unless one was asked for.

    The parent of a daemon started with ``-n`` knows its PID; and two daemons may run in
    the same folder, or in one that is not writable.  Call this while twistd parses
    its command line, before it looks for the file.

    :param twistd: the options of twistd.
    """
    foreground = twistd.get("nodaemon") or twistd.get("debug")
    # A given value is a different object from the default, even if it is equal.
    if foreground and twistd.get("pidfile") is twistd.defaults.get("pidfile"):
        twistd["pidfile"] = ""


def check_pid_file(path: str | None) -> None:
    """
    Test that the file can be written, and leave it unchanged.

    twistd writes it only after it has detached from the terminal.

    :param path: absolute, as made by twistd: ``--rundir`` does not move the file.
    :raises CannotStart: it cannot be written.
    """
    if not path:
        return
    missing = not os.path.lexists(path)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666))
    except OSError as error:
        raise CannotStart(f"--pidfile: cannot write {path}: {error.strerror}") from error
    if missing:
        os.unlink(path)
