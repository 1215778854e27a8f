"""
The files of a journal.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.daemon import PATIENCE, on_a_file_system
from tests.support.processes import open_descriptors
from twisted_upload.disk.files import Files
from twisted_upload.errors import CannotStart
from twisted_upload.observability.journal_files import JournalFiles
from twisted_upload.observability.journal_reader import open_journal

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")


def journal(path: Path, size: int = 0, keep: int = 3) -> JournalFiles:
    return JournalFiles(str(path), Files(), size, keep)


def whole(path: Path) -> bytes:
    """Return all files of a journal, concatenated."""
    with open_journal(str(path)) as files:
        return b"".join(file.read() for file in files)


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path.parent))


# Appending


def test_append(path: Path) -> None:
    """Lines are appended to the file, which only its owner and group may read."""
    files = journal(path)
    assert files.append(b"one\n") is None
    assert files.append(b"two\nthree\n") is None
    assert path.read_bytes() == b"one\ntwo\nthree\n"
    assert path.stat().st_mode & 0o007 == 0
    assert open_descriptors(path.parent) == []


def test_torn_line(path: Path) -> None:
    """A line that a crash has torn is not continued."""
    path.write_bytes(b'{"time":"2026-')
    journal(path).append(b"one\n")
    assert path.read_bytes() == b'{"time":"2026-\none\n'


def test_all_or_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk is full in the middle of a line, nothing of it stays."""
    files = journal(path)
    files.append(b"one\n")
    write: Callable[..., int] = os.write
    full = iter([False, True])

    def little(descriptor: int, data: bytes) -> int:
        if next(full):
            raise OSError(28, "No space left on device")
        return write(descriptor, bytes(data[:2]))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", little)
        with pytest.raises(OSError, match="No space"):
            files.append(b"two\n")
    assert path.read_bytes() == b"one\n"
    files.append(b"two\n")
    assert path.read_bytes() == b"one\ntwo\n"
    assert open_descriptors(path.parent) == []


def test_slow_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A short write is continued."""
    write: Callable[..., int] = os.write
    monkeypatch.setattr(os, "write", lambda to, data: write(to, bytes(data[:3])))
    journal(path).append(b"one and two\n")
    assert path.read_bytes() == b"one and two\n"


def test_close_fails(path: Path) -> None:
    """Lines that have been synced are there, whatever close says: none is written twice."""

    class Failing(Files):
        def close(self, descriptor: int) -> None:
            super().close(descriptor)
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    files = JournalFiles(str(path), Failing(), 0, 3)
    assert files.append(b"one\n") is None
    assert path.read_bytes() == b"one\n"


def test_sync_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed sync is reported, and the lines are not written again."""

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    error = journal(path).append(b"one\n")
    assert error is not None
    assert error.strerror == "Input/output error"
    assert path.read_bytes() == b"one\n"


def test_renamed_by_others(path: Path) -> None:
    """Another program may rename, truncate or remove the file at any time."""
    files = journal(path)
    files.append(b"one\n")
    path.rename(f"{path}.1")
    files.append(b"two\n")
    assert path.read_bytes() == b"two\n"
    os.truncate(path, 0)
    files.append(b"three\n")
    assert path.read_bytes() == b"three\n"
    path.unlink()
    files.append(b"four\n")
    assert path.read_bytes() == b"four\n"


def test_renamed_while_it_waits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that waits for the lock of a file that is renamed appends to its successor."""
    files = journal(path)
    files.append(b"one\n")
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waits = threading.Event()
        monkeypatch.setattr(Files, "pause", lambda *_: waits.set())
        appending = threading.Thread(target=files.append, args=(b"two\n",))
        appending.start()
        assert waits.wait(PATIENCE)
        path.rename(f"{path}.1")
    appending.join()
    assert path.read_bytes() == b"two\n"


def test_a_lock_that_is_held_for_ever(path: Path) -> None:
    """
    A stalled process that holds the lock does not block a start, and delays each append
    for a limited time.
    """
    path.touch()
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        files = JournalFiles(str(path), Files(), 0, 3, patience=0.01)
        files.check()
        with pytest.raises(OSError, match="another process has locked it"):
            files.append(b"line\n")
    files.append(b"line\n")
    assert path.read_bytes() == b"line\n"


# Rotation


def test_rotation(path: Path) -> None:
    """
    A file that would become too large is numbered; only so many are kept, and 1 is the
    newest.
    """
    files = journal(path, size=10, keep=2)
    for line in (b"one\n", b"two\n", b"three\n", b"four\n", b"five\n", b"six\n", b"seven\n"):
        files.append(line)
    assert names(path) == ["journal", "journal.1", "journal.2"]
    assert path.read_bytes() == b"six\nseven\n"
    assert Path(f"{path}.1").read_bytes() == b"four\nfive\n"
    assert Path(f"{path}.2").read_bytes() == b"three\n"


def test_lines_stay_together(path: Path) -> None:
    """Lines larger than the maximum size get a separate file; none is torn."""
    files = journal(path, size=10)
    files.append(b"a long line\nand another\n")
    files.append(b"one\n")
    assert Path(f"{path}.1").read_bytes() == b"a long line\nand another\n"
    assert path.read_bytes() == b"one\n"


def test_no_rotation(path: Path) -> None:
    """A size of 0 disables rotation."""
    files = journal(path, size=0)
    files.append(bytes(100_000) + b"\n")
    files.append(b"one\n")
    assert names(path) == ["journal"]


def test_keep_nothing(path: Path) -> None:
    """With none to keep, the old file is removed when a new one begins."""
    files = journal(path, size=5, keep=0)
    files.append(b"one\n")
    files.append(b"two\n")
    assert names(path) == ["journal"]
    assert path.read_bytes() == b"two\n"


def test_keep_fewer(path: Path) -> None:
    """Files from a time when more were kept are removed."""
    for number in range(1, 6):
        Path(f"{path}.{number}").touch()
    Path(f"{path}.4").rename(f"{path}.4.gz")
    files = journal(path, size=5, keep=2)
    files.append(b"one\n")
    files.append(b"two\n")
    assert names(path) == ["journal", "journal.1", "journal.2"]


def test_compressed(path: Path) -> None:
    """Files that another program has compressed are renumbered too."""
    Path(f"{path}.1.gz").write_bytes(gzip.compress(b"zero\n"))
    files = journal(path, size=5)
    files.append(b"one\n")
    files.append(b"two\n")
    assert names(path) == ["journal", "journal.1", "journal.2.gz"]
    assert whole(path) == b"zero\none\ntwo\n"


def test_many_writers(path: Path) -> None:
    """Writers that share and rotate a journal lose, tear and repeat nothing."""

    def write(writer: int) -> None:
        files = journal(path, size=2000, keep=1000)
        for number in range(200):
            files.append(b'{"writer":%d,"number":%d}\n' % (writer, number))

    writing = [threading.Thread(target=write, args=(writer,)) for writer in range(4)]
    for thread in writing:
        thread.start()
    for thread in writing:
        thread.join()
    written = [json.loads(line) for line in whole(path).splitlines()]
    for writer in range(4):
        numbers = [line["number"] for line in written if line["writer"] == writer]
        assert numbers == [*range(200)]
    sizes = [os.path.getsize(path.parent / name) for name in names(path)]
    assert max(sizes) <= 2000
    assert len(sizes) > 5


# At start


def test_check(path: Path) -> None:
    """The check leaves the file in place and unchanged."""
    journal(path).check()
    assert path.read_bytes() == b""
    path.write_bytes(b"one\n")
    journal(path).check()
    assert path.read_bytes() == b"one\n"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (os.mkfifo, "it is not a regular file"),
        (lambda path: path.symlink_to("/dev/null"), "it is not a regular file"),
        (lambda path: path.symlink_to("missing/journal"), "No such file or directory"),
    ],
)
def test_cannot_be_written(path: Path, make: Callable[[Path], object], reason: str) -> None:
    """If the journal is not a writable file, one line says so and names the option."""
    make(path)
    with pytest.raises(CannotStart, match=reason) as raised:
        journal(path).check()
    assert str(raised.value).startswith("--journal: cannot write /")
    assert "\n" not in str(raised.value)


def test_folder_that_cannot_be_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the file cannot be renamed, the line says what to do."""
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    journal(path, size=0).check()
    with pytest.raises(CannotStart, match="set journal-size to 0"):
        journal(path, size=100).check()


def test_link(path: Path) -> None:
    """A symbolic link stays one; the file it names is rotated in its own folder."""
    (path.parent / "elsewhere").mkdir()
    path.symlink_to("elsewhere/real")
    files = journal(path, size=5)
    files.append(b"one\n")
    files.append(b"two\n")
    assert path.is_symlink()
    assert sorted(os.listdir(path.parent / "elsewhere")) == ["real", "real.1"]


@needs_root
@pytest.mark.parametrize("where", ["the file", "a folder", "behind ours", "absolute"])
def test_link_of_another_user(path: Path, where: str) -> None:
    """A link of another user is not followed, wherever it is in the path; the line names it."""
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir()
    link = path
    if where in ("the file", "absolute"):
        path.symlink_to("elsewhere/real" if where == "the file" else elsewhere / "real")
    elif where == "a folder":
        link = path.parent / "folder"
        link.symlink_to("elsewhere")
        path = link / ".." / "folder" / "journal"
    else:
        link = elsewhere / "theirs"
        link.symlink_to("real")
        path.symlink_to(link)
    os.lchown(link, 1001, 1001)
    with pytest.raises(CannotStart) as raised:
        journal(path).check()
    assert f"the symbolic link {link} belongs to uid 1001, not to uid 0: remove it" in str(
        raised.value
    )
    assert [name for name in os.listdir(elsewhere) if name != "theirs"] == []


def test_link_that_comes_later(path: Path) -> None:
    """A link that replaces the journal while it is written is not followed."""
    files = journal(path)
    files.check()
    path.unlink()
    path.symlink_to("elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        files.append(b"line\n")
    path.unlink()
    other = journal(path)
    path.symlink_to("elsewhere")
    with pytest.raises(CannotStart, match="has just changed"):
        other.check()
    assert names(path) == ["journal"]


@needs_root
def test_file_of_another_user(path: Path) -> None:
    """A file that another user created is not appended to."""
    reason = "it belongs to uid 1001, not to uid 0: chown it"
    path.touch()
    os.chown(path, 1001, 1001)
    with pytest.raises(CannotStart, match=reason):
        journal(path).check()
    with pytest.raises(PermissionError, match=reason):
        journal(path).append(b"line\n")
    assert path.read_bytes() == b""


def test_hard_link(path: Path) -> None:
    """A file with another hard link may be anything, and is not appended to."""
    (path.parent / "other").touch()
    os.link(path.parent / "other", path)
    with pytest.raises(CannotStart, match="it has a second hard link"):
        journal(path).check()


@needs_root
def test_file_of_root(path: Path) -> None:
    """A file that root has prepared for us is used."""
    path.parent.chmod(0o777)
    path.touch()
    path.chmod(0o666)
    files = journal(path)
    folder = os.open(path.parent, os.O_RDONLY)
    before = os.getcwd()
    os.fchdir(folder)
    os.seteuid(65534)
    try:
        files.path = path.name
        files.append(b"line\n")
    finally:
        os.seteuid(0)
        os.chdir(before)
        os.close(folder)
    assert path.read_bytes() == b"line\n"


# Opening


def test_order(path: Path) -> None:
    """The oldest files come first, by number and not by name; other files are not read."""
    for name in ("journal.9", "journal.10.gz", "journal.x", "other", "journal.1"):
        content = f"{name}\n".encode()
        content = gzip.compress(content) if name.endswith("gz") else content
        (path.parent / name).write_bytes(content)
    path.write_bytes(b"journal\n")
    assert whole(path) == b"journal.10.gz\njournal.9\njournal.1\njournal\n"


def test_open_without_the_youngest(path: Path) -> None:
    """Between a rename and the next line, only older files exist."""
    Path(f"{path}.1").write_bytes(b"one\n")
    assert whole(path) == b"one\n"


def test_nothing_to_open(path: Path) -> None:
    """A journal without any file is an error."""
    with pytest.raises(FileNotFoundError), open_journal(str(path)):
        pass


def test_open_while_it_is_rotated(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    If a rotation happens between two files, the reader starts again: nothing is missed or
    read twice.
    """
    files = journal(path, size=5)
    for line in (b"one\n", b"two\n", b"six\n"):
        files.append(line)
    listdir: Callable[..., Sequence[str]] = os.listdir
    rotations = iter([b"ten\n"])

    def then_rotate(folder: str) -> Sequence[str]:
        found = listdir(folder)
        for line in rotations:
            files.append(line)
        return found

    monkeypatch.setattr(os, "listdir", then_rotate)
    assert whole(path) == b"one\ntwo\nsix\nten\n"


def test_full_disk(tmp_path: Path) -> None:
    """On a disk that is really full, nothing is written, and nothing torn stays."""
    program = (
        "import sys\n"
        "from twisted_upload.disk.files import Files\n"
        "from twisted_upload.observability.journal_files import JournalFiles\n"
        "path = sys.argv[1] + '/journal'\n"
        "files = JournalFiles(path, Files(), 0, 0)\n"
        "count = 0\n"
        "try:\n"
        "    while True:\n"
        "        files.append(b'0123456789abcdef' * 700 + b'\\n')\n"
        "        count += 1\n"
        "except OSError as error:\n"
        "    content = open(path, 'rb').read()\n"
        "    print(error.strerror, content.count(b'\\n') == count, content[-1:] == b'\\n')\n"
    )
    folder = tmp_path / "disk"
    before = on_a_file_system(folder, "size=256k")
    ran = subprocess.run(
        [*before, sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert ran.stdout == "No space left on device True True\n"
