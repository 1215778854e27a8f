"""
A resumable upload becomes one object, whatever names a crash leaves of its file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.hook_markers import waiting
from tests.support.object_partials import ManualObjectPartials
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.hooks.folders import FORWARD
from twisted_upload.hooks.marked_file import remove_file
from twisted_upload.interfaces import PartialUpload

PARTIAL = Path(".incoming", "partial")


class HalfRenames(FaultyFiles):
    """
    A file system that makes the halves of a rename durable one by one, as btrfs may: the old
    name is gone for good when its folder has been synced.

    :param aside: where the old names are kept until then.
    """

    def __init__(self, aside: Path) -> None:
        super().__init__()
        self._aside = aside
        aside.mkdir()
        self._record: tuple[Path, bytes] | None = None

    def rename(self, source: int, name: str, target: int, new_name: str) -> None:
        super().rename(source, name, target, new_name)
        if name.startswith("partial/"):
            data = Path(name).name
            os.link(new_name, self._aside / data, src_dir_fd=target)
            record = Path(os.readlink(f"/proc/self/fd/{source}"), name).with_suffix(".record")
            self._record = record, record.read_bytes()

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        if Path(os.readlink(f"/proc/self/fd/{descriptor}")).match(str(PARTIAL)):
            for old in self._aside.iterdir():
                old.unlink()

    def cut(self) -> None:
        """Let the power fail: what has not been synced is as it was."""
        assert self._record is not None
        record, content = self._record
        record.write_bytes(content)
        for old in self._aside.iterdir():
            old.rename(record.parent / old.name)


def until_it_is_put(rig: ManualObjectPartials) -> str:
    """Complete an upload, whose object is not put yet; return its id."""
    identity = rig.create()
    rig.complete(identity)
    while rig.disk.waiting:
        rig.disk.work()
    assert (len(rig.visible), rig.stored()) == (1, {})
    return identity


def ask_and_send(rig: ManualObjectPartials, identity: str) -> None:
    """Continue after a crash, as a client does; check that there is one object."""
    found: list[Any] = rig.results(rig.store.find(identity))
    rig.pass_time(20)
    (upload,) = found
    assert isinstance(upload, PartialUpload)
    if upload.receipt is None:
        told = rig.complete(identity)
        rig.pass_time(20)
        (upload,) = told
    assert rig.stored() == {upload.receipt.name: b"hello"}
    assert (rig.visible, waiting(rig.folder, FORWARD)) == ([], [])


def test_first_name_is_left(tmp_path: Path) -> None:
    """
    If a crash leaves the first name of a file that has been published, it is gone when the
    file has been put and removed: then, that name would say that it was not published.
    """
    files = HalfRenames(tmp_path / "aside")
    one = ManualObjectPartials(tmp_path / "inbox", files=files)
    identity = until_it_is_put(one)
    one.die()
    files.cut()
    other = ManualObjectPartials(tmp_path / "inbox", bucket=one.bucket)
    other.pass_time(1)
    assert (len(other.stored()), other.visible) == (1, [])
    ask_and_send(other, identity)
    other.close()


def test_first_name_does_not_come_back(tmp_path: Path) -> None:
    """A power failure after a file has been put and removed brings its first name not back."""
    files = HalfRenames(tmp_path / "aside")
    one = ManualObjectPartials(tmp_path / "inbox", files=files)
    identity = until_it_is_put(one)
    one.work()
    assert (len(one.stored()), one.visible) == (1, [])
    one.die()
    files.cut()
    other = ManualObjectPartials(tmp_path / "inbox", bucket=one.bucket)
    ask_and_send(other, identity)
    other.close()


def test_first_name_is_gone_before_the_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Nothing is waited for between storing the object and removing the file: a daemon that dies
    there would put it again, even if another program has taken the object away.
    """
    files = HalfRenames(tmp_path / "aside")
    one = ManualObjectPartials(tmp_path / "inbox", files=files)
    until_it_is_put(one)
    synced: list[int] = []
    put = one.bucket.put

    def put_and_count(*arguments: Any) -> None:
        put(*arguments)
        synced.append(files.calls["fsync"])

    monkeypatch.setattr(one.bucket, "put", put_and_count)

    def remove(*arguments: Any) -> None:
        synced.append(files.calls["fsync"])
        remove_file(*arguments)

    monkeypatch.setattr("twisted_upload.stores.s3.puts.remove_file", remove)
    one.work()
    assert (len(one.stored()), one.visible) == (1, [])
    assert not [*(tmp_path / "aside").iterdir()]
    before, after = synced
    assert before == after
    one.close()


def test_only_that_name_is_removed(tmp_path: Path) -> None:
    """Data that is not that of the file that is removed stays."""
    one = ManualObjectPartials(tmp_path)
    until_it_is_put(one)
    (record,) = (tmp_path / PARTIAL).glob("*.record")
    another = record.with_suffix(".data")
    another.write_bytes(b"another file")
    one.work()
    assert (len(one.stored()), one.visible) == (1, [])
    assert another.read_bytes() == b"another file"
    another.unlink()
    one.close()


def test_no_partial_uploads(tmp_path: Path) -> None:
    """A file is removed although the folder of partial uploads has gone in the meantime."""
    one = ManualObjectPartials(tmp_path / "inbox")
    until_it_is_put(one)
    (tmp_path / "inbox" / PARTIAL).rename(tmp_path / "away")
    one.work()
    assert (len(one.stored()), one.visible) == (1, [])
    (tmp_path / "away").rename(tmp_path / "inbox" / PARTIAL)
    one.close()
