"""
The effect of options of ``twistd upload`` on uploads.
"""

from __future__ import annotations

import re
import stat
import struct
import zlib
from pathlib import Path

import pytest

from tests.support.daemon import SUCCESS, Daemon, finish, photo, sha256, wait_until
from tests.support.senders import read_all
from tests.support.twistd import FAILURE


def jpeg() -> bytes:
    """Return the smallest valid JPEG, 1 by 1 pixel."""
    tables = b"\xff\xdb\x00\x43\x00" + bytes([16]) * 64
    frame = b"\xff\xc0\x00\x0b\x08\x00\x01\x00\x01\x01\x01\x11\x00"
    huffman = b"\xff\xc4\x00\x14\x00\x01" + bytes(15) + b"\x00"
    scan = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\x7f"
    return photo(22)[:20] + tables + frame + huffman + scan + b"\xff\xd9"


def png() -> bytes:
    """Return a PNG of one white pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixel = zlib.compress(b"\0\xff")
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def pdf() -> bytes:
    return b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


UNKNOWN = b"no one can tell\0"


@pytest.mark.parametrize(
    ("suffix", "ends"),
    [
        ("auto", {jpeg(): ".jpg", png(): ".png", pdf(): ".pdf", UNKNOWN: ".bin"}),
        (".jpg", {UNKNOWN: ".jpg", png(): ".jpg"}),
        (".tar.gz", {UNKNOWN: ".tar.gz"}),
        ("", {jpeg(): ""}),
    ],
    ids=["auto", "fixed", "double", "empty"],
)
def test_suffix(tmp_path: Path, suffix: str, ends: dict[bytes, str]) -> None:
    """--suffix is detected, fixed or empty; the content of the file is unchanged."""
    with Daemon(tmp_path, f"--suffix={suffix}") as daemon:
        for data in ends:
            assert daemon.send(data) == SUCCESS
        files = {file.read_bytes(): file.name for file in daemon.files()}
        assert files.keys() == ends.keys()
        for data, end in ends.items():
            assert re.fullmatch(r"\d{13}(-\d+)?" + re.escape(end), files[data])


@pytest.mark.parametrize("umask", ["0", "077"])
def test_mode(tmp_path: Path, umask: str) -> None:
    """Stored files have the permissions of --mode, with any umask; .incoming has 0700."""
    with Daemon(tmp_path, "--mode=0604", general=(f"--umask={umask}",)) as daemon:
        assert daemon.send(b"small") == SUCCESS
        assert daemon.send(bytes(400_000)) == SUCCESS
        assert {stat.S_IMODE(file.stat().st_mode) for file in daemon.files()} == {0o604}
        assert stat.S_IMODE((daemon.directory / ".incoming").stat().st_mode) == 0o700


def test_default_mode(tmp_path: Path) -> None:
    """Without --mode, the owner can write a stored file, and its group can read it."""
    with Daemon(tmp_path, general=("--umask=0",)) as daemon:
        assert daemon.send(b"something") == SUCCESS
        (file,) = daemon.files()
        assert stat.S_IMODE(file.stat().st_mode) == 0o640


def test_receipts(tmp_path: Path) -> None:
    """With --receipts the answer is one line: 上传成功, name, size and SHA-256."""
    with Daemon(tmp_path, "--receipts") as daemon:
        for data in (b"small", photo(700_000)):
            answer = daemon.send(data).decode()
            file = daemon.files()[-1]
            assert answer == f"上传成功 {file.name} {len(data)} {sha256(data)}\n"


def test_answer(tmp_path: Path) -> None:
    """A sender gets exactly the text of --answer, in UTF-8."""
    with Daemon(tmp_path, "--answer=très bien 👍") as daemon:
        assert daemon.send(b"something") == "très bien 👍".encode()


def test_answer_and_receipts(tmp_path: Path) -> None:
    """With --answer and --receipts the receipt's line starts with the answer."""
    with Daemon(tmp_path, "--answer=OK", "--receipts") as daemon:
        answer = daemon.send(b"x").decode()
        assert answer == f"OK {daemon.files()[0].name} 1 {sha256(b'x')}\n"


def test_empty(tmp_path: Path) -> None:
    """An upload of zero bytes is refused as empty, and a silent connection stores nothing."""
    with Daemon(tmp_path) as daemon:
        daemon.connect().close()
        assert daemon.send(b"").decode().startswith(f"{FAILURE}empty ")
        assert daemon.files() == []


def test_allow_empty(tmp_path: Path) -> None:
    """With --allow-empty an upload of zero bytes is stored."""
    with Daemon(tmp_path, "--allow-empty") as daemon:
        assert daemon.send(b"") == SUCCESS
        assert daemon.only_file() == b""


def test_max_size(tmp_path: Path) -> None:
    """An upload of --max-size bytes is stored; one byte more is refused as too-large."""
    with Daemon(tmp_path, "--max-size=1K") as daemon:
        assert daemon.send(bytes(1024)) == SUCCESS
        assert daemon.send(bytes(1025)).decode().startswith(f"{FAILURE}too-large ")
        assert daemon.only_file() == bytes(1024)


def test_large_max_size(tmp_path: Path) -> None:
    """--max-size is exact for large uploads too."""
    data = photo(5 * 2**20)
    with Daemon(tmp_path, "--max-size=5M") as daemon:
        assert daemon.send(data) == SUCCESS
        assert daemon.send(data + b"!").decode().startswith(f"{FAILURE}too-large ")
        assert daemon.only_file() == data


@pytest.mark.parametrize("most", [1, 12])
def test_too_large_is_answered_early(tmp_path: Path, most: int) -> None:
    """A refusal is sent as soon as it is known, and reaches a sender that continues to send."""
    with Daemon(tmp_path, f"--max-size={most}M") as daemon, daemon.connect() as peer:
        peer.sendall(bytes(most * 2**20 + 1))
        assert peer.recv(12) == FAILURE.encode()[:12]
        peer.sendall(bytes(5_000_000))
        assert finish(peer).decode().startswith(": too-large ")
        wait_until(lambda: not daemon.unfinished(), "an empty .incoming")
        assert daemon.files() == []


@pytest.mark.parametrize("size", [1, 300_000, 3_000_000])
def test_idle_timeout(tmp_path: Path, size: int) -> None:
    """Silence for --idle-timeout without a half-close is refused as timeout, naming nc -N."""
    with Daemon(tmp_path, "--idle-timeout=200ms") as daemon, daemon.connect() as peer:
        peer.sendall(bytes(size))
        answer = read_all(peer).decode()
        assert answer.startswith(f"{FAILURE}timeout ")
        assert "nc -N" in answer
        peer.close()
        wait_until(lambda: not daemon.unfinished(), "an empty .incoming")
        assert daemon.files() == []


def test_no_fsync(tmp_path: Path) -> None:
    """With --no-fsync a file is still stored and answered."""
    with Daemon(tmp_path, "--no-fsync") as daemon:
        assert daemon.send(b"small") == SUCCESS
        assert daemon.send(photo(700_000)) == SUCCESS
        assert len(daemon.files()) == 2
