"""
``python -m tests.proofs.watch --uploads 200``: what a process sees that watches the
directory during many simultaneous uploads.

For each file it sees exactly one event, IN_MOVED_TO, and no other (IN_CREATE,
IN_CLOSE_WRITE, IN_MODIFY, IN_DELETE, IN_MOVED_FROM).  At that event the file is whole: it
is read at once.  If ``inotifywait`` is installed, ``inotifywait -m`` on the same directory
must report the same.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import select
import shutil
import struct
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.proofs import rigs
from tests.proofs.load import MIXED, Contents, Ledger, Senders, Verdict, visible
from tests.proofs.servant import Servant
from tests.support.daemon import deadly, wait_until

EVENTS = {
    0x002: "MODIFY",
    0x004: "ATTRIB",
    0x008: "CLOSE_WRITE",
    0x040: "MOVED_FROM",
    0x080: "MOVED_TO",
    0x100: "CREATE",
    0x200: "DELETE",
}
_OVERFLOW = 0x4000
_IN_CLOEXEC = 0o2000000
_HEADER = struct.Struct("iIII")


class Watcher(threading.Thread):
    """
    Reads each file at the moment of its event.

    :ivar events: how often each event came for each name.
    """

    def __init__(self, folder: str, verdict: Verdict) -> None:
        super().__init__(name="watcher", daemon=True)
        libc: Any = ctypes.CDLL(None, use_errno=True)
        self.events: Counter[tuple[str, str]] = Counter()
        self._folder = folder
        self._verdict = verdict
        self._descriptor = libc.inotify_init1(_IN_CLOEXEC)
        mask = sum(EVENTS)
        if libc.inotify_add_watch(self._descriptor, os.fsencode(folder), mask) < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), folder)
        self._stopping = False

    def run(self) -> None:
        while not self._stopping:
            if select.select([self._descriptor], [], [], 0.1)[0]:
                for mask, name in self._read():
                    self._see(mask, name)
        os.close(self._descriptor)

    def stop(self) -> None:
        """Stop watching, once no event has come for a moment."""
        self._stopping = True
        self.join()

    def _read(self) -> Iterator[tuple[int, str]]:
        data = os.read(self._descriptor, 1 << 16)
        while data:
            _, mask, _, length = _HEADER.unpack_from(data)
            name = data[_HEADER.size : _HEADER.size + length].rstrip(b"\0")
            yield mask, os.fsdecode(name)
            data = data[_HEADER.size + length :]

    def _see(self, mask: int, name: str) -> None:
        if mask & _OVERFLOW:
            self.events["", "OVERFLOW"] += 1
        for bit, event in EVENTS.items():
            if mask & bit:
                self.events[name, event] += 1
                if event == "MOVED_TO":
                    self._verdict.see(name, Path(self._folder, name).read_bytes())


@contextlib.contextmanager
def inotifywait(folder: str, said: Path) -> Iterator[None]:
    """Run inotifywait during the block, with its output in a file."""
    names = "modify,attrib,close_write,moved_from,moved_to,create,delete"
    command = ["inotifywait", "--monitor", "--format", "%e %f", "--event", names, folder]
    with said.open("wb") as out, said.with_suffix(".err").open("wb") as errors:
        process = subprocess.Popen([*deadly(), *command], stdout=out, stderr=errors)
    try:
        wait_until(lambda: b"established" in said.with_suffix(".err").read_bytes(), "inotifywait")
        yield
    finally:
        process.terminate()
        process.wait(10)


def main() -> Sequence[str]:
    """Send, watch, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.watch")
    parser.add_argument("--uploads", type=int, default=200)
    parser.add_argument("--hook", action="store_true", help="start a program for each file")
    arguments = parser.parse_args()
    count = arguments.uploads
    options = ["--on-upload=true"] if arguments.hook else []
    ledger = Ledger(Contents(MIXED))
    verdict = Verdict(ledger.contents)
    said = ""
    with (
        rigs.workplace() as work,
        Servant(work, *options) as daemon,
        contextlib.ExitStack() as stack,
    ):
        folder = str(daemon.directory)
        watcher = Watcher(folder, verdict)
        watcher.start()
        has_program = shutil.which("inotifywait") is not None
        if has_program:
            stack.enter_context(inotifywait(folder, work / "said"))
        senders = Senders(daemon.address, ledger, at_a_time=count, count=count)
        senders.start()
        senders.join(50)
        end = time.monotonic() + 5
        while len(verdict) + len(verdict.partial) < count and time.monotonic() < end:
            senders.join(0.01)
            time.sleep(0.01)
        daemon.stop()  # also ends all that it still does to files
        watcher.stop()
        names = visible(folder)
        stack.close()
        if has_program:
            said = (work / "said").read_text()
    events = Counter(event for _, event in watcher.events.elements())
    program = Counter(line.split()[0] for line in said.splitlines() if ".incoming" not in line)
    rigs.heading("watcher", "uploads", "MOVED_TO", "other events", "not whole at that moment")
    moved = events["MOVED_TO"]
    rigs.row("inotify", count, moved, events.total() - moved, len(verdict.partial))
    if has_program:
        moved = program["MOVED_TO"]
        rigs.row("inotifywait -m", count, moved, program.total() - moved, "-")
    wrong = list(verdict.partial)
    wrong += [f"lost upload {number}" for number in verdict.missing(ledger.acknowledged)]
    if len(ledger.acknowledged) != count:
        wrong.append(f"{len(ledger.acknowledged)} of {count} acknowledged: {ledger.refused}")
    only = Counter({(name, "MOVED_TO"): 1 for name in names})
    wrong += [
        f"{name}: {event}, {times}" for (name, event), times in (watcher.events - only).items()
    ]
    wrong += [f"{name}: no {event}" for name, event in only - watcher.events]
    if has_program and program != Counter({"MOVED_TO": count}):
        wrong.append(f"inotifywait saw {dict(program)}")
    return wrong


if __name__ == "__main__":
    rigs.command(main)
