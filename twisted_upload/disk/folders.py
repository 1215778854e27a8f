"""
Creation of the drop folder at a start (`NewFolders`), and our private folders inside it
(`open_private`): hidden, on the same file system, mode 0700, and created by us.

A folder of such a name that another user has created is not used: in a directory in
which anyone may create files, that user would decide what is published, and for which
files a program is started.  Since no other user can write to our folders, a name in
them refers to what we have created, for as long as we have the folder open.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Sequence

from twisted_upload.disk.files import Files

__all__ = ["NewFolders", "open_own_file", "open_private"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEFAULT_ACL = "system.posix_acl_default"
_NO_ACL = (errno.ENODATA, errno.EOPNOTSUPP)
_NEW_FOLDER_MODE = 0o750


class NewFolders:
    """
    The missing folders of a drop folder: a start creates them, and removes them again if
    it fails.

    :param path: path of the drop folder.
    :param inside: paths of our private folders, relative to the drop folder, outermost
        first.
    """

    def __init__(self, path: str, inside: Sequence[str] = ()) -> None:
        self._drop_folder = os.path.abspath(path)
        missing = []
        folder = self._drop_folder
        while not os.path.lexists(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        self._above = missing[::-1]
        ours = [os.path.join(self._drop_folder, name) for name in inside]
        self._inside = [folder for folder in ours if not os.path.lexists(folder)]

    def make(self, files: Files) -> None:
        """
        Create the drop folder and its parents; sync the parent of each.

        :raises OSError: one cannot be created.
        """
        for folder in self._above:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
                # Pass on the setgid bit, and with it the group; not every user may do that.
                inherited = os.stat(folder).st_mode & stat.S_ISGID
                with contextlib.suppress(PermissionError):
                    os.chmod(folder, _NEW_FOLDER_MODE | inherited)
            _sync_path(os.path.dirname(folder), files)

    def remove(self) -> None:
        """Remove those that belong to us and that no other process has begun to use."""
        for folder in reversed([*self._above, *self._inside]):
            with contextlib.suppress(OSError):
                if os.lstat(folder).st_uid == os.geteuid() and not _is_claimed(folder):
                    os.rmdir(folder)


def _is_claimed(path: str) -> bool:
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return Files().is_claimed(folder)
    finally:
        os.close(folder)


def _sync_path(path: str, files: Files) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        files.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_private(above: int, name: str, files: Files) -> int:
    """
    Open one of our private folders; if it is missing, create it durably.

    Files created in it get the same attributes as files created in its parent folder:
    the group if that is setgid, and the entries of its default ACL.

    :param above: file descriptor of the parent folder.
    :return: its file descriptor.
    :raises OSError: it cannot be used; the text is for the operator.
    """
    _make(above, name, files)
    folder = _open(above, name)
    try:
        if os.fstat(folder).st_dev != os.fstat(above).st_dev:
            raise OSError(errno.EXDEV, "it is not on the same file system as the directory")
        _check_owner(folder, name)
        _set_permissions(folder, above, name)
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=folder, effective_ids=True):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except BaseException:
        os.close(folder)
        raise
    return folder


def open_own_file(folder: int, name: str, flags: int) -> int:
    """
    Open a file in one of our private folders, if it can be ours and no other user can
    have written it.

    :param folder: file descriptor of the folder, as opened by `open_private`: files that
        we create there have the same owner.
    :raises ValueError: it cannot be ours, or another user can have written it; the text
        says why.
    """
    owner = os.fstat(folder).st_uid
    # If it is not a regular file, do not even open it: opening may have side effects.
    _require_ours(os.stat(name, dir_fd=folder, follow_symlinks=False), owner)
    flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        _require_ours(os.fstat(descriptor), owner)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_ours(status: os.stat_result, owner: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is not a file")
    if status.st_uid != owner:
        raise ValueError(f"it belongs to uid {status.st_uid}")
    if status.st_mode & 0o022:
        raise ValueError("other users may write to it")
    if status.st_nlink > 1:
        raise ValueError("it has another hard link")


def _make(above: int, name: str, files: Files) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=above)
        files.fsync(above)


def _open(above: int, name: str) -> int:
    try:
        return os.open(name, _FOLDER, dir_fd=above)
    except PermissionError:
        owner = os.stat(name, dir_fd=above, follow_symlinks=False).st_uid
        if owner == os.geteuid():
            raise
        raise _foreign_owner(name, owner) from None


def _check_owner(folder: int, name: str) -> None:
    owner = os.fstat(folder).st_uid
    if owner != os.geteuid() and owner != _owner_of_new_files(folder):
        raise _foreign_owner(name, owner)


def _foreign_owner(name: str, owner: int) -> PermissionError:
    return PermissionError(
        errno.EPERM,
        f"{name} belongs to uid {owner}, and this daemon runs as uid {os.geteuid()}: chown -R it"
        " if an earlier run of this daemon created it, otherwise remove it",
    )


def _owner_of_new_files(folder: int) -> int | None:
    """
    Return the owner of files that we create there; `None` if we cannot create any.

    It is not always our own user: an NFS server may map root to nobody, and on some file
    systems every file belongs to the user who mounted them.
    """
    name = f"owner-test-{secrets.token_hex(6)}"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    except OSError:
        return None
    try:
        os.unlink(name, dir_fd=folder)
        return os.fstat(descriptor).st_uid
    finally:
        os.close(descriptor)


def _set_permissions(folder: int, above: int, name: str) -> None:
    wanted, status = os.fstat(above), os.fstat(folder)
    setgid = wanted.st_mode & stat.S_ISGID
    try:
        if setgid and status.st_gid != wanted.st_gid:
            os.fchown(folder, -1, wanted.st_gid)
        if stat.S_IMODE(os.fstat(folder).st_mode) != 0o700 | setgid:
            os.fchmod(folder, 0o700 | setgid)
        passes_on = not setgid or os.fstat(folder).st_mode & stat.S_ISGID
    except PermissionError:
        if not setgid:
            raise
        passes_on = False
    if not passes_on:
        # Only a member of a group may assign it, but a new folder inherits it.
        raise PermissionError(
            errno.EPERM,
            f"{name} does not inherit the group of the directory, gid {wanted.st_gid}, which is"
            " setgid: remove it while no daemon is running; it will be recreated",
        )
    _copy_default_acl(above, folder)


def _copy_default_acl(above: int, folder: int) -> None:
    wanted = _default_acl(above)
    if wanted == _default_acl(folder):
        return
    if wanted is None:
        os.removexattr(folder, _DEFAULT_ACL)
    else:
        os.setxattr(folder, _DEFAULT_ACL, wanted)


def _default_acl(folder: int) -> bytes | None:
    try:
        return os.getxattr(folder, _DEFAULT_ACL)
    except OSError as error:
        if error.errno not in _NO_ACL:
            raise
        return None
