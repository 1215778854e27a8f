"""Sending one large file to the same server: our API and command, ncat, socat."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..bench import Bench
from ..build import command, run
from ..content import inspect
from ..errors import UnavailableError
from ..peers import Floor, Peer
from ..peers.base import script
from ..settings import GIB, MIB
from ..storage import clean
from .uploads import settle


@dataclass(frozen=True)
class Client:
    """A way to send one file; `line` returns the shell command for the file and the port."""

    name: str
    label: str
    line: Callable[[str, int], list[str]]
    tells_time: bool = False
    """It prints the seconds itself; otherwise the whole process is timed, including its start."""


def _ours(path: str, port: int) -> list[str]:
    beside = Path(sys.executable).with_name("twisted-upload")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("twisted-upload")
    if found is None:
        raise UnavailableError("the twisted-upload command is not installed")
    return [found, path, "--to", f"127.0.0.1:{port}"]


def _ncat(path: str, port: int) -> list[str]:
    return ["/bin/sh", "-c", f'exec "{command("ncat")}" 127.0.0.1 {port} < "{path}"']


def _socat(path: str, port: int) -> list[str]:
    return [command("socat"), "-b", "262144", "-u", f"FILE:{path}", f"TCP:127.0.0.1:{port}"]


CLIENTS = (
    Client(
        "ours-api",
        "upload(), from call to receipt",
        lambda p, n: [*script("api_client"), p, str(n)],
        True,
    ),
    Client("ours-command", "twisted-upload", _ours),
    Client("ncat", "ncat", _ncat),
    Client("socat", "socat -b 262144 -u", _socat),
)


def client(bench: Bench) -> None:
    """One large file to a C receiver that discards it, and to our daemon on tmpfs."""
    size = bench.settings.large_size
    sink = Floor("sink", "throws everything away", set())
    servers: list[tuple[str, Peer]] = [("client-sink", sink), ("client", bench.ours())]
    with bench.storage.tmpfs("client", size + 256 * MIB) as place:
        for case, server in servers:
            for number in range(bench.settings.rounds):
                _round(bench, case, server, number, place)


def _round(bench: Bench, case: str, server: Peer, number: int, place: Path) -> None:
    first = number % len(CLIENTS)
    for one in (*CLIENTS[first:], *CLIENTS[:first]):
        if not bench.settings.wants_peer(one.name) or one.name in bench.results.skipped.get(
            case, {}
        ):
            continue
        bench.say(f"{case}: round {number + 1} of {bench.settings.rounds}: {one.name}")
        try:
            values = _send(bench, server, one, place)
        except Exception as error:
            bench.leave_out(case, one.name, error)
        else:
            bench.results.add(case, one.name, one.label, number, values)


def _send(bench: Bench, server: Peer, one: Client, place: Path) -> dict[str, float]:
    size = bench.settings.large_size
    with bench.receiver(server, place) as (receiver, inbox):
        line = one.line(str(bench.source), receiver.port)
        settle(bench, place, size if server.name != "floor-sink" else 0)
        began, before = time.perf_counter(), os.times()
        output = run(line)
        seconds, after = time.perf_counter() - began, os.times()
        if one.tells_time:
            seconds = float(json.loads(output)["wall"])
        values = {
            "gib_per_s": size / GIB / seconds,
            "sender_cpu_s_per_gib": (
                after.children_user + after.children_system
                - before.children_user - before.children_system
            ) / (size / GIB),
        }  # fmt: skip
        if server.name != "floor-sink":
            # socat -u does not wait for the answer: the file may need a moment yet.
            for _ in range(100):
                kept = inspect(inbox, size, bench.source)
                if kept.whole:
                    break
                time.sleep(0.05)
            values["lost"] = kept.lost({0})
            clean(inbox)
    return values
