"""
``python -m tests.proofs.faults``: each step of the write path fails in the real daemon.

Single system calls are made to fail with ``strace``, only in the disk thread.  Then come
a device that reports errors (nbdkit), a full disk, one without free inodes, and a limit
on the size of files (`RLIMIT_FSIZE`), all of them real.

For each, the proof checks the answer to the sender, what is left on disk, and that
uploads continue: at once or, if the disk itself has failed, when the store's self-test
has passed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import resource
import subprocess
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.proofs import rigs
from tests.proofs.load import visible
from tests.proofs.servant import Servant
from tests.support.daemon import SUCCESS, Daemon, deadly, wait_until

SMALL, LARGE, MANY = "small", "large", "forty at once"
SENDS = {SMALL: [1_000], LARGE: [24_000_000], MANY: [1_000] * 40}

ERRORS = ("EIO", "EROFS", "ENOSPC", "EDQUOT", "EINTR")
SPACE = ("ENOSPC", "EDQUOT", "EFBIG")


@dataclass(frozen=True)
class Step:
    """
    One system call of the write path.

    :ivar call: its name in strace.
    :ivar sends: the kind of upload that makes the call.
    :ivar of: which call, if there are several.
    :ivar on: a path in the directory, to distinguish calls with the same name.
    :ivar when: which of these calls fails, counted from 1.
    """

    call: str
    sends: str
    of: str = ""
    on: str | None = None
    when: int = 1

    def __str__(self) -> str:
        return f"{self.call} {self.of}".strip()


STEPS = (
    Step("openat", SMALL, on=".incoming"),
    Step("flock", LARGE, "of the file"),
    Step("write", SMALL),
    Step("writev", LARGE),
    Step("splice", LARGE, "from the socket"),
    Step("splice", LARGE, "to the file", when=2),
    Step("sync_file_range", LARGE),
    Step("fchmod", SMALL),
    Step("fsync", SMALL, "of the file"),
    Step("fsync", LARGE, "of the file"),
    Step("io_submit", MANY),
    Step("io_getevents", MANY),
    Step("close", SMALL),
    Step("close", LARGE),
    Step("renameat2", SMALL),
    Step("renameat2", LARGE),
    Step("fsync", SMALL, "of the directory", on="."),
    Step("fsync", LARGE, "of the directory", on="."),
    Step("fsync", MANY, "of the directory", on="."),
)

QUICK = (("fsync", "of the file", "EIO"), ("renameat2", "", "ENOSPC"), ("write", "", "EINTR"))
"""Call, which call, error: the cases that the test suite has time for."""


class Faults:
    """
    The daemon, and the errors found.

    :ivar wrong: the errors, in words.
    """

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.wrong: list[str] = []

    def send(self, sends: str) -> list[str]:
        """Send all at once; return how each ended, as a word."""

        def one(size: int) -> str:
            try:
                answer = self.daemon.send(os.urandom(1) * size)
            except ConnectionResetError:
                return "aborted"
            if answer == SUCCESS:
                return "stored"
            match = re.match(r"上传失败: ([a-z-]+) ", answer.decode(errors="replace"))
            return match[1] if match else f"?{answer!r}"

        with ThreadPoolExecutor(len(SENDS[sends])) as threads:
            return [*threads.map(one, SENDS[sends])]

    def row(self, what: str, sends: str, error: str, answers: list[str], expected: str) -> None:
        """Check what is left on disk and that uploads continue, and print a row."""
        name = f"{what}, {error}, {sends}"
        if expected == "aborted":  # the sender gets no answer, so wait for the cleanup here
            wait_until(lambda: not self.daemon.unfinished(), "an empty .incoming")
        kept = answers.count("stored")
        left = visible(str(self.daemon.directory))
        unfinished = [path.name for path in self.daemon.unfinished()]
        nothing = "nothing" if not kept else f"{kept} whole"
        remains = nothing if len(left) == kept and not unfinished else f"{left}, {unfinished}"
        if len(left) != kept:
            self.wrong.append(f"{name}: {kept} kept, but visible are {left}")
        if unfinished:
            self.wrong.append(f"{name}: left in .incoming: {unfinished}")
        if expected not in answers or not {*answers} <= {"stored", expected}:
            self.wrong.append(f"{name}: the answers were {answers}")
        heard = expected if kept in (0, len(answers)) else f"{expected} ({len(answers) - kept})"
        rigs.row(what, error, sends, heard, remains, self.next(name, expected))
        for file in self.daemon.files():
            file.unlink()

    def next(self, name: str, answer: str) -> str:
        """Check that uploads continue; return when they do."""
        before = len(self.daemon.lines("healthy again"))
        first = self.send(SMALL)
        if answer != "store-error" and first == ["store-error"]:
            self.wrong.append(f"{name}: it made the store unhealthy")
            answer = "store-error"
        when = "works"
        if answer == "store-error":
            if first != ["store-error"]:
                self.wrong.append(f"{name}: not unhealthy, the next was {first}")
            wait_until(lambda: len(self.daemon.lines("healthy again")) > before, "a healthy store")
            first = self.send(SMALL)
            when = "store-error, works after the self-test"
        if first != ["stored"]:
            self.wrong.append(f"{name}: the next upload was {first}")
            when = str(first)
        return when

    @contextlib.contextmanager
    def failing(self, step: Step, error: str) -> Iterator[None]:
        """Make a call fail once in the disk thread."""
        trace = self.daemon.folder / "strace"
        trace.unlink(missing_ok=True)
        command = ["strace", "-o", str(trace), "-e", f"trace={step.call}"]
        command += ["-e", f"inject={step.call}:error={error}:when={step.when}"]
        if step.on is not None:
            command += ["-P", str((self.daemon.directory / step.on).resolve())]
        threads = {*os.listdir(f"/proc/{self.daemon.pid}/task")} - {str(self.daemon.pid)}
        for thread in threads:
            command += ["-p", thread]
        process = subprocess.Popen(
            [*deadly(), *command],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
        )
        try:
            assert process.stderr is not None
            for _ in threads:
                line = process.stderr.readline()
                assert "attached" in line, line + process.stderr.read()
            yield
        finally:
            process.terminate()
            process.communicate(timeout=20)
        assert "(INJECTED)" in trace.read_text(), f"{step}, {error}: it has not been called"


def expected(step: Step, error: str) -> str:
    """Return the answer that the sender must receive: failure rules 1 to 3."""
    if error == "EINTR" or step.call == "io_submit":  # files are then synced one by one
        return "stored"
    if step.of == "from the socket":  # the disk has not failed
        return "aborted"
    return "no-space" if error in SPACE else "store-error"


HEADING = ("call", "error", "upload", "answer", "left on disk", "next upload")


def single_calls(work: Path, quick: bool) -> list[str]:
    """Make each call of the write path fail with each error."""
    rigs.needs("strace")
    if not _may_trace():
        raise rigs.Skip("strace may not attach to a process here")
    # Under this umask, a new file does not have its mode at once, so fchmod is needed.
    before = ["sh", "-c", 'umask 077; exec "$@"', "sh"]
    with Servant(work, "--disk-threads=1", before=before) as daemon:
        faults = Faults(daemon)
        assert faults.send(LARGE) == ["stored"]  # starts the disk thread
        daemon.only_file()
        daemon.files()[0].unlink()
        for step in STEPS:
            for error in ERRORS:
                if quick and (step.call, step.of, error) not in QUICK:
                    continue
                if quick and step.sends != SMALL:
                    continue
                with faults.failing(step, error):
                    answers = faults.send(step.sends)
                faults.row(str(step), step.sends, error, answers, expected(step, error))
        if "Traceback" in daemon.log.read_text():
            faults.wrong.append("a traceback in the log")
        return faults.wrong


def _may_trace() -> bool:
    with subprocess.Popen([*deadly(), "cat"], stdin=subprocess.PIPE) as victim:
        done = subprocess.run(
            ["timeout", "0.3", "strace", "-o", "/dev/null", "-p", str(victim.pid)],
            capture_output=True,
            check=False,
        )
        victim.kill()
    return b"attached" in done.stderr


def small_file_systems(work: Path) -> list[str]:
    """Test a full disk, one without free inodes, and a limit on the size of files."""
    rigs.private()
    wrong = []
    inbox = work / "inbox"
    with rigs.mounted("none", inbox, "size=16m,nr_inodes=60", "-t", "tmpfs"):
        with Servant(work, "--reserve=0") as daemon:
            faults = Faults(daemon)
            free = os.statvfs(inbox).f_bfree
            faults.row("full disk", LARGE, "real ENOSPC", faults.send(LARGE), "no-space")
            # The descriptor of a refused file may be closed a moment later.
            # One block is for the record of names.
            wait_until(lambda: os.statvfs(inbox).f_bfree >= free - 1, "the space given back")
            others = 0
            with contextlib.suppress(OSError):
                while True:
                    (inbox / ".incoming" / f"other-{others}").touch()
                    others += 1
            answers = faults.send(SMALL)
            for number in range(others):
                (inbox / ".incoming" / f"other-{number}").unlink()
            faults.row("no inodes", SMALL, "real ENOSPC", answers, "no-space")
            limits = resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (1_000_000, limits[1]))
            answers = faults.send(LARGE)
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, limits)
            faults.row("RLIMIT_FSIZE", LARGE, "short, EFBIG", answers, "no-space")
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, (500, limits[1]))
            answers = faults.send(SMALL)
            resource.prlimit(daemon.pid, resource.RLIMIT_FSIZE, limits)
            faults.row("RLIMIT_FSIZE", SMALL, "short, EFBIG", answers, "no-space")
        wrong += faults.wrong
    return wrong


@contextlib.contextmanager
def failing_device(work: Path, *make: str) -> Iterator[tuple[Path, Path]]:
    """
    Provide a device that fails while a certain file exists.

    :return: the device, and that file.
    """
    disk = rigs.image(work / "disk.img", 128 << 20, *make)
    switch, folder = work / "broken", work / "nbd"
    folder.mkdir()
    command = ["nbdfuse", str(folder / "disk"), "--command", "nbdkit", "-s", "--exit-with-parent"]
    command += ["--filter=error", "file", str(disk)]
    command += ["error=EIO", "error-pwrite-rate=100%", f"error-file={switch}"]
    # Not with `deadly`: it must end by being unmounted.
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: (folder / "disk").exists() or process.poll() is not None, "nbdfuse")
        if process.poll() is not None:
            raise rigs.Skip("nbdfuse does not work here")
        yield folder / "disk", switch
    finally:
        switch.unlink(missing_ok=True)
        rigs.run("umount", "--lazy", folder)
        process.terminate()
        process.wait(20)


def broken_device(work: Path) -> list[str]:
    """Test a device that reports EIO and then recovers."""
    rigs.needs("nbdkit", "nbdfuse", "mkfs.ext4")
    rigs.private()
    make = [*rigs.EXT4, "-O", "^has_journal"]
    wrong = []
    with failing_device(work, *make) as (device, switch):
        with (
            rigs.mounted(device, work / "mnt", "loop,errors=continue") as mount,
            Servant(work, f"--directory={mount}/inbox") as daemon,
        ):
            daemon.directory = mount / "inbox"
            faults = Faults(daemon)
            first = b"before" * 1000
            assert daemon.send(first) == SUCCESS
            switch.touch()
            answers = faults.send(MANY)
            wait_until(lambda: daemon.lines("still UNHEALTHY"), "a self-test that fails")
            refused = faults.send(SMALL)
            if refused != ["store-error"]:
                wrong.append(f"broken device: unhealthy, but {refused}")
            switch.unlink()
            (kept,) = daemon.files()  # the earlier file is still there
            assert kept.read_bytes() == first
            kept.unlink()
            faults.row("broken device", MANY, "real EIO", answers, "store-error")
            last = b"after" * 1000
            assert daemon.send(last) == SUCCESS
            daemon.stop()
            wrong += faults.wrong
        # Uploads acknowledged since then are on the device, not only in memory.
        with rigs.mounted(device, work / "mnt", "loop"):
            if last not in [file.read_bytes() for file in daemon.files()]:
                wrong.append("broken device: lost what was acknowledged after it had healed")
    return wrong


def main() -> Sequence[str]:
    """Run the parts, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.faults")
    parser.add_argument("--quick", action="store_true", help="a few of the single calls only")
    parser.add_argument("--only", choices=["calls", "small", "device"])
    arguments = parser.parse_args()
    wrong: list[str] = []
    rigs.heading(*HEADING)
    parts = {
        "calls": lambda work: single_calls(work, arguments.quick),
        "small": small_file_systems,
        "device": broken_device,
    }
    skipped: list[str] = []
    done = 0
    for name, part in parts.items():
        if arguments.only in (None, name):
            with rigs.workplace() as work:
                try:
                    wrong += part(work)
                    done += 1
                except rigs.Skip as reason:
                    skipped.append(f"{name}: {reason}")
    if not done:
        raise rigs.Skip("; ".join(skipped))
    for line in skipped:
        print(f"skipped: {line}")
    return wrong


if __name__ == "__main__":
    rigs.command(main)
