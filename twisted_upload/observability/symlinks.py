"""
Checking the owners of symbolic links on the path to a file that is written.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Iterator

__all__ = ["check_links"]

_MOST_LINKS = 40  # as many as the kernel follows: path_resolution(7)


def check_links(path: str, users: Collection[int] = ()) -> None:
    """
    Refuse a path that contains a symbolic link of another user.

    :param users: user ids whose links are allowed, besides our own and root's.
    :raises PermissionError: there is one; the text is for the operator.
    """
    ours = os.geteuid()
    for link in _links(os.path.abspath(path)):
        owner = os.lstat(link).st_uid
        if owner not in (0, ours, *users):
            raise PermissionError(
                errno.EPERM,
                f"the symbolic link {link} belongs to uid {owner}, not to uid {ours}: remove it",
            )


def _links(path: str) -> Iterator[str]:
    """Yield all symbolic links on the path to a file."""
    way, here, most = path.split("/")[::-1], "/", _MOST_LINKS
    while way and most:
        there = os.path.join(here, way.pop())
        if there.endswith("/") or not os.path.islink(there):
            here = there
            continue
        most -= 1
        yield there
        target = os.readlink(there)
        way += target.split("/")[::-1]
        here = "/" if target.startswith("/") else here
