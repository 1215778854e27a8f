"""
Folders of ours inside a drop folder: hidden, on the same file system, mode 0700.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from twisted_upload.files import Files

__all__ = ["open_private"]


def open_private(above: int, name: str, files: Files) -> int:
    """
    Open one, and create it where it is missing, durably.

    :param above: descriptor of the folder that it is in.
    :return: its descriptor.
    :raises OSError: it cannot be used.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=above)
        files.fsync(above)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(name, flags, dir_fd=above)
    try:
        status = os.fstat(folder)
        if status.st_dev != os.fstat(above).st_dev:
            raise OSError(errno.EXDEV, "it is on another file system than the directory")
        if stat.S_IMODE(status.st_mode) != 0o700:
            os.fchmod(folder, 0o700)
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except BaseException:
        os.close(folder)
        raise
    return folder
