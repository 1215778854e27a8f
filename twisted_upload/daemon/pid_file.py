"""
The file with the number of the daemon's process: twistd's ``--pidfile``.
"""

from __future__ import annotations

import os
from typing import Any

from twisted_upload.errors import CannotStart

__all__ = ["check_pid_file", "omit_in_foreground"]


def omit_in_foreground(twistd: Any) -> None:
    """
    Have twistd write no such file in the foreground, unless it was asked for one.

    A daemon that is started with ``-n`` is known to its parent; and two daemons may run in
    one folder, or in one that cannot be written.  To be called while twistd parses
    its command line, before it looks for the file.

    :param twistd: its options.
    """
    foreground = twistd.get("nodaemon") or twistd.get("debug")
    # What was given is another object, even where it reads the same.
    if foreground and twistd.get("pidfile") is twistd.defaults.get("pidfile"):
        twistd["pidfile"] = ""


def check_pid_file(path: str | None) -> None:
    """
    Test that the file can be written, and leave it as it was: twistd writes it when
    it has left the terminal.

    :param path: absolute, as twistd has made it: ``--rundir`` does not move the file.
    :raises CannotStart: it cannot.
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
