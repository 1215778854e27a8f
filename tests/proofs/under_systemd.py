"""
``python -m tests.proofs.under_systemd``: the service as it is installed, under a real
systemd.

It needs root, systemd-nspawn, debootstrap (and its Debian mirror; or ``--tree`` with a
Debian that has systemd and python3-venv), and pip's index.  A Debian is booted in a
separate network; the wheel and the units are installed there by the documented command;
then the service is restarted, upgraded, reloaded, frozen and killed during uploads.

If systemd restarts it, no sender may be refused, no upload may break, and all
acknowledged uploads must be there.  If it is killed, uploads in flight break, as in any
crash; but no connection is refused, and no acknowledged upload is lost.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.proofs import rigs
from tests.proofs.load import Contents, Ledger, Senders, Verdict, visible
from tests.proofs.machine import STATE, VENV, WHEELS, Machine, alone, booted, debian, wheels
from tests.support.daemon import SUCCESS, finish

ADDRESS = ("127.0.0.1", 6666)
SIZES = (1, 100, 4_000, 20_000, 100_000, 600_000, 3_000_000)
AT_A_TIME = 6
UPGRADE = "999.0"
WATCHDOG = 3
SERVICE = "twisted-upload.service"
WORST_SCORE = 1.2


class Proof:
    """The tests of the service under load, and the errors found."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.wrong: list[str] = []
        self._contents = Contents(SIZES)

    def check(self, what: str, *, so: bool) -> None:
        if not so:
            self.wrong.append(what)

    @contextlib.contextmanager
    def load(self, what: str, *, breaks: bool = False) -> Iterator[Ledger]:
        """
        Send uploads during the block; then print a row about their outcomes.

        :param what: what is tested, for the row.
        :param breaks: whether uploads in flight may break.
        """
        ledger = Ledger(self._contents)
        waits = [0.0]
        senders = Senders(
            ADDRESS,
            ledger,
            at_a_time=AT_A_TIME,
            answered=lambda _, seconds: waits.append(max(waits.pop(), seconds)),
        )
        senders.start()
        try:
            self.check(f"{what}: no uploads at first", so=ledger.wait_for(50, 20))
            yield ledger
            more = len(ledger.acknowledged) + 50
            self.check(f"{what}: no uploads afterwards", so=ledger.wait_for(more, 30))
        finally:
            senders.stop()
        if not breaks:
            self.check(f"{what}: {ledger.lost} uploads broke", so=ledger.lost == 0)
        self.check(f"{what}: refused: {dict(ledger.refused)}", so=not ledger.refused)
        missing, partial = self._compare(what, ledger)
        acknowledged = len(ledger.acknowledged)
        longest = f"{waits[0]:.1f} s"
        refused = ledger.refused.total()
        rigs.row(what, acknowledged, ledger.lost, refused, missing, partial, longest)

    def _compare(self, what: str, ledger: Ledger) -> tuple[int, int]:
        verdict = Verdict(ledger.contents)
        inbox = self.machine.inbox
        for name in visible(str(inbox)):
            verdict.see(name, (inbox / name).read_bytes())
            (inbox / name).unlink()
        missing = verdict.missing(ledger.acknowledged)
        self.wrong += [f"{what}: lost upload {number}" for number in missing]
        self.wrong += [f"{what}: {partial}" for partial in verdict.partial]
        return len(missing), len(verdict.partial)

    # What is done to it

    def starts(self) -> None:
        """Run the documented commands, and check what systemd reports."""
        machine = self.machine
        self.install()
        machine.run("systemctl", "enable", "--now", "twisted-upload.socket", SERVICE)
        self.check("it is not active", so=machine.show("ActiveState") == "active")
        kind = machine.show("Type")
        self.check(f"its type is {kind}", so=kind.startswith("notify"))
        said = machine.wait_for("StatusText", "0 uploads in flight")
        print(f"Type={kind}, READY seen, STATUS={said}")
        scored = machine.run("systemd-analyze", "security", "--no-pager", SERVICE)
        found = re.search(r"exposure level for .*: ([\d.]+)", scored)
        assert found is not None, scored
        print(f"systemd-analyze security: {found[1]}")
        self.check(f"its security score is {found[1]}", so=float(found[1]) <= WORST_SCORE)

    def install(self) -> None:
        self.machine.run(
            f"{VENV}/bin/python", "-m", "twisted_upload.daemon.systemd_units", "--install"
        )

    def kill(self, name: str, pid: int) -> None:
        """Send a signal with the shell's kill: a small Debian has no kill(1)."""
        self.machine.run("sh", "-c", f"kill -{name} {pid}")

    def restarts(self, times: int, label: str = "restart") -> None:
        """Restart it several times."""
        with self.load(f"{label}, {times} times"):
            for _ in range(times):
                self.machine.run("systemctl", "restart", SERVICE)
                time.sleep(0.5)

    def upgrades(self) -> None:
        """Install another version, as documented."""
        before = self.version()
        with self.load("upgrade"):
            self.machine.run(
                *(f"{VENV}/bin/pip", "install", "-q", "--no-index", "--find-links", WHEELS),
                *("--upgrade", "twisted-upload"),
            )
            self.install()
            self.machine.run("systemctl", "restart", SERVICE)
        after = self.version()
        print(f"upgraded from {before} to {after}")
        self.check("it was not upgraded", so=before != after == UPGRADE)

    def version(self) -> str:
        said = self.machine.run(f"{VENV}/bin/pip", "show", "twisted-upload")
        found = re.search(r"^Version: (.+)", said, re.MULTILINE)
        assert found is not None
        return found[1]

    def reloads(self) -> None:
        """Reload with a lower limit while an upload that exceeds it is in flight."""
        with self.load("reload, 20 times"):
            data = bytes(8_000_000)
            with socket.create_connection(ADDRESS) as peer:
                peer.sendall(data[:4_000_000])
                for number in range(20):
                    size = 3_000_000 + number
                    self.configure(f"max-size = {size}\n")
                    self.machine.run("systemctl", "reload", SERVICE)
                    self.until_said(f"-> {size}")
                peer.sendall(data[4_000_000:])
                self.check("the upload on its way was touched", so=finish(peer) == SUCCESS)
            for name in visible(str(self.machine.inbox)):
                path = self.machine.inbox / name
                if path.stat().st_size == len(data):
                    path.unlink()
        self.configure("")
        self.machine.run("systemctl", "reload", SERVICE)
        line = next(line for line in self.machine.journal().splitlines() if "reloaded:" in line)
        print(f"it says: {line}")

    def configure(self, text: str) -> None:
        self.machine.write("/etc/twisted-upload.toml", f'directory = "{STATE}"\n{text}')

    def has_listeners(self) -> None:
        """Use two sockets of systemd, each for the listener of its name."""
        machine = self.machine
        machine.write(
            "/run/systemd/system/scanner.socket",
            "[Socket]\nListenStream=/run/scanner.sock\nSocketMode=0600\n"
            f"FileDescriptorName=scanner\nService={SERVICE}\n",
        )
        names = ("upload", "scanner")
        self.configure("".join(f'[[listener]]\nname = "{n}"\nanswer = "{n}"\n' for n in names))
        machine.run("systemctl", "stop", SERVICE)
        machine.run("systemctl", "start", "scanner.socket")
        for _ in range(2):
            machine.run("systemctl", "restart", SERVICE)
            with socket.create_connection(ADDRESS) as peer:
                peer.sendall(b"x")
                self.check("the port is not its listener's", so=finish(peer) == b"upload")
            code = (
                "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/scanner.sock');"
                "s.sendall(b'x'); s.shutdown(1); print(s.recv(99).decode())"
            )
            said = machine.run("python3", "-c", code)
            self.check(f"the unix socket says {said!r}", so=said == "scanner\n")
        print("two listeners, a port and a unix socket of systemd, each by its name")
        machine.run("systemctl", "stop", SERVICE)
        machine.run("systemctl", "stop", "scanner.socket")
        for name in visible(str(machine.inbox)):
            (machine.inbox / name).unlink()
        self.configure("")
        machine.run("systemctl", "start", SERVICE)

    def until_said(self, text: str) -> None:
        end = time.monotonic() + 10
        while text not in self.machine.journal():
            assert time.monotonic() < end, f"it never said {text!r}"
            time.sleep(0.05)

    def is_watched(self, stop: Callable[[int], None], label: str) -> None:
        """A process that hangs is killed by the watchdog, and restarted."""
        machine = self.machine
        machine.write(
            f"/run/systemd/system/{SERVICE}.d/watchdog.conf",
            f"[Service]\nWatchdogSec={WATCHDOG}\n",
        )
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "restart", SERVICE)
        first = machine.show("WatchdogTimestampMonotonic")
        time.sleep(WATCHDOG * 2.5)
        self.check("it was restarted for nothing", so=machine.show("NRestarts") == "0")
        self.check("no watchdog", so=machine.show("WatchdogTimestampMonotonic") != first)
        with self.load(label, breaks=True):
            began = time.monotonic()
            stop(int(machine.show("MainPID")))
            machine.wait_for("NRestarts", "1")
            machine.wait_for("ActiveState", "active")
            took = time.monotonic() - began
        print(f"{label}: back after {took:.1f} s; WatchdogSec={WATCHDOG}")

    def freezes(self) -> None:
        """Freeze the whole process."""

        def freeze(pid: int) -> None:
            self.kill("STOP", pid)

        self.is_watched(freeze, "frozen (SIGSTOP)")

    def is_killed(self) -> None:
        """Kill it with -9."""
        with self.load("kill -9", breaks=True):
            before = self.machine.show("MainPID")
            self.kill("KILL", int(before))
            self.machine.wait_for("NRestarts", "1", "2")
            self.machine.wait_for("ActiveState", "active")

    def has_workers(self, times: int) -> None:
        """Restart it with two workers, and freeze one of them."""
        machine = self.machine
        self.configure("workers = 2\n")
        machine.run("systemctl", "restart", SERVICE)
        self.restarts(times, "restart with 2 workers")
        main = machine.show("MainPID")
        with self.load("one of 2 workers frozen", breaks=True):
            children = machine.run("cat", f"/proc/{main}/task/{main}/children").split()
            self.kill("STOP", int(children[0]))
            self.until_said("is not responding; killing it")
            self.until_said("starting another")
        self.check("the supervisor was restarted", so=machine.show("MainPID") == main)


def main() -> Sequence[str]:
    """Boot, install, run all tests, print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.under_systemd")
    parser.add_argument("--restarts", type=int, default=5)
    parser.add_argument("--tree", help="a Debian with systemd and python3-venv; made if missing")
    parser.add_argument("--folder", help="where to work; needs some GB")
    arguments = parser.parse_args()
    rigs.needs("systemd-nspawn", "nsenter")
    with rigs.workplace(arguments.folder) as work:
        tree = Path(arguments.tree).resolve() if arguments.tree else work / "tree"
        debian(tree)
        folder = work / "wheels"
        folder.mkdir()
        own = wheels(folder, UPGRADE)
        wheels(folder, own)
        rigs.private()
        alone()
        with booted(work, tree) as machine:
            return prove(machine, own, arguments.restarts)


def prove(machine: Machine, version: str, restarts: int) -> Sequence[str]:
    """Run all tests, in an order in which no test hides another's failure."""
    machine.run("python3", "-m", "venv", VENV)
    machine.run(
        *(f"{VENV}/bin/pip", "install", "-q", "--no-index", "--find-links", WHEELS),
        f"twisted-upload=={version}",
    )
    proof = Proof(machine)
    proof.starts()
    rigs.heading(
        *("under load", "acknowledged", "broken", "refused", "missing", "partial", "longest wait")
    )
    proof.restarts(restarts)
    proof.upgrades()
    proof.reloads()
    proof.has_listeners()
    proof.freezes()
    proof.is_killed()
    proof.has_workers(restarts)
    journal = machine.journal()
    proof.check("a traceback in the journal", so="Traceback" not in journal)
    for line in journal.splitlines():
        proof.check(f"in the journal: {line}", so="Unable to" not in line)
    return proof.wrong


if __name__ == "__main__":
    rigs.command(main)
