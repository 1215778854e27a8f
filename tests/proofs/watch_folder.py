"""
``python -m tests.proofs.watch_folder --kills 200 --cuts 40``: a folder that empties itself
(``twisted-upload watch --delete``) loses nothing and stores nothing twice, whatever is killed.

Files come into the folder all the time.  At random moments the watcher or the daemon is
killed (kill -9) and started again.  In the end, the folder must be empty, and each file must
have been stored once, whole.

For a power cut at the sender, the folder and the state of the watcher are on a journaled ext4
in a file, which is copied atomically while the watcher is stopped (see
`tests.proofs.power_cut`).  Then the watcher is killed, and another one starts on the copy.
The daemon has another disk, and continues.  Each file that had been synced before the cut must
have been stored once in the end, and each other one at most once.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.proofs import rigs
from tests.proofs.load import Contents, Verdict, visible
from tests.proofs.servant import Servant
from tests.support.daemon import deadly, wait_until

SIZES = (1_000, 20_000, 300_000, 1_500_000, 4_000_000)
DEVICE = 1 << 30
AT_MOST = 100
"""Files that wait in the folder, so that all can be sent in the end."""
CUTS_EACH = 10


class Feeder:
    """
    Puts files into a folder, each with one rename, or slowly.

    :ivar safe: numbers of the files that are on the disk, whatever happens.
    :ivar begun: number of files begun.
    """

    def __init__(self, contents: Contents, chance: random.Random) -> None:
        self.safe: list[int] = []
        self.begun = 0
        self._contents = contents
        self._chance = chance

    def put(self, folder: Path) -> None:
        """Put one file there, synced."""
        number, self.begun = self.begun, self.begun + 1
        name = f"scan-{number:06d}.bin"
        hidden = folder / f".{name}"
        with hidden.open("wb") as file:
            file.write(self._contents[number])
            file.flush()
            os.fsync(file.fileno())
        hidden.rename(folder / name)
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.safe.append(number)

    @contextlib.contextmanager
    def feeding(self, folder: Path) -> Iterator[None]:
        """Put files there all the time."""
        over = threading.Event()

        def feed() -> None:
            while not over.is_set():
                if len(os.listdir(folder)) < AT_MOST:
                    self.put(folder)
                over.wait(self._chance.uniform(0, 0.05))

        thread = threading.Thread(target=feed)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


class WatcherProcess:
    """``twisted-upload watch --delete`` in another process."""

    def __init__(self, folder: Path, state: Path, url: str, log: Path) -> None:
        command = os.path.join(sysconfig.get_path("scripts"), "twisted-upload")
        self._log = log
        self._begin = len(log.read_text()) if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [
                    *(*deadly(), command, "watch", str(folder), "--to", url, "--delete"),
                    *("--state", str(state), "--settle", "1s", "-j", "3"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "HOME": str(state.parent)},
            )

    def wait_for_start(self) -> None:
        """Wait until it watches."""
        wait_until(lambda: "watching" in self._log.read_text()[self._begin :], "a start")

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        """Stop it, and return its exit status."""
        self._process.terminate()
        return self._process.wait(20)


class Folders:
    """
    The folder that is watched, and the server's.

    :ivar wrong: the errors found.
    """

    def __init__(self, work: Path, chance: random.Random) -> None:
        self.work = work
        self.chance = chance
        self.contents = Contents(SIZES)
        self.feeder = Feeder(self.contents, chance)
        self.wrong: list[str] = []
        self.log = work / "watch.log"
        self._port = 0

    def daemon(self) -> Servant:
        """Return the daemon; it is always at the same port."""
        address = f"tcp:{self._port}:interface=127.0.0.1"
        return Servant(self.work, f"--http={address}", "--max-partials-per-address=0")

    def url(self, daemon: Servant) -> str:
        """Return where it is."""
        self._port = daemon.address[1]
        return f"http://127.0.0.1:{self._port}/"

    def finish(self, folder: Path, state: Path, safe: Sequence[int]) -> None:
        """Let everything be sent, and compare."""
        with self.daemon() as daemon:
            watcher = WatcherProcess(folder, state, self.url(daemon), self.log)
            with contextlib.suppress(BaseException):
                deadline = time.monotonic() + 120
                while any(folder.glob("scan-*")) and time.monotonic() < deadline:
                    time.sleep(0.1)
            status = watcher.stop()
        left = sorted(it.name for it in folder.glob("scan-*"))
        self.wrong += [f"left in the folder: {name}" for name in left[:5]]
        if status:
            self.wrong.append(f"the watcher ended with {status}")
        self.compare(safe)

    def compare(self, safe: Sequence[int]) -> None:
        """Check what the server has stored."""
        verdict = Verdict(self.contents)
        inbox = self.work / "inbox"
        for name in visible(str(inbox)):
            verdict.see(name, (inbox / name).read_bytes())
        self.wrong += [f"lost file {number}" for number in verdict.missing(safe)]
        self.wrong += verdict.partial
        self.wrong += [f"file {it} is stored twice" for it in verdict.twice(self.feeder.begun)]
        if "Traceback" in self.log.read_text(errors="replace"):
            self.wrong.append("a traceback in the log of the watcher")


def kills(work: Path, rounds: int, chance: random.Random) -> Folders:
    """Kill the watcher and the daemon."""
    folders = Folders(work, chance)
    folder, state = work / "scans", work / "state"
    folder.mkdir()
    with folders.feeder.feeding(folder), contextlib.ExitStack() as running:
        daemon = running.enter_context(folders.daemon())
        watcher = WatcherProcess(folder, state, folders.url(daemon), folders.log)
        for _ in range(rounds):
            time.sleep(chance.uniform(0.05, 1.5))
            which = chance.choice(("watcher", "watcher", "daemon", "both"))
            if which != "watcher":
                daemon.signal(signal.SIGKILL)
                daemon.wait_for_end()
            if which != "daemon":
                watcher.kill()
                watcher = WatcherProcess(folder, state, folders.url(daemon), folders.log)
            if which != "watcher":
                time.sleep(chance.uniform(0, 0.5))
                running.pop_all().close()
                daemon = running.enter_context(folders.daemon())
        watcher.kill()
    folders.finish(folder, state, folders.feeder.safe)
    return folders


def cuts(host: Path, rounds: int, chance: random.Random) -> Folders:
    """Cut the power of the sender's disk."""
    work = host.parent / "server"
    work.mkdir()
    folders = Folders(work, chance)
    device = rigs.image(host / "device.img", DEVICE, *rigs.EXT4)
    safe: list[int] = []
    with folders.daemon() as daemon:
        url = folders.url(daemon)
        for _ in range(rounds):
            with rigs.mounted(device, host.parent / "mnt", "loop,commit=60") as mount:
                (mount / "scans").mkdir(exist_ok=True)
                watcher = WatcherProcess(mount / "scans", mount / "state", url, folders.log)
                watcher.wait_for_start()
                with folders.feeder.feeding(mount / "scans"):
                    time.sleep(chance.uniform(0.3, 3.0))
                    safe = [*folders.feeder.safe]
                    watcher.signal(signal.SIGSTOP)
                    rigs.clone(device, host / "cut.img")
                watcher.kill()
            folders.feeder.safe = safe  # without those that came after the cut
            shutil.move(host / "cut.img", device)
    with rigs.mounted(device, host.parent / "mnt", "loop,commit=60") as mount:
        folders.finish(mount / "scans", mount / "state", safe)
    return folders


def main() -> Sequence[str]:
    """Kill, cut, compare, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.watch_folder")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=40)
    parser.add_argument("--seed", type=int, default=None)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    wrong: list[str] = []
    rigs.heading("what", "rounds", "files", "wrong")
    if arguments.kills:
        with rigs.workplace() as work:
            done = kills(work, arguments.kills, chance)
            rigs.row("kill -9 of either side", arguments.kills, done.feeder.begun, len(done.wrong))
            wrong += done.wrong
    for _ in range(0, arguments.cuts, CUTS_EACH):
        with rigs.power_cut_rig() as host:
            rounds = min(CUTS_EACH, arguments.cuts)
            done = cuts(host, rounds, chance)
            rigs.row("power cuts of the sender", rounds, done.feeder.begun, len(done.wrong))
            wrong += done.wrong
    return wrong


if __name__ == "__main__":
    rigs.command(main)
