"""
Folders as a tar archive that is made while it is sent.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.frontends import open_frontend
from tests.support.processes import open_descriptors
from twisted_upload import upload
from twisted_upload.client.tar_stream import Member, TarStream
from twisted_upload.errors import SourceChanged, SourceFailed


def member(path: Path, name: str) -> Member:
    target = os.readlink(path) if path.is_symlink() else ""
    return Member(str(path), name, os.lstat(path), target)


@pytest.fixture
def members(tmp_path: Path) -> list[Member]:
    """A folder, files of several sizes, a link, and names that do not fit into old headers."""
    folder = tmp_path / "project"
    (folder / "deep").mkdir(parents=True)
    sizes = {"empty": 0, "one": 1, "block": 512, "more.bin": 100_001, "x" * 200: 3, "caf\u00e9": 5}
    for name, size in sizes.items():
        (folder / name).write_bytes(os.urandom(size))
    (folder / "one").chmod(0o750)
    (folder / "link").symlink_to("deep/nowhere")
    os.utime(folder / "one", (1_700_000_000.5, 1_700_000_000.5))
    invalid = os.fsdecode(b"caf\xe9")
    (folder / invalid).write_text("latin")
    names = ["", "/deep", "/link", f"/{invalid}", *(f"/{name}" for name in sizes)]
    return [member(Path(f"{folder}{name}"), f"project{name}") for name in names]


def test_archive(members: list[Member], tmp_path: Path) -> None:
    """tarfile reads the same files from it, with modes, times and links, but without owners."""
    stream = TarStream(members)
    content = stream.read()
    assert len(content) == stream.size
    assert stream.read(1) == b""
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == [one.name for one in members]
        for one in members:
            info = archive.getmember(one.name)
            assert info.mode == one.status.st_mode & 0o7777
            assert (info.mtime, info.uid, info.gid) == (int(one.status.st_mtime), 0, 0)
            assert (info.uname, info.gname, info.linkname) == ("", "", one.target)
            if info.isfile():
                file = archive.extractfile(info)
                assert file is not None
                assert file.read() == Path(one.path).read_bytes()
    assert open_descriptors(tmp_path) == []


@pytest.mark.skipif(not shutil.which("tar"), reason="tar is not installed")
def test_other_tar(members: list[Member], tmp_path: Path) -> None:
    """The system's tar accepts it without a warning."""
    # GNU tar warns of hdrcharset, the standard's way to say that a name is not UTF-8.
    members = [one for one in members if "\udce9" not in one.name]
    content = TarStream(members).read()
    command = ["tar", "-tf", "-"]
    listed = subprocess.run(command, input=content, capture_output=True, check=True)
    assert listed.stderr == b""
    assert len(listed.stdout.splitlines()) == len(members)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
def test_any_offset(members: list[Member], data: st.DataObject) -> None:
    """Read again from any offset, in pieces of any size, it has the same bytes."""
    with TarStream(members) as stream:
        content = stream.read()
        offset = data.draw(st.integers(0, stream.size + 5))
        assert stream.seek(offset) == offset
        size = data.draw(st.integers(1, 70_000))
        assert stream.read(size) == content[offset : stream.tell()]
        assert stream.read() == content[stream.tell() :] or stream.tell() >= stream.size


def test_pieces(members: list[Member], tmp_path: Path) -> None:
    """Each read but the last returns as much as was asked for, whatever files begin and end."""
    stream = TarStream(members)
    pieces = [*iter(lambda: stream.read(1000), b"")]
    assert {len(piece) for piece in pieces[:-1]} == {1000}
    stream.seek(-stream.size, os.SEEK_END)
    assert b"".join(pieces) == stream.read()
    with pytest.raises(ValueError, match="negative"):
        stream.seek(-1)
    stream.seek(0)
    while not open_descriptors(tmp_path):
        stream.read(512)
    stream.seek(stream.tell())
    assert open_descriptors(tmp_path) != []  # a large file is not opened for each piece
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        stream.read(1)


@pytest.mark.parametrize("change", ["grow", "shrink", "replace", "link"])
@pytest.mark.parametrize("when", ["before", "while"])
def test_changed(tmp_path: Path, change: str, when: str) -> None:
    """A file that changes before or while it is read is named; its archive cannot be read on."""
    path, other = tmp_path / "a", tmp_path / "b"
    for it in (path, other):
        it.write_bytes(bytes(100_000))
    os.utime(path, (1, 1))
    stream = TarStream([member(path, "a")])
    if when == "while":
        assert len(stream.read(50_512)) == 50_512
    if change == "grow":
        with path.open("ab") as file:
            file.write(b"x")
    elif change == "shrink":
        os.truncate(path, 20_000)
    elif change == "replace":
        other.rename(path)
    else:
        path.unlink()
        path.symlink_to(other)
    if when == "while" and change in ("replace", "link"):
        assert len(stream.read()) == stream.size - 50_512  # as it was when it was opened
        return
    with pytest.raises((SourceChanged, SourceFailed), match=str(path)):
        stream.read()
    stream.close()
    assert open_descriptors(tmp_path) == []


def test_missing(tmp_path: Path) -> None:
    """A file that has vanished is named."""
    path = tmp_path / "a"
    path.write_text("x")
    stream = TarStream([member(path, "a")])
    path.unlink()
    with pytest.raises(SourceFailed, match=r"cannot read .*/a: No such file or directory"):
        stream.read()


def test_empty() -> None:
    """An archive of nothing is one record of zeros, as tar writes it."""
    assert TarStream([]).read() == bytes(10240)


async def test_upload(members: list[Member]) -> None:
    """upload() sends it, and knows how much there is."""
    stream = TarStream(members)
    totals: set[int | None] = set()
    async with open_frontend() as frontend:
        await upload(stream, frontend.endpoint, progress=lambda _, total: totals.add(total))
        stream.seek(0)
        assert frontend.stored == [stream.read()]
    assert totals == {stream.size}


async def test_upload_of_changed_files(members: list[Member]) -> None:
    """If a file has changed, nothing is stored."""
    path = next(Path(one.path) for one in members if one.name.endswith("more.bin"))
    async with open_frontend() as frontend:
        stream = TarStream(members)
        with path.open("ab") as file:
            file.write(b"x")
        with pytest.raises(SourceChanged, match=r"more\.bin changed"):
            await upload(stream, frontend.endpoint)
        await frontend.is_quiet()
        assert frontend.stored == []
