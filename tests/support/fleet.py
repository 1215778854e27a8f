"""
Several daemons, each on another machine, behind HAProxy, with the configurations of
 ``docs/guide/fleet.md``.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import signal
import socket
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import pytest

from tests.proofs.servant import Servant
from tests.support.daemon import connect, deadly, twistd, wait_until
from tests.support.namespaces import Machine, Network
from tests.support.pages import block
from tests.support.tools import tool

__all__ = ["BALANCER", "NODES", "Fleet", "Node"]

GUIDE = "docs/guide/fleet.md"

OURS, BALANCER, STORE = "192.0.2.1", "192.0.2.10", "192.0.2.20"
"""The addresses of this process, of the balancer, and of the object store."""

NODES = {"one": "192.0.2.11", "two": "192.0.2.12", "three": "192.0.2.13"}
"""The nodes of the guide."""

RAW, HTTP, STATUS = 6666, 8080, 9464
"""The ports of the guide."""


def _start_command(configuration: Path) -> list[str]:
    """Return the command of the unit in the guide, with the paths of this machine."""
    unit = block(GUIDE, "unit")
    (command,) = re.findall("^ExecStart=(.*)$", unit, re.MULTILINE)
    program, file = "/opt/twisted-upload/bin/twistd", "/etc/twisted-upload.toml"
    assert program in command
    assert file in command
    return shlex.split(command.replace(program, twistd()).replace(file, str(configuration)))


STOP_TIME = 60.0
"""Seconds in which a daemon of the guide must have stopped: it drains for 30."""


class _NodeDaemon(Servant):
    """The daemon of a node."""

    def __init__(
        self, folder: Path, text: str, machine: Machine, environment: Mapping[str, str]
    ) -> None:
        configuration = folder / "upload.toml"
        configuration.write_text(text, encoding="utf-8")
        super().__init__(folder, environment=environment)
        self._command = [*deadly(), *machine.command, *_start_command(configuration)]


class Node:
    """
    One node.

    :param text: its configuration file, as in the guide.
    :param options: lines of the file that replace those of the guide.
    :ivar folder: its disk.
    :ivar daemon: the running daemon, or the last one.
    """

    def __init__(
        self,
        folder: Path,
        machine: Machine,
        text: str,
        options: Mapping[str, str],
        environment: Mapping[str, str],
    ) -> None:
        folder.mkdir()
        self.folder = folder
        self.inbox = folder / "inbox"
        self.machine = machine
        self.name = machine.name
        self._text = _for_node(text, machine, self.inbox, options)
        self._environment = environment
        self.wrong: list[str] = []
        self.daemon = self._new()

    def start(self) -> None:
        """Start the daemon, and return when it serves."""
        self.daemon = self._new()
        self.daemon.__enter__()

    def stop(self) -> None:
        """Stop the daemon as a service manager does, and return when it has ended."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the daemon."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """End the daemon if it runs."""
        if self.daemon.running():
            self.stop()

    def files(self) -> list[Path]:
        """Return the visible files in its directory."""
        return [path for path in self.inbox.iterdir() if not path.name.startswith(".")]

    def _new(self) -> _NodeDaemon:
        return _NodeDaemon(self.folder, self._text, self.machine, self._environment)

    def _end(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.daemon.signal(number)
        self.daemon.wait_for_end(STOP_TIME)
        log = self.daemon.log.read_text(errors="replace")
        self.wrong += [f"{self.name}: {it} in the log" for it in ("Traceback",) if it in log]


def _for_node(text: str, machine: Machine, inbox: Path, options: Mapping[str, str]) -> str:
    """Return the configuration of the guide, for a node and its paths."""
    text = text.replace('"one"', f'"{machine.name}"').replace(NODES["one"], machine.address)
    text = text.replace("/var/lib/twisted-upload", str(inbox))
    text = text.replace("/var/log/twisted-upload", str(inbox.parent))
    known = [*tomllib.loads(text)]
    lines = [it for it in text.splitlines() if it.partition(" =")[0] not in options]
    added = [f"{name} = {value}" for name, value in options.items() if value]
    assert "listener" in known
    return "\n".join([*added, *lines, ""])


class Fleet:
    """
    The nodes, the balancer, and the network.

    :param work: a folder for their disks.
    :param options: of each node, as TOML values; an empty one removes a line of the guide.
        Without ``store``, the files stay at their nodes.
    :param environment: of each daemon.
    :ivar raw: where raw senders connect to.
    :ivar http: where HTTP clients do.
    """

    raw, http = (BALANCER, RAW), (BALANCER, HTTP)

    def __init__(
        self,
        work: Path,
        network: Network,
        options: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.network = network
        self.work = work
        self.balancer = network.machine("balancer", BALANCER)
        self._balancers: list[subprocess.Popen[bytes]] = []
        text = block(GUIDE, "node")
        given = {"suffix": '".bin"', "max-per-address": "0", "store": "", **(options or {})}
        self.nodes = [
            Node(work / name, network.machine(name, address), text, given, environment or {})
            for name, address in NODES.items()
        ]

    def __enter__(self) -> Self:
        self.start_balancer()
        for node in self.nodes:
            node.start()
        wait_until(self._serves, "that all nodes are up")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._balancers:
            process.kill()
            process.wait()
        for node in self.nodes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                node.close()
        self.network.close()

    def start_balancer(self, old: subprocess.Popen[bytes] | None = None) -> None:
        """
        Start HAProxy.

        :param old: one that finishes what it has, as at a reload.
        """
        file = self.work / "haproxy.cfg"
        file.write_text(self._balancer_text(), encoding="utf-8")
        command = [*deadly(), *self.balancer.command, tool("haproxy"), "-db", "-f", str(file)]
        if old is not None:
            command += ["-sf", str(old.pid)]
        with (self.work / "haproxy.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        self._balancers.append(process)

    def reload_balancer(self) -> None:
        """Start another HAProxy, and let the old one finish what it has."""
        self.start_balancer(self._balancers[-1])

    def kill_balancer(self) -> None:
        """Kill HAProxy."""
        self._balancers[-1].kill()
        self._balancers[-1].wait()

    def _balancer_text(self) -> str:
        text = block(GUIDE, "haproxy")
        socket_line = f"    stats socket {self.work}/haproxy.sock mode 600 level admin\n"
        return text.replace("global\n", f"global\n{socket_line}", 1)

    def states(self) -> dict[tuple[str, str], str]:
        """Return what HAProxy thinks of each server, by backend and server."""
        lines = self._command("show stat").splitlines()
        names = lines[0].lstrip("# ").split(",")
        rows = [dict(zip(names, line.split(","), strict=False)) for line in lines[1:] if line]
        return {(it["pxname"], it["svname"]): it["status"] for it in rows}

    def wait_for(self, name: str, status: str) -> None:
        """Wait until HAProxy thinks this of a node: ``UP`` or ``DOWN``."""
        wait_until(
            lambda: all(self.states()[kind, name] == status for kind in ("raw", "http")),
            f"that {name} is {status}",
        )

    def wait_until_up(self) -> None:
        """Wait until HAProxy thinks that all nodes are up; stores take up to 30 s to recover."""
        for _ in range(4):
            with contextlib.suppress(pytest.fail.Exception):
                wait_until(self._serves, "that all nodes are up")
                return
        wait_until(self._serves, "that all nodes are up")

    def _serves(self) -> bool:
        with contextlib.suppress(OSError, KeyError):
            states = self.states()
            return all(
                states[kind, it.name] == "UP" for kind in ("raw", "http") for it in self.nodes
            )
        return False

    def _command(self, text: str) -> str:
        with connect(socket.AF_UNIX, str(self.work / "haproxy.sock")) as peer:
            peer.sendall(f"{text}\n".encode())
            peer.shutdown(socket.SHUT_WR)
            pieces = []
            while piece := peer.recv(65536):
                pieces.append(piece)
        return b"".join(pieces).decode()

    def files(self) -> Iterator[tuple[str, Path]]:
        """Yield each visible file, with the name of its node."""
        for node in self.nodes:
            yield from ((node.name, path) for path in node.files())
