"""
The directory store with real threads.
"""

from __future__ import annotations

import ctypes
import os
import struct
import threading
from functools import partial
from pathlib import Path

from twisted.internet.defer import gatherResults

from tests.support.stores import ARRIVAL, ThreadedRig
from tests.support.waiting import until
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.stores.directory.file_queue import SMALL


async def test_stalled_disk(tmp_path: Path) -> None:
    """A stalled disk blocks its own uploads, but neither the reactor nor another store."""
    files = FaultyFiles()
    stuck, free = ThreadedRig(tmp_path / "stuck", files=files), ThreadedRig(tmp_path / "free")
    for call in "fsync", "write", "create":
        files.stall(call)
        waiting = stuck.store.begin(ARRIVAL, lambda _: None)
        waiting.write(b"x" * SMALL)
        committed = waiting.commit()
        await until(partial(files.calls.__getitem__, call))
        other = free.store.begin(ARRIVAL, lambda _: None)
        other.write(b"y" * SMALL * 4)
        assert (await other.commit()).size == SMALL * 4
        assert not committed.called
        files.heal()
        files.calls.clear()
        await committed
    stuck.close()
    free.close()


async def test_reactor_calls_no_disk(tmp_path: Path) -> None:
    """Every system call of an upload is made in a disk thread."""
    threads: set[str] = set()

    class Watched(FaultyFiles):
        def _before(self, call: str) -> int | None:
            threads.add(threading.current_thread().name)
            return super()._before(call)

    files = Watched()
    rig = ThreadedRig(tmp_path, files=files)
    threads.clear()
    incoming = rig.store.begin(ARRIVAL, lambda _: None)
    for _ in range(40):
        incoming.write(b"x" * 65536)
    await incoming.commit()
    aborted = rig.store.begin(ARRIVAL, lambda _: None)
    aborted.write(b"x" * SMALL)
    aborted.abort()
    await rig.settle()
    assert threads
    assert all(name.startswith("disk") for name in threads)
    rig.close()


_IN_ALL_EVENTS = 0xFFF

_IN_MOVED_TO = 0x80


async def test_watcher_sees_one_event(tmp_path: Path) -> None:
    """A watcher of the folder sees exactly one IN_MOVED_TO for each file, when it is whole."""
    libc = ctypes.CDLL(None, use_errno=True)
    rig = ThreadedRig(tmp_path / "inbox", threads=8)
    watch = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        interesting = _IN_ALL_EVENTS & ~0x11 & ~0x20  # not: read, opened or closed unwritten
        assert libc.inotify_add_watch(watch, os.fsencode(rig.folder), interesting) > 0
        committed = []
        for number in range(100):
            incoming = rig.store.begin(ARRIVAL, lambda _: None)
            incoming.write(b"%d" % number * 1000)
            committed.append(incoming.commit())
        for number in range(3):
            incoming = rig.store.begin(ARRIVAL, lambda _: None)
            for _ in range(20):
                incoming.write(b"%d" % number * 65536)
            committed.append(incoming.commit())
        receipts = await gatherResults(committed)
        events = os.read(watch, 1 << 20)
    finally:
        os.close(watch)
        rig.close()
    seen = []
    while events:
        _, mask, _, length = struct.unpack_from("iIII", events)
        seen.append((mask, events[16 : 16 + length].rstrip(b"\0").decode()))
        events = events[16 + length :]
    assert sorted(seen) == sorted((_IN_MOVED_TO, receipt.name) for receipt in receipts)


async def test_names_across_threads(tmp_path: Path) -> None:
    """Many uploads that finish at once in many threads are each stored once."""
    rig = ThreadedRig(tmp_path / "inbox", threads=16)
    committed = []
    for number in range(300):
        incoming = rig.store.begin(ARRIVAL, lambda _: None)
        incoming.write(b"%d" % number)
        committed.append(incoming.commit())
    receipts = await gatherResults(committed)
    stored = rig.stored()
    assert len(stored) == 300
    assert [stored[receipt.name or ""] for receipt in receipts] == [
        b"%d" % number for number in range(300)
    ]
    rig.close()
