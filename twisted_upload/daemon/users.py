"""
The user that the daemon runs as: twistd's ``--uid``, ``--gid``, ``--euid``, ``--chroot``.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from twisted.python.util import initgroups, runAsEffectiveUser

from twisted_upload.errors import CannotStart, WrongConfiguration

__all__ = ["check_user", "run_as_user"]


def check_user(twistd: Mapping[str, Any], *, programs: bool) -> None:
    """
    Refuse options that cannot work, or that do not do what they seem to.

    :param twistd: the options of twistd.
    :param programs: whether programs are started for stored files.
    :raises WrongConfiguration: with one line for the operator.
    """
    if twistd.get("chroot"):
        raise WrongConfiguration(
            "--chroot: not supported, because workers, programs and parts of Python are outside"
            " it: use RootDirectory= in systemd, or a container"
        )
    if twistd.get("euid") and programs:
        raise WrongConfiguration(
            f"--euid: --on-upload programs could switch back to uid {os.getuid()}: leave out"
            " --euid, so that --uid is permanent"
        )


def run_as_user(twistd: Mapping[str, Any], function: Callable[[], None]) -> None:
    """
    Call a function as the user that twistd will run as, with that user's groups.

    :raises CannotStart: only root can, or there is no such user.
    """
    uid, gid = twistd.get("uid"), twistd.get("gid")
    if uid is None and gid is None:
        function()
        return
    try:
        its_gid = None if uid is None else pwd.getpwuid(uid).pw_gid
    except KeyError:
        raise CannotStart(f"cannot run as uid {uid}: no such user") from None
    if gid is None:
        gid = its_gid
    try:
        with _groups_of(uid, gid):
            runAsEffectiveUser(os.geteuid() if uid is None else uid, gid, function)
    except PermissionError as error:
        raise CannotStart(f"cannot run as uid {uid} and gid {gid}: {error.strerror}") from error


@contextlib.contextmanager
def _groups_of(uid: int | None, gid: int | None) -> Iterator[None]:
    if uid is None or os.geteuid() != 0:
        yield
        return
    groups = os.getgroups()
    initgroups(uid, gid)
    try:
        yield
    finally:
        os.setgroups(groups)
