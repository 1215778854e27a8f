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
import stat
from collections.abc import Iterator, Sequence

from twisted_upload.disk.files import Files

__all__ = ["NewFolders", "open_own_file", "open_private"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_DEFAULT_ACL = "system.posix_acl_default"
_NO_ACL = (errno.ENODATA, errno.EOPNOTSUPP)
_NEW_FOLDER_MODE = 0o750


class NewFolders:
    """
    The missing folders of a drop folder: a start creates them, and removes them again if
    it fails.

    :param path: path of the drop folder.
    :param files: the system calls.
    :param inside: paths of our private folders, relative to the drop folder, outermost
        first.
    """

    def __init__(self, path: str, files: Files, inside: Sequence[str] = ()) -> None:
        self._files = files
        self._drop_folder = os.path.abspath(path)
        missing = []
        folder = self._drop_folder
        while not self._is_there(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        self._above = missing[::-1]
        ours = [os.path.join(self._drop_folder, name) for name in inside]
        self._inside = [folder for folder in ours if not self._is_there(folder)]

    def _is_there(self, path: str) -> bool:
        try:
            self._files.status_of(path)
        except OSError:
            return False
        return True

    def make(self) -> None:
        """
        Create the drop folder and its parents; sync the parent of each.

        :raises OSError: one cannot be created.
        """
        files = self._files
        for folder in self._above:
            with contextlib.suppress(FileExistsError):
                files.make_folder(folder, 0o777)
                with _opened(folder, _FOLDER, files) as descriptor:
                    # Pass on the setgid bit, and with it the group; not every user may do that.
                    inherited = files.status(descriptor).st_mode & stat.S_ISGID
                    with contextlib.suppress(PermissionError):
                        files.chmod(descriptor, _NEW_FOLDER_MODE | inherited)
            with _opened(os.path.dirname(folder), os.O_RDONLY | os.O_DIRECTORY, files) as above:
                files.fsync(above)

    def remove(self) -> None:
        """Remove those that belong to us and that no other process has begun to use."""
        files = self._files
        for folder in reversed([*self._above, *self._inside]):
            with contextlib.suppress(OSError):
                is_ours = files.status_of(folder).st_uid == files.user()
                if is_ours and not self._is_claimed(folder):
                    files.remove_folder(folder)

    def _is_claimed(self, path: str) -> bool:
        with _opened(path, _FOLDER, self._files) as folder:
            return self._files.is_claimed(folder)


@contextlib.contextmanager
def _opened(path: str, flags: int, files: Files) -> Iterator[int]:
    descriptor = files.open(path, flags)
    try:
        yield descriptor
    finally:
        files.close(descriptor)


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
    folder = _open(above, name, files)
    try:
        if files.status(folder).st_dev != files.status(above).st_dev:
            raise OSError(errno.EXDEV, "it is not on the same file system as the directory")
        _check_owner(folder, name, files)
        _set_permissions(folder, above, name, files)
        if not files.can_write(".", folder=folder):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except BaseException:
        files.close(folder)
        raise
    return folder


def open_own_file(folder: int, name: str, flags: int, files: Files) -> int:
    """
    Open a file in one of our private folders, if it can be ours and no other user can
    have written it.

    :param folder: file descriptor of the folder, as opened by `open_private`: files that
        we create there have the same owner.
    :raises ValueError: it cannot be ours, or another user can have written it; the text
        says why.
    """
    owner = files.status(folder).st_uid
    # If it is not a regular file, do not even open it: opening may have side effects.
    _require_ours(files.status_of(name, folder=folder), owner)
    descriptor = files.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, folder=folder)
    try:
        _require_ours(files.status(descriptor), owner)
    except BaseException:
        files.close(descriptor)
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
        files.make_folder(name, 0o700, folder=above)
        files.fsync(above)


def _open(above: int, name: str, files: Files) -> int:
    try:
        return files.open(name, _FOLDER, folder=above)
    except PermissionError:
        owner, user = files.status_of(name, folder=above).st_uid, files.user()
        if owner == user:
            raise
        raise _foreign_owner(name, owner, user) from None


def _check_owner(folder: int, name: str, files: Files) -> None:
    owner, user = files.status(folder).st_uid, files.user()
    if owner != user and owner != _owner_of_new_files(folder, files):
        raise _foreign_owner(name, owner, user)


def _foreign_owner(name: str, owner: int, user: int) -> PermissionError:
    return PermissionError(
        errno.EPERM,
        f"{name} belongs to uid {owner}, and this daemon runs as uid {user}: chown -R it"
        " if an earlier run of this daemon created it, otherwise remove it",
    )


def _owner_of_new_files(folder: int, files: Files) -> int | None:
    """
    Return the owner of files that we create there; `None` if we cannot create any.

    It is not always our own user: an NFS server may map root to nobody, and on some file
    systems every file belongs to the user who mounted them.
    """
    name = f"owner-test-{files.random(6).hex()}"
    try:
        descriptor = files.open(name, _NEW, folder=folder)
    except OSError:
        return None
    try:
        files.unlink(folder, name)
        return files.status(descriptor).st_uid
    finally:
        files.close(descriptor)


def _set_permissions(folder: int, above: int, name: str, files: Files) -> None:
    wanted, status = files.status(above), files.status(folder)
    setgid = wanted.st_mode & stat.S_ISGID
    try:
        if setgid and status.st_gid != wanted.st_gid:
            files.set_owner(folder, -1, wanted.st_gid)
        if stat.S_IMODE(files.status(folder).st_mode) != 0o700 | setgid:
            files.chmod(folder, 0o700 | setgid)
        passes_on = not setgid or files.status(folder).st_mode & stat.S_ISGID
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
    wanted_acl = _default_acl(above, files)
    if wanted_acl != _default_acl(folder, files):
        files.set_attribute(folder, _DEFAULT_ACL, wanted_acl)


def _default_acl(folder: int, files: Files) -> bytes | None:
    try:
        return files.attribute(folder, _DEFAULT_ACL)
    except OSError as error:
        if error.errno not in _NO_ACL:
            raise
        return None
