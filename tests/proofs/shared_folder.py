"""
``python -m tests.proofs.shared_folder --first /mnt/a --second /mnt/b --rounds 20``: two daemons
store files in one directory, each through another mount, as two machines do.

First it shows what the file system can do.  Then, in turns, one of the two daemons is killed
with -9, or stopped, and started again, under the load of many senders at both.  No acknowledged
upload may be lost, no file may be partial or exist twice, and what a daemon left unfinished is
removed, but nothing that the other is writing.

Both folders may be the same: then it shows what two daemons on one machine do.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.proofs import rigs
from tests.proofs.load import Contents, Ledger, Senders, Verdict, visible
from tests.proofs.servant import Servant
from tests.support.daemon import deadly, wait_until

SIZES = (100, 4_000, 20_000, 300_000, 2_000_000)

AT_A_TIME = 8

ENOUGH = 40
FIRST_OF_SECOND = 1 << 40

_LOCK_AND_WAIT = """
import fcntl, sys, time
with open(sys.argv[1], "r+") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("locked", flush=True)
    time.sleep(60)
"""


def probe(first: Path, second: Path) -> Iterator[tuple[str, str]]:
    """Yield what the file system does, in words."""
    for path in first, second:
        yield f"file system of {path}", file_system(path)
    yield "rename without replacing", _told(lambda: _rename(first))
    yield "hard links", _told(lambda: os.link(_file(first, "probe-a"), first / "probe-b"))
    yield (
        "files without a name (O_TMPFILE)",
        _told(lambda: os.close(os.open(first, os.O_TMPFILE | os.O_WRONLY))),
    )
    yield "fsync of a file", _told(lambda: _sync(_file(first, "probe-c")))
    yield "fsync of a folder", _told(lambda: _sync(first))
    yield "splice from a socket, and preallocation", _told(lambda: _allocate(first))
    yield from _locks(first, second)
    yield "removed while it is open", _removed(first)
    yield "a new file is seen through the other mount", _seen(first, second)


def file_system(path: Path) -> str:
    """Return the type of the file system, and its version."""
    best: tuple[int, str] = 0, "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, folder, kind, options, *_ = line.split()
        if path.resolve().is_relative_to(folder) and len(folder) > best[0]:
            versions = [it for it in options.split(",") if it.startswith(("vers=", "hard", "soft"))]
            best = len(folder), " ".join([kind, *versions])
    return best[1]


def _told(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "works"


def _file(folder: Path, name: str) -> Path:
    path = folder / name
    path.write_bytes(b"probe")
    return path


def _rename(folder: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    names = [os.fsencode(it) for it in (_file(folder, "probe-d"), folder / "probe-e")]
    if libc.renameat2(-100, names[0], -100, names[1], 1) != 0:
        raise OSError(ctypes.get_errno(), "")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _allocate(folder: Path) -> None:
    with (folder / "probe-f").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 20)


def _locks(first: Path, second: Path) -> Iterator[tuple[str, str]]:
    path = _file(first, "probe-g")
    holder = subprocess.Popen(
        [*deadly(), sys.executable, "-c", _LOCK_AND_WAIT, str(path)], stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    wait_until((second / path.name).exists, "a file to be seen through the other mount")
    with (second / path.name).open("r+") as file:
        yield "a lock (flock) is seen through the other mount", _locked(file.fileno())
        holder.kill()
        holder.wait()
        began = time.monotonic()
        while _locked(file.fileno()) == "yes" and time.monotonic() - began < 100:
            time.sleep(0.02)
        yield "a lock is free after its process was killed", f"{time.monotonic() - began:.2f} s"
    holder.stdout.close()


def _locked(descriptor: int) -> str:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "yes"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return "no"


def _removed(folder: Path) -> str:
    with _file(folder, "probe-h").open("rb") as file:
        (folder / "probe-h").unlink()
        left = [it.name for it in folder.iterdir() if it.name.startswith(".nfs")]
        try:
            links = os.fstat(file.fileno()).st_nlink
        except OSError as error:
            return f"its descriptor fails: {errno.errorcode[error.errno or 0]}"
    return f"{links} links; {'stays as .nfs... until it is closed' if left else 'gone'}"


def _seen(first: Path, second: Path) -> str:
    os.listdir(second)
    _file(first, "probe-i")
    began = time.monotonic()
    while "probe-i" not in os.listdir(second) and time.monotonic() - began < 120:
        time.sleep(0.01)
    return f"after {time.monotonic() - began:.2f} s"


class Pair:
    """
    The two daemons, and the errors found.

    :param folders: the directory, through each mount.
    :param enough: acknowledgements to wait for at each step of a round.
    """

    def __init__(self, work: Path, folders: Sequence[Path], enough: int = ENOUGH) -> None:
        self._enough = enough
        contents = Contents(SIZES)
        self.folders = folders
        self.ledgers = [Ledger(contents, first) for first in (0, FIRST_OF_SECOND)]
        self.wrong: list[str] = []
        self._work = work
        self._daemons = [self._daemon(number).__enter__() for number in range(2)]
        self._senders: list[Senders | None] = [None, None]

    def _daemon(self, number: int) -> Servant:
        folder = self._work / str(number)
        folder.mkdir(exist_ok=True)
        options = [f"--directory={self.folders[number]}", "--suffix=.bin"]
        options += ["--http=tcp:0:interface=127.0.0.1", "--port=0", "--interface=127.0.0.1"]
        return Servant(folder, f"--node=n{number}", *options)

    def send(self, number: int) -> None:
        """Begin to send to one of them."""
        address = self._daemons[number].address
        senders = Senders(address, self.ledgers[number], at_a_time=AT_A_TIME)
        self._senders[number] = senders
        senders.start()

    def wait(self, number: int) -> bool:
        """Wait for more successes of the senders at one of them."""
        ledger = self.ledgers[number]
        return ledger.wait_for(len(ledger.acknowledged) + self._enough, 60)

    def round(self, number: int, way: int) -> None:
        """End one of them, while the other continues, and start it again."""
        for each in range(2):
            if not self.wait(each):
                self.wrong.append(f"daemon {each} stores nothing")
        daemon, senders = self._daemons[number], self._senders[number]
        assert senders is not None
        daemon.signal(way)
        daemon.wait_for_end()
        senders.stop()
        self.wait(1 - number)
        self._daemons[number] = self._daemon(number).__enter__()
        self.send(number)

    def end(self) -> None:
        """Finish all uploads, and stop both."""
        for senders in self._senders:
            if senders is not None:
                senders.finish()
        for daemon in self._daemons:
            self.wrong += daemon.logged_errors()
            daemon.stop()

    def close(self) -> None:
        """End both, whatever they are doing."""
        for daemon in self._daemons:
            daemon.__exit__(None, None, None)

    def log(self) -> str:
        """Return the log of the first, without its uploads."""
        lines = self._daemons[0].log.read_text().splitlines()
        return "\n".join(line for line in lines if " WARN" in line or "listens" in line)

    def compare(self) -> tuple[int, int]:
        """Compare the files with the acknowledged uploads; return how many are missing, partial."""
        verdict = Verdict(self.ledgers[0].contents)
        folder = self.folders[0]
        for name in visible(str(folder)):
            verdict.see(name, (folder / name).read_bytes())
        promised = [number for ledger in self.ledgers for number in ledger.acknowledged]
        missing = verdict.missing(promised)
        self.wrong += [f"lost upload {number}" for number in missing] + verdict.partial
        self.wrong += [f"twice: upload {it}" for it in verdict.twice(2 * FIRST_OF_SECOND)]
        left = [it.name for it in (folder / ".incoming").iterdir() if it.name.startswith("upload-")]
        if left:
            self.wrong.append(f"left in .incoming/: {len(left)}")
        return len(missing), len(verdict.partial)


def main() -> Sequence[str]:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.shared_folder")
    parser.add_argument("--first", type=Path, help="the directory, as one machine has mounted it")
    parser.add_argument("--second", type=Path, help="the same, as another has")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--enough", type=int, default=ENOUGH, help="successes in each step")
    arguments = parser.parse_args()
    with rigs.workplace() as work:
        first = arguments.first or work / "shared"
        second = arguments.second or first
        first.mkdir(exist_ok=True)
        rigs.heading("what", "on this file system")
        for what, told in probe(first, second):
            rigs.row(what, told)
        for left in first.glob("probe-*"):
            with contextlib.suppress(FileNotFoundError):
                left.unlink()
        pair = Pair(work, [first / "inbox", second / "inbox"], arguments.enough)
        began = time.monotonic()
        try:
            for number in range(2):
                pair.send(number)
            for number in range(arguments.rounds):
                way = (signal.SIGKILL, signal.SIGTERM)[number // 2 % 2]
                pair.round(number % 2, way)
            pair.end()
            said = pair.log()
        finally:
            pair.close()
        missing, partial = pair.compare()
    print(said)
    rigs.heading("rounds", "seconds", "acknowledged", "missing", "partial")
    acknowledged = sum(len(ledger.acknowledged) for ledger in pair.ledgers)
    seconds = f"{time.monotonic() - began:.0f}"
    rigs.row(arguments.rounds, seconds, acknowledged, missing, partial)
    if not all(ledger.acknowledged for ledger in pair.ledgers):
        pair.wrong.append("nothing was acknowledged, so it proves nothing")
    return pair.wrong


if __name__ == "__main__":
    rigs.command(main)
