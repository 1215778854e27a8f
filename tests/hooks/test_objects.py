"""
Markers of objects: uploads that were stored in an object store.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import sha256
from tests.support.hook_markers import PEER, failed, hooked_folder, lines, queue_of, waiting
from tests.support.hook_rig import Hooks
from tests.support.stores import MILLISECONDS
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.hooks.folders import HOOKS, WAITING
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.hooks.spool_scan import scan
from twisted_upload.interfaces import Arrival, Metadata

NAME = f"{MILLISECONDS}.bin"
URL = f"s3://archive/照片/{NAME}"
DIGEST = sha256(b"hello")


class Ordered(FaultyFiles):
    """
    Files that note what is synced.

    :ivar synced: path of each file or folder that was synced, in order.
    """

    def __init__(self) -> None:
        super().__init__()
        self.synced: list[str] = []

    def fsync(self, descriptor: int) -> None:
        super().fsync(descriptor)
        self.synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))


@pytest.fixture
def files() -> Ordered:
    return Ordered()


@pytest.fixture
def queue(tmp_path: Path, files: Ordered) -> Iterator[HookSpool]:
    folder = hooked_folder(tmp_path, files)
    files.synced.clear()
    yield queue_of(folder)
    folder.close()


def object_marker(queue: HookSpool, serial: int = 0, metadata: Metadata | None = None) -> Marker:
    """Return the marker of an object, not written yet."""
    arrival = Arrival(PEER, listener="front", metadata=metadata or Metadata())
    marker = queue.marker((MILLISECONDS, serial), arrival, MILLISECONDS / 1000)
    marker.is_object(URL, NAME, 5, DIGEST)
    return marker


def test_durable(queue: HookSpool, files: Ordered, tmp_path: Path) -> None:
    """When it has been recorded, the marker and its name have been synced, in this order."""
    queue.record(object_marker(queue))
    (name,) = waiting(tmp_path)
    folder = str(tmp_path / HOOKS / WAITING)
    assert files.synced == [f"{folder}/{name}", folder]


def test_not_synced(tmp_path: Path, files: Ordered) -> None:
    """Without fsync, it survives the death of the daemon, and nothing is synced."""
    folder = hooked_folder(tmp_path, files, durable=False)
    files.synced.clear()
    queue_of(folder).record(object_marker(queue_of(folder)))
    assert len(waiting(tmp_path)) == 1
    assert files.synced == []
    folder.close()


def test_read_back(queue: HookSpool, tmp_path: Path) -> None:
    """The next daemon finds the object, although no file has its name."""
    marker = object_marker(queue, metadata=Metadata("photo.jpg"))
    queue.record(marker)
    assert scan(queue, 10, ()).markers == []  # its sender has not been answered yet
    queue.release(marker)
    (found,) = scan(queue, 10, ()).markers
    assert (found.url, found.name, found.size, found.sha256) == (URL, NAME, 5, DIGEST)
    assert (found.name_is_certain, found.metadata.original_name) == (True, "photo.jpg")


def test_withdrawn(queue: HookSpool, tmp_path: Path) -> None:
    """A marker can be withdrawn as long as its sender was not answered."""
    marker = object_marker(queue)
    queue.record(marker)
    queue.withdraw(marker)
    assert (waiting(tmp_path), queue.being_stored) == ([], set())


@pytest.mark.parametrize(
    "fault",
    [
        ("create", errno.ENOSPC, 0),
        ("write", errno.ENOSPC, 0),
        ("fsync", errno.EIO, 0),
        ("fsync", errno.EIO, 1),
        ("close", errno.EIO, 0),
    ],
    ids=str,
)
def test_faults(
    queue: HookSpool, files: Ordered, tmp_path: Path, fault: tuple[str, int, int]
) -> None:
    """If it cannot be recorded, nothing of it is left, and no program is started for it."""
    call, error, after = fault
    files.fail(call, error, after=after)
    with pytest.raises(OSError, match=os.strerror(error)):
        queue.record(object_marker(queue))
    assert (waiting(tmp_path), queue.being_stored) == ([], set())


def test_program(hooks: Hooks) -> None:
    """Its program gets the URL and no path, and the SHA-256 that was computed on arrival."""
    hooks.start()
    marker = object_marker(hooks.queue)
    hooks.queue.record(marker)
    hooks.runner.stored(hooks.queue, marker)
    hooks.threads.work()
    (told,) = hooks.programs.told
    assert (told["UPLOAD_NAME"], told["UPLOAD_SIZE"]) == (NAME, "5")
    assert (told["UPLOAD_PATH"], told["UPLOAD_URL"]) == ("", URL)
    assert told["UPLOAD_SHA256"] == DIGEST
    assert waiting(hooks.path) == []


def test_program_after_a_restart(hooks: Hooks) -> None:
    """An object that an earlier daemon recorded gets its program."""
    marker = object_marker(hooks.queue)
    hooks.queue.record(marker)
    hooks.queue.release(marker)
    hooks.start()
    assert [told["UPLOAD_URL"] for told in hooks.programs.told] == [URL]
    assert waiting(hooks.path) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"url": 5},
        {"url": f"http://archive/{NAME}"},
        {"url": "s3://archive/another.bin"},
        {"url": f"s3://archive/\n/{NAME}"},
        {"url": f"s3://{'x' * 2048}/{NAME}"},
        {"sha256": None},
    ],
    ids=lambda changes: repr(changes)[:40],
)
def test_invalid(queue: HookSpool, tmp_path: Path, changes: dict[str, Any]) -> None:
    """A marker whose object cannot be what we write is set aside."""
    marker = object_marker(queue)
    queue.record(marker)
    queue.release(marker)
    (name,) = waiting(tmp_path)
    path = tmp_path / HOOKS / WAITING / name
    path.write_text(json.dumps({**lines(path)[0], **changes}) + "\n")
    found = scan(queue, 10, ())
    assert (found.markers, [bad.aside for bad in found.bad]) == ([], [True])
    assert failed(tmp_path) == [name]


def test_another_name(tmp_path: Path) -> None:
    """A queue can have another name; two in one folder have nothing in common."""
    folder = hooked_folder(tmp_path)
    other = HookSpool(str(tmp_path), folder.files, folder.final, durable=True, name=".forward")
    other.record(object_marker(other))
    assert waiting(tmp_path) == []
    assert len(os.listdir(tmp_path / ".forward" / WAITING)) == 1
    assert (tmp_path / ".forward").stat().st_mode & 0o777 == 0o700
    other.close()
    folder.close()
