"""
The drop folder: created and tested, or refused with one line.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.folders import LEFTOVER, open_drop_folder
from tests.support.processes import open_descriptors
from tests.support.stores import contents, leftovers
from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.errors import CannotStart
from twisted_upload.stores.directory.folder import INCOMING, open_folder, same_file_system


def _why_not(path: Path, files: Files | None = None) -> str:
    """Return the line for the operator; nothing stays open."""
    before = open_descriptors(path.parent)
    with pytest.raises(CannotStart) as raised:
        open_drop_folder(path, files)
    line = str(raised.value)
    assert "\n" not in line
    assert str(path) in line
    del raised
    assert open_descriptors(path.parent) == before
    return line


@pytest.fixture
def nobody() -> Iterator[Callable[[Path, int], str]]:
    """Tell why a user without privileges cannot use a folder, given the mode of its parent."""
    with tempfile.TemporaryDirectory() as temporary:

        def why_not(path: Path, mode: int) -> str:
            above = Path(temporary) / path
            above.parent.chmod(0o755)
            above.mkdir(exist_ok=True)
            above.chmod(mode)
            uid = os.geteuid()
            if uid == 0:
                os.seteuid(65534)
            try:
                return _why_not(above / "inbox" if path.name == "above" else above)
            finally:
                if uid == 0:
                    os.seteuid(0)
                above.chmod(0o755)

        yield why_not


# -- creating -----------------------------------------------------------------


def test_made_with_parents(tmp_path: Path) -> None:
    """A missing folder is created with its parents, each synced in its own parent."""
    synced: list[str] = []

    class Watched(Files):
        def fsync(self, descriptor: int) -> None:
            synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            super().fsync(descriptor)

    path = tmp_path / "one" / "two" / "three"
    open_drop_folder(path, Watched())
    assert os.listdir(path) == [INCOMING]
    assert leftovers(path) == []
    for folder in tmp_path, tmp_path / "one", tmp_path / "one" / "two", path:
        assert str(folder) in synced


def test_modes(inbox: Path) -> None:
    """Unfinished files are private, whatever the umask; a new folder is not open to all."""
    before = os.umask(0)
    try:
        open_drop_folder(inbox)
    finally:
        os.umask(before)
    assert stat.S_IMODE(inbox.stat().st_mode) == 0o750
    assert stat.S_IMODE((inbox / INCOMING).stat().st_mode) == 0o700


def test_existing_mode_is_the_operators(inbox: Path) -> None:
    """The mode of an existing folder is not changed."""
    inbox.mkdir()
    inbox.chmod(0o2775)
    open_drop_folder(inbox)
    assert stat.S_IMODE(inbox.stat().st_mode) == 0o2775


def test_too_open_incoming(incoming: Path) -> None:
    """A ``.incoming/`` that others could enter is closed to them."""
    incoming.chmod(0o777)
    open_drop_folder(incoming.parent)
    assert stat.S_IMODE(incoming.stat().st_mode) == 0o700


def test_link_to_a_folder(tmp_path: Path) -> None:
    """The folder itself may be a symbolic link: that is the operator's choice."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "inbox").symlink_to("elsewhere")
    open_drop_folder(tmp_path / "inbox")
    assert os.listdir(tmp_path / "elsewhere") == [INCOMING]


def test_odd_names(tmp_path: Path) -> None:
    """A folder may have any name."""
    for name in "with space", "上传", "-rf", "new\nline":
        path = tmp_path / name
        open_drop_folder(path)
        assert os.listdir(path) == [INCOMING]


def test_the_test_shows_nothing(inbox: Path) -> None:
    """The self-test of a folder shows no file in it, and leaves none."""
    renames: list[tuple[int, int]] = []

    class Watched(Files):
        def rename(self, source: int, name: str, target: int, new_name: str) -> None:
            renames.append((source, target))
            super().rename(source, name, target, new_name)

    folder = open_drop_folder(inbox, Watched())
    assert renames == [(folder.incoming, folder.incoming)]
    assert contents(inbox) == {}
    assert leftovers(inbox) == []


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_cannot_rename_without_replacing(inbox: Path, error: int) -> None:
    """Without RENAME_NOREPLACE, files will be published by link and unlink."""
    files = FaultyFiles()
    files.fail("rename", error)
    assert not open_drop_folder(inbox, files).by_rename
    assert open_drop_folder(inbox, files).by_rename
    assert leftovers(inbox) == []


def test_descriptors_go_with_the_last_user(inbox: Path) -> None:
    """A folder's file descriptors stay open until its last user closes it."""
    before = open_descriptors(inbox)
    folder = open_drop_folder(inbox)
    during = open_descriptors(inbox)
    assert len(during) > len(before)
    also = folder
    del folder
    assert open_descriptors(inbox) == during
    del also
    assert open_descriptors(inbox) == before


def test_same_file_system(tmp_path: Path) -> None:
    """Two folders of one file system are distinguished from two of different ones, or of none."""
    one, other = open_drop_folder(tmp_path / "one"), open_drop_folder(tmp_path / "other")
    assert same_file_system(one.final, other.final, one.files)
    proc = os.open("/proc", os.O_RDONLY)
    try:
        assert not same_file_system(one.final, proc, one.files)
    finally:
        os.close(proc)
    assert not same_file_system(one.final, proc, one.files)


# -- why not ------------------------------------------------------------------


def test_linked_incoming(inbox: Path, tmp_path: Path) -> None:
    """A ``.incoming`` that is a symbolic link is refused: it could lead anywhere."""
    inbox.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / LEFTOVER).write_bytes(b"not ours")
    (inbox / INCOMING).symlink_to(tmp_path / "elsewhere")
    assert INCOMING in _why_not(inbox)
    assert (tmp_path / "elsewhere" / LEFTOVER).read_bytes() == b"not ours"
    (inbox / INCOMING).unlink()


def test_incoming_is_a_file(inbox: Path) -> None:
    """A ``.incoming`` that is a file is refused, and left alone."""
    inbox.mkdir()
    (inbox / INCOMING).write_bytes(b"x")
    assert _why_not(inbox).endswith("Not a directory")
    assert (inbox / INCOMING).read_bytes() == b"x"


def test_not_a_folder(inbox: Path) -> None:
    """A file in place of the folder is refused."""
    inbox.write_bytes(b"x")
    assert _why_not(inbox).endswith("Not a directory")


def test_below_a_file(inbox: Path) -> None:
    """A folder below a file is refused."""
    inbox.write_bytes(b"x")
    assert _why_not(inbox / "below").endswith("Not a directory")


def test_dangling_link(inbox: Path) -> None:
    """A dangling symbolic link is refused, and no folder is created."""
    inbox.symlink_to("nowhere")
    assert _why_not(inbox).endswith("No such file or directory")


def test_name_too_long(tmp_path: Path) -> None:
    """A name that is too long is refused with that reason."""
    assert _why_not(tmp_path / ("x" * 300)).endswith("File name too long")


@pytest.mark.parametrize("mode", [0o555, 0o444, 0o000])
def test_unwritable(nobody: Callable[[Path, int], str], mode: int) -> None:
    """A folder that we may not write to is refused."""
    assert nobody(Path("inbox"), mode).endswith("Permission denied")


def test_unwritable_parent(nobody: Callable[[Path, int], str]) -> None:
    """A folder that we may not create is refused."""
    line = nobody(Path("above"), 0o555)
    assert line.startswith("cannot create the directory ")
    assert line.endswith("/above/inbox: Permission denied")


@pytest.mark.parametrize(
    ("call", "after"),
    [
        ("create", 0),
        ("lock", 0),
        ("write", 0),
        ("fsync", 0),
        ("fsync", 1),
        ("fsync", 2),
        ("fsync", 3),
        ("rename", 0),
        ("close", 0),
    ],
)
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EROFS])
def test_every_failure(inbox: Path, call: str, after: int, error: int) -> None:
    """If any step of the write path fails, the folder is refused with the reason."""
    files = FaultyFiles()
    files.fail(call, error, after=after)
    assert os.strerror(error) in _why_not(inbox, files)
    assert not inbox.exists()


def test_closing_fails_too(inbox: Path) -> None:
    """If even the folders cannot be closed after a failure, the reason is still the failure."""

    class Failing(FaultyFiles):
        def create(self, directory: int, name: str, mode: int) -> int:
            self.fail("close", errno.EIO, times=9)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    files = Failing()
    assert os.strerror(errno.ENOSPC) in _why_not(inbox, files)


def test_no_locks(inbox: Path) -> None:
    """
    A file system without locks is refused: a sweep could not tell dead daemons from
    living ones.
    """
    files = FaultyFiles()
    files.lock = lambda descriptor: False  # type: ignore[method-assign]
    assert "flock" in _why_not(inbox, files)
    assert not inbox.exists()


@pytest.mark.parametrize("moment", ["before the lock", "while it is being tried"])
def test_another_sweep_during_the_test(inbox: Path, moment: str) -> None:
    """If a daemon that starts beside us sweeps our test file away, another one is written."""
    files = FaultyFiles()
    lock = files.lock
    swept = 0

    def swept_first(descriptor: int) -> bool:
        nonlocal swept
        swept += 1
        if swept > 3:
            return lock(descriptor)
        if moment == "before the lock":
            (left,) = (inbox / INCOMING).glob("upload-*")
            left.unlink()
            return lock(descriptor)
        return False

    files.lock = swept_first  # type: ignore[method-assign]
    open_drop_folder(inbox, files)
    assert swept == 4
    assert leftovers(inbox) == []


def test_a_disk_that_writes_nothing(inbox: Path) -> None:
    """A file system that writes no byte, and reports no error, counts as full."""
    files = FaultyFiles()
    files.write = lambda descriptor, data: 0  # type: ignore[method-assign]
    assert _why_not(inbox, files).endswith("No space left on device")


def test_another_file_system(inbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ``.incoming`` on another file system is refused: files cannot be renamed out of it."""
    fstat: Callable[[int], os.stat_result] = os.fstat
    devices = iter(range(100))

    def elsewhere(descriptor: int) -> os.stat_result:
        status = list(fstat(descriptor))
        status[stat.ST_DEV] = next(devices)
        return os.stat_result(status)

    monkeypatch.setattr("twisted_upload.stores.directory.folder.os.fstat", elsewhere)
    assert _why_not(inbox).endswith("it is not on the same file system as the directory")


def test_temporary_names_in_many_threads(tmp_path: Path) -> None:
    """Threads that need temporary names at the same time get different ones."""
    folder = open_folder(str(tmp_path / "inbox"), files=Files(), suffix=lambda _: "")
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            names = [*threads.map(lambda _: [folder.temporary() for _ in range(2000)], range(8))]
    finally:
        sys.setswitchinterval(interval)
    assert len({name for some in names for name in some}) == 16000
