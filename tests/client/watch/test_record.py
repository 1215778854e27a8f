"""
The record of a watched folder.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twisted_upload.client.watch import record as module
from twisted_upload.client.watch.record import Identity, SentFile, SentRecord

SENT = SentFile(Identity(5, 7, 9), "0" * 64, "1.pdf", 3.0)


def opened(path: Path) -> SentRecord:
    """Open a record of files that are all still there."""
    return SentRecord(str(path), lambda _: True)


def test_lasts(tmp_path: Path) -> None:
    """What was added is there after the next start, under any name."""
    names = ["a.pdf", "b/c d.pdf", "caf\udce9.pdf", "新.pdf", "line\nbreak"]
    record = opened(tmp_path / "record")
    for name in names:
        record.add(name, SENT)
    record.forget("a.pdf")
    record.close()
    assert opened(tmp_path / "record").sent == dict.fromkeys(names[1:], SENT)


def test_is_private(tmp_path: Path) -> None:
    """Only its owner can read it."""
    opened(tmp_path / "record")
    assert (tmp_path / "record").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("cut", range(1, 40))
def test_cut_off(tmp_path: Path, cut: int) -> None:
    """A line that a crash has cut off counts for nothing, and does not spoil the next one."""
    path = tmp_path / "record"
    record = opened(path)
    record.add("a.pdf", SENT)
    record.add("b.pdf", SENT)
    record.close()
    os.truncate(path, path.stat().st_size - cut)
    record = opened(path)
    assert record.sent == {"a.pdf": SENT}
    record.add("c.pdf", SENT)
    record.close()
    assert opened(path).sent == {"a.pdf": SENT, "c.pdf": SENT}


@pytest.mark.parametrize("line", [b"\0" * 20, b"[]", b"{}", b'{"file": "x"}', b"\xff", b"1"])
def test_damaged(tmp_path: Path, line: bytes) -> None:
    """A damaged line counts for nothing."""
    path = tmp_path / "record"
    path.write_bytes(line + b"\n")
    record = opened(path)
    assert record.sent == {}
    record.add("a.pdf", SENT)
    record.close()
    assert opened(path).sent == {"a.pdf": SENT}


def test_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines about files that are gone do not pile up."""
    monkeypatch.setattr(module, "_SPARE_LINES", 10)
    path = tmp_path / "record"
    record = opened(path)
    for number in range(100):
        record.add(f"{number}.pdf", SENT)
        if number:
            record.forget(f"{number}.pdf")
    record.close()
    assert len(path.read_bytes().splitlines()) < 20
    assert opened(path).sent == {"0.pdf": SENT}
    assert [it.name for it in tmp_path.iterdir()] == ["record"]


def test_half_a_line_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a line cannot be synced, it is taken back: the file counts as not stored."""
    path = tmp_path / "record"
    record = opened(path)

    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="Input/output"):
            record.add("a.pdf", SENT)
    record.add("b.pdf", SENT)
    record.close()
    assert opened(path).sent == {"b.pdf": SENT}
