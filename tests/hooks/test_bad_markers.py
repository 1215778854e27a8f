"""
Invalid markers: each one affects only its own file.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.hook_markers import failed, hooked_folder, queue_of, store_marked, waiting
from tests.support.processes import open_descriptors
from tests.support.stores import MILLISECONDS
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.errors import CannotStart
from twisted_upload.hooks.command import HookEnd
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import FAILED, HOOKS, WAITING, HookSpool
from twisted_upload.hooks.spool_scan import SpoolScan, scan
from twisted_upload.hooks.task import HookTask
from twisted_upload.stores.directory.folder import Folder

OTHER_OWNER = "0123456789ab"

GOOD = {
    "name": f"{MILLISECONDS}.bin",
    "size": 5,
    "sha256": None,
    "peer": "192.0.2.7:50123",
    "listener": "front",
    "arrived": 1.5,
    "inode": 1,
    "modified": 1,
    "marker": 1,
}


class Queue:
    """A queue of six files, of which tests corrupt the oldest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = FaultyFiles()
        self.folder: Folder = hooked_folder(path, self.files)
        self.queue = queue_of(self.folder)
        for serial in range(6):
            _, marker = store_marked(self.folder, (MILLISECONDS, serial), b"hello")
            self.queue.release(marker)
        self.bad, *self.others = [path / HOOKS / WAITING / name for name in waiting(path)]

    def scan(self) -> SpoolScan:
        return scan(self.queue, 100, ())

    def spoil(self, **facts: Any) -> None:
        """Change fields of the oldest marker."""
        self.bad.write_text(json.dumps(self.facts() | facts) + "\n")

    def facts(self) -> dict[str, Any]:
        """Return the fields of the oldest marker."""
        facts: dict[str, Any] = json.loads(self.bad.read_text())
        return facts

    def is_set_aside(self, why: str) -> None:
        """Check that the oldest is set aside, and the others are processed."""
        found = self.scan()
        (bad,) = found.bad
        assert (bad.name, bad.why, bad.aside) == (self.bad.name, why, True)
        assert len(found.markers) == 5
        assert (failed(self.path), len(waiting(self.path))) == ([self.bad.name], 5)
        assert self.scan().bad == []


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[Queue]:
    queue = Queue(tmp_path)
    before = open_descriptors(tmp_path)
    yield queue
    assert open_descriptors(tmp_path) == before


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as it:
        it.bind(os.path.relpath(path))


def _replaced(make: Callable[[Path], object]) -> Callable[[Queue], None]:
    def replace(queue: Queue) -> None:
        queue.bad.unlink()
        make(queue.bad)

    return replace


def _full_folder(path: Path) -> None:
    path.mkdir()
    (path / "x").touch()


def _chown(queue: Queue) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a file to another user")
    os.chown(queue.bad, 12345, 12345)


def _linked(queue: Queue) -> None:
    os.link(queue.bad, queue.path / "another-name")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_replaced(Path.mkdir), "it is not a file"),
        (_replaced(_full_folder), "it is not a file"),
        (_replaced(lambda path: path.symlink_to("/etc/passwd")), "it is not a file"),
        (_replaced(lambda path: path.symlink_to("nowhere")), "it is not a file"),
        (_replaced(os.mkfifo), "it is not a file"),
        (_replaced(_socket), "it is not a file"),
        (_chown, "it belongs to uid 12345"),
        (lambda queue: queue.bad.chmod(0o620), "other users may write to it"),
        (lambda queue: queue.bad.chmod(0o602), "other users may write to it"),
        (_linked, "it has another hard link"),
    ],
    ids=[
        *("folder", "full folder", "link", "dead link", "pipe", "socket"),
        *("owner", "group", "others", "hard link"),
    ],
)
def test_foreign_file(
    queue: Queue, spoil: Callable[[Queue], None], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A marker is opened only if it is a file of this user to which no other user may write."""
    monkeypatch.chdir(queue.path)  # names of sockets are short
    spoil(queue)
    queue.is_set_aside(why)


def test_replaced_before_opening(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A marker that is replaced between check and opening is checked again."""
    real, other = os.open, queue.path / "other"
    other.write_text(queue.bad.read_text())
    other.chmod(0o666)

    def opened(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if path == queue.bad.name and other.exists():
            other.rename(queue.bad)
        return real(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", opened)
    queue.is_set_aside("other users may write to it")


@pytest.mark.parametrize(
    "text",
    [
        "\n",
        "null\n",
        "[" * 60_000 + "\n",
        '{"a":' * 10_000 + "\n",
        '{"size": ' + "9" * 5_000 + "}\n",
        '{"size": NaN}\n',
        "\xff\xfe\n",
        "\0\n",
    ],
    ids=["empty", "null", "deep", "deep too", "digits", "nan", "bytes", "nul"],
)
def test_invalid_json(queue: Queue, text: str) -> None:
    """Invalid JSON, or JSON that the parser cannot process, is set aside."""
    queue.bad.write_bytes(text.encode("latin-1"))
    queue.is_set_aside("it does not hold the expected JSON")


@pytest.mark.parametrize("line", ["", "\n"])
def test_huge(queue: Queue, line: str) -> None:
    """A huge file is not read to its end."""
    queue.bad.write_text(line)
    os.truncate(queue.bad, 2**40)
    queue.is_set_aside(
        "it does not hold the expected JSON" if line else "its first line is incomplete"
    )


WRONG: dict[str, list[Any]] = {
    "name": [
        *(None, 5, "", ".", "..", "x", ".bin", "../x", "1/2", "/etc/passwd", "1\0.bin", "1\n"),
        *(
            "1" * 5_000,
            "1" + ".bin" * 100,
            "1.b n",
            "1-0.bin",
            "-1.bin",
            "1;id",
            "1\udcff",
            "１.bin",
        ),
        *(
            "1-0-a",
            "1-a b",
            "1-.a",
            "1-a/../b",
            "1-" + "a" * 201,
            "1-\u202e.bin",
            "1.bin/",
            "$(id).bin",
            "\uff11.bin",
            "1795328130123.bin\x1b[2J",
        ),
    ],
    "size": [None, "5", 5.0, True, -1, 2**64, 10**4_000],
    "sha256": [5, "", "0" * 63, "0" * 65, "G" * 64, "A" * 64, "0" * 63 + "\n"],
    "peer": [None, 5, "a\0b", "a\nb", "\x1b[2J", "x" * 513, "\u202e", "\udcff"],
    "listener": [None, 5, "a b", "a\n", "A", "x" * 16_385, "é"],
    "arrived": [None, "1", True, -1, 10**4_000, 1e300, 2.0**40],
    "inode": [None, "5", 5.0, True, -1, 2**64],
    "modified": [None, "5", 5.0, True, -1, 2**64],
    "marker": [None, "5", 5.0, True, -1, 2**64],
    "partial": [None, 5, "", "0" * 31, "0" * 33, "../" + "0" * 29, "A" * 32, "0" * 32 + "\n"],
    "original_name": [None, 5, "", "a/b", "..", ".a", "a\n", "a\0", "\u202e", "\udcff", "a" * 201],
    "content_type": [None, 5, "", "a", "a/b;c", "A/b", "a/b\n", "a/" + "b" * 128],
    "label": [None, 5, "", " a", "a\n", "\x1b[2J", "\u202e", "\udcff", "a" * 1025],
}


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, values in WRONG.items() for value in values], ids=str
)
def test_invalid_value(queue: Queue, key: str, value: Any) -> None:
    """Each field must have the type and the range that the daemon writes."""
    queue.spoil(**{key: value})
    queue.is_set_aside(f"its {key} is invalid")


@pytest.mark.parametrize("key", GOOD)
def test_missing_field(queue: Queue, key: str) -> None:
    """No field may be missing."""
    facts = queue.facts()
    del facts[key]
    queue.bad.write_text(json.dumps(facts) + "\n")
    queue.is_set_aside(f"it has no {key}")


def test_unknown_field(queue: Queue) -> None:
    """Unknown fields, as of a newer version, are ignored."""
    queue.spoil(colour="blue", more={"a": [1, 2, None]})
    assert len(queue.scan().markers) == 6


@pytest.mark.parametrize("suffix", ["", ".bin", ".tar.gz", ".a_b-c", "-7.bin"])
def test_valid_names(queue: Queue, suffix: str) -> None:
    """Every name that the store gives is accepted."""
    name = f"{MILLISECONDS}{suffix}"
    queue.spoil(name=name, sha256="0" * 64)
    (queue.path / GOOD["name"]).rename(queue.path / name)  # type: ignore[operator]
    assert queue.scan().markers[0].name == name


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
_FACTS = st.fixed_dictionaries(
    {}, optional={key: st.just(value) | _JSON for key, value in GOOD.items()}
)


@given(st.lists(st.binary() | _FACTS.map(lambda facts: json.dumps(facts).encode()), max_size=3))
@settings(max_examples=300, deadline=None)
def test_anything(lines: list[bytes]) -> None:
    """Any content is either a valid marker or set aside, without another exception."""
    marker = Marker("i")
    try:
        whole = marker.understand(b"\n".join(lines), 1)
    except ValueError:
        return
    if whole:
        assert marker.name.isprintable()
        assert "/" not in marker.name
        assert 0 <= marker.size < 2**64


# -- set aside ----------------------------------------------------------------


def test_reason(queue: Queue) -> None:
    """A marker in failed/ gets a line with the reason; moved back, it can be read again."""
    queue.spoil(size=-1)
    queue.is_set_aside("its size is invalid")
    path = queue.path / HOOKS / FAILED / queue.bad.name
    assert json.loads(path.read_text().splitlines()[-1]) == {"failed": "its size is invalid"}
    path.rename(queue.bad)
    queue.is_set_aside("its size is invalid")


def test_reason_is_not_written_elsewhere(queue: Queue, tmp_path: Path) -> None:
    """Nothing is written to a foreign file."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    queue.bad.unlink()
    queue.bad.symlink_to(elsewhere)
    queue.is_set_aside("it is not a file")
    assert elsewhere.read_text() == "precious"


def test_many_reasons(queue: Queue) -> None:
    """Even if it is moved back again and again, its size stays bounded."""
    queue.spoil(size=-1)
    with queue.bad.open("a") as file:
        file.write("\n" * 2**20)
    queue.is_set_aside("its size is invalid")
    assert (queue.path / HOOKS / FAILED / queue.bad.name).stat().st_size < 2**20 + 1024


def test_repaired(queue: Queue) -> None:
    """A repaired marker is valid even with reasons in it."""
    text = queue.bad.read_text()
    queue.spoil(size=-1)
    queue.is_set_aside("its size is invalid")
    path = queue.path / HOOKS / FAILED / queue.bad.name
    path.write_text(text + path.read_text().partition("\n")[2])
    path.rename(queue.bad)
    assert len(queue.scan().markers) == 6


def test_cannot_be_moved(queue: Queue) -> None:
    """A marker that cannot be moved is reported once, stays, and does not block the others."""
    queue.spoil(size=-1)
    queue.files.fail("replace", errno.EPERM)
    found = queue.scan()
    (bad,) = found.bad
    assert (bad.name, bad.aside) == (queue.bad.name, False)
    assert bad.why == "its size is invalid; Operation not permitted"
    assert len(found.markers) == 5
    again = queue.scan()
    assert (again.bad, len(again.markers), again.waiting) == ([], 5, 6)
    assert queue.bad.exists()


def test_many_cannot_be_moved(tmp_path: Path) -> None:
    """Any number of such markers does not block newer ones."""
    queue = Queue(tmp_path)
    for path in [queue.bad, *queue.others[:4]]:
        path.write_text("?\n")
    queue.files.fail("replace", errno.EPERM, times=100)
    seen = [scan(queue.queue, 1, ()) for _ in range(6)]
    assert [len(found.bad) for found in seen] == [1, 1, 1, 1, 1, 0]
    assert len(seen[-1].markers) == 1


@pytest.mark.parametrize("error", [errno.EIO, errno.EMFILE, errno.ENOMEM, errno.ESTALE])
def test_cannot_be_read_now(queue: Queue, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A marker that the disk cannot read at the moment stays, and is found later."""
    real = HookSpool.read
    name = queue.bad.name.partition(".")[0]

    def read(spool: HookSpool, marker: Marker) -> bool:
        if marker.identity == name:
            raise OSError(error, os.strerror(error))
        return real(spool, marker)

    with monkeypatch.context() as patch:
        patch.setattr(HookSpool, "read", read)
        found = queue.scan()
        assert (found.bad, len(found.markers), found.gone) == ([], 5, 0)
        assert found.error is not None
        assert found.error.errno == error
    again = queue.scan()
    assert (len(again.markers), again.error) == (6, None)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOMEM])
def test_file_cannot_be_checked_now(
    queue: Queue, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same if the disk cannot tell whether the file exists."""
    real = HookSpool.is_at
    name = queue.bad.name.partition(".")[0]

    def is_at(spool: HookSpool, marker: Marker, at: str) -> bool:
        if marker.identity == name:
            raise OSError(error, os.strerror(error))
        return real(spool, marker, at)

    with monkeypatch.context() as patch:
        patch.setattr(HookSpool, "is_at", is_at)
        found = queue.scan()
        assert (found.bad, len(found.markers), found.gone) == ([], 5, 0)
        assert found.error is not None
    assert len(queue.scan().markers) == 6


def test_cannot_be_removed(queue: Queue) -> None:
    """A marker without a file that cannot be removed does not block the others."""
    (queue.path / GOOD["name"]).unlink()  # type: ignore[operator]
    queue.files.fail("unlink", errno.EROFS)
    found = queue.scan()
    assert (len(found.markers), found.gone) == (5, 0)
    assert found.error is not None
    assert (len(queue.scan().markers), queue.bad.exists()) == (5, False)


class Succeeds:
    """A program that succeeds, after which files cannot be closed."""

    def __init__(self, files: FaultyFiles) -> None:
        self._files = files

    def end_orphans(self, descriptor: int) -> bool:
        """Return that there are none."""
        return False

    def run(self, spool: HookSpool, marker: Marker, attempt: int, held: int) -> HookEnd:
        """Succeed."""
        self._files.fail("close", errno.EDQUOT)
        return HookEnd("exit status 0", succeeded=True, seconds=0.1)


def test_cannot_be_closed(queue: Queue) -> None:
    """A marker that cannot be closed after its program has succeeded is removed all the same."""
    (marker, *_) = queue.scan().markers
    command: Any = Succeeds(queue.files)
    end = HookTask(queue.queue, marker).run(command)
    assert end is not None
    assert end.succeeded
    assert len(waiting(queue.path)) == 5


# -- owners -------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        _full_folder,
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: path.symlink_to("nowhere"),
        os.mkfifo,
        lambda path: path.touch(),
        lambda path: path.touch(0),
    ],
    ids=["folder", "full folder", "link", "dead link", "pipe", "file", "unreadable file"],
)
def test_invalid_lock(queue: Queue, make: Callable[[Path], object]) -> None:
    """An invalid lock of an owner prevents neither a takeover nor a start."""
    ours = queue.bad.name.split(".")[1]
    other = "0123456789ab"
    make(queue.path / HOOKS / f"owner-{other}")
    for path in [queue.bad, *queue.others]:
        path.rename(path.with_name(path.name.replace(f".{ours}.", f".{other}.")))
    assert len(queue.scan().markers) == 6
    hooked_folder(queue.path)  # and a start still succeeds


def test_no_locks(tmp_path: Path) -> None:
    """If locks do not work, that is an error, and attempts are limited."""
    files = FaultyFiles()
    one = hooked_folder(tmp_path, files)

    def never(descriptor: int) -> bool:
        status = os.fstat(descriptor)
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        return not (stat.S_ISREG(status.st_mode) and "owner-" in path)

    files.lock = never  # type: ignore[method-assign]
    with pytest.raises(CannotStart, match=r"locks \(flock\) do not work here"):
        hooked_folder(tmp_path, files)
    assert len([name for name in os.listdir(tmp_path / HOOKS) if "owner" in name]) == 1
    assert one.queues


@pytest.mark.parametrize(
    ("names", "folder"),
    [("one", WAITING), ("two", WAITING), ("one", FAILED), ("two", FAILED)],
)
def test_both_names_after_a_crash(queue: Queue, names: str, folder: str) -> None:
    """
    A marker that has two of our names, because a crash has undone one half of its renaming, is
    taken under one of them.
    """
    identity, _, _ = queue.bad.name.partition(".")
    other = queue.path / HOOKS / folder / f"{identity}.{OTHER_OWNER}.json"
    os.link(queue.bad, other)
    if names == "two":  # neither is that of this process
        queue.bad.rename(queue.bad.with_name(f"{identity}.{OTHER_OWNER[::-1]}.json"))
    found = queue.scan()
    assert found.markers[0].identity == identity
    assert (len(found.markers), found.bad) == (6, [])
    assert len(waiting(queue.path)) == 6
    assert failed(queue.path) == []
    assert queue.bad.stat().st_nlink == 1
