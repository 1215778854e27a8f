"""
``python -m tests.proofs.balancer --rounds 20``: HAProxy in front of two daemons on one
directory, under the load of many senders.

In turns, one of the two is stopped and restarted, or killed with -9 and restarted.  No
acknowledged upload may be lost, no file may exist twice or be partial, and senders
without an acknowledgement must have noticed it.  A stop and a start must not affect any
sender; a kill may affect only the senders whose uploads were at the killed daemon.

At the end, senders that break off in the middle of a file must leave nothing behind: the
balancer must pass the reset on.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.proofs import rigs
from tests.proofs.load import Contents, Ledger, Senders, Verdict, visible
from tests.proofs.servant import Servant
from tests.support.daemon import SUCCESS, Daemon, connect, deadly, finish, wait_until
from tests.support.senders import reset

SIZES = (1, 100, 4_000, 20_000, 100_000, 300_000, 1_000_000)

AT_A_TIME = 32

CONFIGURATION = """\
global
    maxconn 2000
defaults
    mode tcp
    timeout connect 5s
    timeout client 1m
    timeout server 1m
    retries 3
    option redispatch 1
    default-server send-proxy-v2 check inter 200ms fall 2 rise 1
listen upload
    bind 127.0.0.1:{front}
    balance leastconn
    server one 127.0.0.1:{one}
    server two 127.0.0.1:{two}
"""


def free_ports(number: int) -> list[int]:
    """Return ports that are free at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)
        ]
        return [it.getsockname()[1] for it in sockets]


def daemon_at(folder: Path, inbox: Path, port: int, workers: int) -> Servant:
    """Return one of the two daemons; both store files in the same directory."""
    folder.mkdir(exist_ok=True)
    options = [f"--port={port}", "--interface=127.0.0.1", f"--directory={inbox}"]
    options += [
        "--proxy-protocol",
        "--proxy-from=127.0.0.1",
        "--suffix=.bin",
        f"--workers={workers}",
    ]
    return Servant(folder, *options)


@contextlib.contextmanager
def haproxy(work: Path, front: int, one: int, two: int) -> Iterator[tuple[str, int]]:
    """Run HAProxy in front of two ports; yield its address."""
    file = work / "haproxy.cfg"
    file.write_text(CONFIGURATION.format(front=front, one=one, two=two))
    rigs.run("haproxy", "-c", "-f", file)
    log = (work / "haproxy.log").open("wb")
    process = subprocess.Popen(
        [*deadly(), "haproxy", "-db", "-f", str(file)], stdout=log, stderr=log
    )
    try:
        address = ("127.0.0.1", front)

        def answers() -> bool:
            with contextlib.suppress(OSError), connect(socket.AF_INET, address) as peer:
                peer.sendall(b"t")
                return finish(peer) == SUCCESS
            return False

        wait_until(answers, "an upload through the balancer")
        yield address
    finally:
        process.terminate()
        process.wait(10)
        log.close()


class Rounds:
    """The rounds, and the violations found."""

    def __init__(self, work: Path, ledger: Ledger, front: tuple[str, int]) -> None:
        self.work = work
        self.inbox = work / "inbox"
        self.ledger = ledger
        self.front = front
        self.wrong: list[str] = []
        self.felt = {"stop": 0, "kill": 0}
        self.answered = {"stop": 0, "kill": 0}

    def round(self, way: str, daemon: Daemon, again: Daemon) -> None:
        """
        Stop or kill one of the daemons under load, and restart it.

        :param again: the same daemon, for its next run.
        """
        ledger = self.ledger
        before = len(ledger.acknowledged), ledger.lost + ledger.refused.total()
        ledger.wait_for(before[0] + 200, 20)
        daemon.signal(signal.SIGTERM if way == "stop" else signal.SIGKILL)
        daemon.wait_for_end()
        if "Traceback" in daemon.log.read_text(errors="replace"):
            self.wrong.append("a traceback in the log")
        ledger.wait_for(len(ledger.acknowledged) + 200, 20)
        again.__enter__()
        ledger.wait_for(len(ledger.acknowledged) + 200, 20)
        self.felt[way] += ledger.lost + ledger.refused.total() - before[1]
        self.answered[way] += len(ledger.acknowledged) - before[0]
        if way == "kill" and ledger.lost + ledger.refused.total() - before[1] > AT_A_TIME:
            self.wrong.append("a kill was felt by more senders than there were")

    def break_off(self, number: int) -> None:
        """Reset connections in the middle of a file, as killed senders do."""
        for _ in range(number):
            with connect(socket.AF_INET, self.front) as peer:
                peer.sendall(b"half a file" * 20_000)
                time.sleep(0.01)
                reset(peer)


def main() -> Sequence[str]:
    """Stop, kill and restart the daemons; compare; print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.balancer")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=1, help="processes of each daemon")
    parser.add_argument("--folder", help="where to work; needs some GB")
    arguments = parser.parse_args()
    rigs.needs("haproxy", root=False)
    with rigs.workplace(arguments.folder) as work, contextlib.ExitStack() as stack:
        front, *backs = free_ports(3)
        inbox = work / "inbox"
        ways = {"one": backs[0], "two": backs[1]}
        daemons = {
            name: daemon_at(work / name, inbox, port, arguments.workers).__enter__()
            for name, port in ways.items()
        }

        def end() -> None:
            for daemon in daemons.values():
                daemon.__exit__(None, None, None)

        stack.callback(end)
        address = stack.enter_context(haproxy(work, front, *backs))
        for path in visible(str(inbox)):  # of the balancer's own trial
            os.unlink(inbox / path)
        ledger = Ledger(Contents(SIZES))
        rounds = Rounds(work, ledger, address)
        senders = Senders(address, ledger, at_a_time=AT_A_TIME)
        senders.start()
        for number in range(arguments.rounds):
            way, name = ("stop", "kill")[number % 2], ("one", "two")[number // 2 % 2]
            again = daemon_at(work / name, inbox, ways[name], arguments.workers)
            rounds.round(way, daemons[name], again)
            daemons[name] = again
        senders.finish()
        rounds.break_off(20)
        for daemon in daemons.values():
            daemon.stop()
        verdict = Verdict(ledger.contents)
        for path in visible(str(inbox)):
            verdict.see(path, (inbox / path).read_bytes())
    missing = verdict.missing(ledger.acknowledged)
    rounds.wrong += [f"lost upload {number}" for number in missing]
    rounds.wrong += verdict.partial
    rounds.wrong += [f"twice or never sent: {number}" for number in verdict.twice(ledger.begun)]
    if rounds.felt["stop"]:
        rounds.wrong.append(f"{rounds.felt['stop']} senders felt a stop or a start")
    rigs.heading(
        "one daemon was", "acknowledged meanwhile", "not acknowledged", "missing", "partial"
    )
    rigs.row("stopped and started", rounds.answered["stop"], rounds.felt["stop"], "", "")
    rigs.row("killed and started", rounds.answered["kill"], rounds.felt["kill"], "", "")
    rigs.row("all", len(ledger.acknowledged), "", len(missing), len(verdict.partial))
    if not ledger.acknowledged:
        rounds.wrong.append("nothing was acknowledged, so it proves nothing")
    return rounds.wrong


if __name__ == "__main__":
    rigs.command(main)
