"""
Reading a journal of uploads.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.processes import open_descriptors
from twisted_upload.disk.files import Files
from twisted_upload.observability import journal_reader
from twisted_upload.observability.journal_files import JournalFiles
from twisted_upload.observability.journal_filter import Filter, Totals, parse_peer
from twisted_upload.observability.journal_reader import Reader, open_journal
from twisted_upload.observability.records import encode

NOW = 1_795_351_404.291
TIME = "2026-11-22T12:43:24.291Z"


def line(name: str, **more: Any) -> bytes:
    return json.dumps({"time": TIME, "event": "stored", "name": name, **more}).encode() + b"\n"


def names(reader: Reader) -> list[Any]:
    return [record.get("name") for record in reader.records()]


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


# Reading


def test_all_files(path: Path) -> None:
    """Older files are read first, including compressed ones."""
    Path(f"{path}.2.gz").write_bytes(gzip.compress(line("1") + line("2")))
    Path(f"{path}.1").write_bytes(line("3"))
    path.write_bytes(line("4"))
    assert names(Reader(str(path))) == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    "wrong",
    [
        b"torn {\n",
        b"\n",
        b"\xff\xfe\n",
        b"[]\n",
        b"42\n",
        b"{}\n",
        b'{"time":"2026"}\n',
        b'{"time":2026,"event":"stored"}\n',
        line("1", size="large"),
        line("1", seconds="long"),
        line("1", seconds=float("nan")),
        line("1", size=10**400),
        line("1", size=-1),
        line("1", peer=["192.0.2.7"]),
        line("1", size=None),
        line("1", seconds=None),
        line("1", size=True),
        line("1", size="5"),
        line("1", seconds=float("inf")),
        line("1", unknown=float("nan")),
        line("1", unknown={"deep": []}),
        line("1", time="2026-13-22T12:43:24.291Z"),
        line("1", time="2026-11-22T25:43:24.291Z"),
        line("1", time="9" * 1000),
        line("1", time=None),
        line("1", event=None),
        line("1").replace(b'"1"', b"1"),
        b'{"time":"%s","event":"stored","seconds":1e999}\n' % TIME.encode(),
        b'{"time":"%s","event":"stored","size":%s}\n' % (TIME.encode(), b"9" * 5000),
        line("1").replace(b'"1"', b'"\xff\xfe"'),
        line("1")[:-1].rstrip(b"}") + b',"deep":' + b"[" * 900 + b"]" * 900 + b"}\n",
        b"[" * 60_000 + b"\n",
        b"x" * 200_000 + b"\n",
    ],
)
def test_no_records(path: Path, wrong: bytes) -> None:
    """A line that is not a record is skipped and counted; the others are read."""
    path.write_bytes(line("1") + wrong + line("2"))
    reader = Reader(str(path))
    assert names(reader) == ["1", "2"]
    assert reader.unreadable >= 1


def test_long_line(path: Path) -> None:
    """A line that is too long counts as one that is not a record, and is not held in memory."""
    path.write_bytes(line("1") + line("x" * 1_000_000) + line("2"))
    reader = Reader(str(path))
    assert names(reader) == ["1", "2"]
    assert reader.unreadable == 1


def test_long_line_without_an_end(path: Path) -> None:
    """The same holds for the end of the file; what is appended later is read."""
    path.write_bytes(line("1") + b"x" * 200_000)
    reader = Reader(str(path))
    assert names(reader) == ["1"]
    append(path, b"\n" + line("2"))
    assert names(reader) == ["2"]


def test_end_of_an_older_file(path: Path) -> None:
    """The last line of an older file will never be completed: it is a record, or not."""
    Path(f"{path}.2").write_bytes(line("1")[:-1])
    Path(f"{path}.1").write_bytes(line("2") + line("3")[:30])
    path.write_bytes(line("4") + line("5")[:30])
    reader = Reader(str(path))
    assert names(reader) == ["1", "2", "4"]
    assert reader.unreadable == 1


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
_FIELDS = (
    "time",
    "event",
    "listener",
    "peer",
    "size",
    "seconds",
    "name",
    "code",
    "lines",
    "answered",
)


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(fields=st.dictionaries(st.sampled_from(_FIELDS), _JSON))
def test_any_json(tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any]) -> None:
    """
    Whatever JSON is in a line: if it counts as a record, it can be filtered, added up and
    shown.
    """
    path = tmp_path_factory.mktemp("journal") / "journal"
    path.write_bytes(line(**{"name": "1", **fields}))
    sums = Totals()
    wanted = Filter(peers=[parse_peer("::/0")], values={"code": ["busy"]}, patterns={"name": ["*"]})
    for record in Reader(str(path)).records():
        wanted.wants(record)
        sums.add(record)
        json.loads(encode(record), parse_constant=pytest.fail)


# Files that cannot be read


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def _cut(path: Path) -> None:
    path.write_bytes(gzip.compress(b"".join(line(f"{number}") for number in range(9999)))[:5000])


def _corrupt(path: Path) -> None:
    data = bytearray(gzip.compress(b"".join(line(f"{number}") for number in range(9999))))
    data[5000:5020] = bytes(20)
    path.write_bytes(data)


def _wrong_sum(path: Path) -> None:
    data = bytearray(gzip.compress(line("0")))
    data[-8] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("suffix", "make"),
    [
        ("", os.mkfifo),
        ("", os.mkdir),
        ("", _socket),
        ("", lambda path: path.symlink_to(path)),
        ("", lambda path: path.symlink_to("nowhere")),
        ("", lambda path: path.symlink_to("/dev/zero")),
        ("", lambda path: path.symlink_to("/proc/self/mem")),
        (".gz", os.mkfifo),
        (".gz", os.mkdir),
        (".gz", lambda path: path.write_bytes(b"no gzip")),
        (".gz", lambda path: path.write_bytes(gzip.compress(line("0"))[:9])),
        (".gz", _cut),
        (".gz", _corrupt),
        (".gz", _wrong_sum),
    ],
)
def test_bad_older_file(path: Path, suffix: str, make: Callable[[Path], object]) -> None:
    """An older file that is invalid or broken is skipped and reported; the others are read."""
    Path(f"{path}.3").write_bytes(line("3"))
    bad = Path(f"{path}.2{suffix}")
    make(bad)
    Path(f"{path}.1").write_bytes(line("2"))
    path.write_bytes(line("1"))
    reader = Reader(str(path))
    found = names(reader)
    assert found[0] == "3"
    assert found[-2:] == ["2", "1"]
    assert [*reader.not_read] == [str(bad)]
    assert reader.not_read[str(bad)].isprintable()
    assert open_descriptors(path.parent) == []


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, _socket])
def test_bad_file(path: Path, make: Callable[[Path], object]) -> None:
    """The file that was named has to be valid."""
    make(path)
    with pytest.raises(OSError, match=r"Is a directory|not a regular|No such device") as raised:
        names(Reader(str(path)))
    assert raised.value.filename == str(path)
    assert open_descriptors(path.parent) == []


def test_nothing_but_bad_files(path: Path) -> None:
    """If no file can be read, that is an error."""
    Path(f"{path}.1").mkdir()
    reader = Reader(str(path))
    assert names(reader) == []
    assert [*reader.not_read] == [f"{path}.1"]


def test_followed_compressed_file(path: Path) -> None:
    """A compressed file is not read again, even if it is the last one."""
    Path(f"{path}.1.gz").write_bytes(gzip.compress(line("1") * 100))
    reader = Reader(str(path))
    assert len(names(reader)) == 100
    assert names(reader) == []
    path.write_bytes(line("2"))
    assert names(reader) == ["2"]


@given(data=st.binary(max_size=200))
@settings(deadline=None)
def test_nonsense(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Whatever bytes are in a file, a record on the next line is read."""
    path = tmp_path_factory.mktemp("journal") / "journal"
    path.write_bytes(data + b"\n" + line("1"))
    assert names(Reader(str(path))) == ["1"]


def test_what_is_appended(path: Path) -> None:
    """A second look returns what was appended since the first; half a line waits for its end."""
    reader = Reader(str(path))
    path.write_bytes(line("1") + line("2")[:20])
    assert names(reader) == ["1"]
    assert names(reader) == []
    append(path, line("2")[20:])
    assert names(reader) == ["2"]
    assert names(reader) == []
    assert reader.unreadable == 0


def test_rotated_meanwhile(path: Path) -> None:
    """However often the journal is rotated between two looks, nothing is missed or read twice."""
    reader = Reader(str(path))
    files = JournalFiles(str(path), Files(), len(line("1")), 10)
    files.append(line("1"))
    assert names(reader) == ["1"]
    for number in range(2, 6):
        files.append(line(str(number)))
    assert names(reader) == ["2", "3", "4", "5"]
    os.rename(path, f"{path}.0")
    assert names(reader) == []


def test_truncated_meanwhile(path: Path) -> None:
    """A file that was truncated (``copytruncate``) is read from its beginning."""
    reader = Reader(str(path))
    path.write_bytes(line("1") + line("2"))
    assert names(reader) == ["1", "2"]
    os.truncate(path, 0)
    append(path, line("3"))
    assert names(reader) == ["3"]


def test_compressed_meanwhile(path: Path) -> None:
    """Lines that were read before compression are not read again."""
    reader = Reader(str(path))
    path.write_bytes(line("1"))
    assert names(reader) == ["1"]
    Path(f"{path}.1.gz").write_bytes(gzip.compress(line("1")))
    Path(f"{path}.new").write_bytes(line("2"))
    os.rename(f"{path}.new", path)
    assert names(reader) == ["2"]


def test_nothing_to_read(path: Path) -> None:
    """A missing journal is an error."""
    with pytest.raises(FileNotFoundError):
        names(Reader(str(path)))


def test_renamed_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the journal is rotated while it is opened, every line is read once."""
    path = tmp_path / "journal"
    path.with_name("journal.1").write_bytes(b"1\n")
    path.write_bytes(b"2\n")
    real = journal_reader._open

    def rotate(name: str) -> IO[bytes]:
        monkeypatch.undo()
        path.with_name("journal.1").rename(path.with_name("journal.2"))
        path.rename(path.with_name("journal.1"))
        path.write_bytes(b"3\n")
        return real(name)

    monkeypatch.setattr(journal_reader, "_open", rotate)
    with open_journal(str(path)) as files:
        assert [file.read() for file in files] == [b"1\n", b"2\n", b"3\n"]
