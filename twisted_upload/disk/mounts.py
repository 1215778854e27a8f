"""
Finds the file system that a path is on.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

__all__ = ["Mount", "mount_of"]

MOUNTS = "/proc/self/mountinfo"

_IN_MEMORY = {"tmpfs", "ramfs"}
_ELSEWHERE = {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs", "glusterfs", "virtiofs"}


@dataclass(frozen=True, slots=True)
class Mount:
    """
    A mounted file system.

    :ivar kind: type, such as ``ext4``, ``nfs4``, ``fuse.sshfs``.
    :ivar point: mount point.
    :ivar source: what is mounted, such as a device or a server.
    """

    kind: str
    point: str
    source: str

    @property
    def doubt(self) -> str:
        """Why a stored file may not be durable on it, as text; empty if there is no reason."""
        if self.kind in _IN_MEMORY:
            return "it is in memory: files there do not survive a restart of the machine"
        if self.kind in _ELSEWHERE or self.kind.partition(".")[0] == "fuse":
            return "files there are only as safe as the server makes them"
        return ""


def mount_of(path: str, mounts: str) -> Mount | None:
    """
    Return the file system that a path is on.

    :param path: absolute path without symbolic links; it need not exist.
    :param mounts: the text of ``/proc/self/mountinfo``; see proc(5).
    """
    found = None
    for line in mounts.splitlines():
        fields, separator, more = line.partition(" - ")
        if not separator:
            continue
        point = _unescaped(fields.split()[4])
        kind, source, *_ = [*more.split(), "", ""]
        # Of several on one mount point, the last hides the others.
        if _is_in(path, point) and (found is None or len(point) >= len(found.point)):
            found = Mount(kind, point, _unescaped(source))
    return found


def _is_in(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
