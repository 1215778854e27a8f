"""
A network of machines, each of which is a network namespace of this machine.

The namespaces are gone when this process ends, however it ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
from typing import Any

from tests.support.daemon import deadly, wait_until

__all__ = ["Machine", "Network", "NoNetwork"]

_CLONE_NEWNET = 0x40000000
_PREFIX_LENGTH = 24
_SWITCH = "switch"


class NoNetwork(Exception):
    """This machine cannot make namespaces."""


class Network:
    """
    A switch, and the machines that are connected to it.  This process becomes one of them.

    Create it before any thread: only threads that are started later are on the network.

    :param address: the IPv4 address of this process; the other machines have others of the
        same /24.
    :raises NoNetwork: we are not root, or programs are missing.
    """

    def __init__(self, address: str) -> None:
        libc: Any = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET) != 0:
            raise NoNetwork(f"no network namespaces here: {os.strerror(ctypes.get_errno())}")
        _ip("link", "set", "lo", "up")
        _ip("link", "add", _SWITCH, "type", "bridge")
        _ip("address", "add", f"{address}/{_PREFIX_LENGTH}", "dev", _SWITCH)
        _ip("link", "set", _SWITCH, "up")
        self.machines: list[Machine] = []

    def machine(self, name: str, address: str) -> Machine:
        """Connect another machine."""
        machine = Machine(name, address)
        self.machines.append(machine)
        return machine

    def close(self) -> None:
        """End all machines."""
        for machine in self.machines:
            machine.close()


class Machine:
    """
    A machine that is connected to the network.

    :param name: unique, at most 10 characters.
    :ivar command: the beginning of a command that runs on this machine.
    """

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        # The namespace exists as long as this process, which is in it.
        self._holder = subprocess.Popen(
            [*deadly(), "unshare", "--net", "sleep", "infinity"], stdin=subprocess.DEVNULL
        )
        namespace = f"/proc/{self._holder.pid}/ns/net"
        own = os.readlink("/proc/self/ns/net")

        def is_there() -> bool:
            with contextlib.suppress(OSError):
                return os.readlink(namespace) != own
            return False

        wait_until(is_there, "a network namespace")
        self.command = ["nsenter", f"--net={namespace}"]
        self._port = f"to-{name}"
        _ip("link", "add", self._port, "type", "veth", "peer", "name", "eth0", "netns",
            str(self._holder.pid))  # fmt: skip
        self.connect()
        _ip("link", "set", self._port, "up")
        self._run("ip", "link", "set", "lo", "up")
        self._run("ip", "address", "add", f"{address}/{_PREFIX_LENGTH}", "dev", "eth0")
        self._run("ip", "link", "set", "eth0", "up")

    def disconnect(self) -> None:
        """Lose every packet to and from this machine; neither end notices that by itself."""
        _ip("link", "set", self._port, "nomaster")

    def connect(self) -> None:
        """Connect it again."""
        _ip("link", "set", self._port, "master", _SWITCH)

    def block(self, address: str) -> None:
        """Lose every packet to another machine, and those from it remain without a response."""
        self._run("ip", "route", "add", "blackhole", f"{address}/32")

    def unblock(self, address: str) -> None:
        """Reach the other machine again."""
        self._run("ip", "route", "del", "blackhole", f"{address}/32")

    def close(self) -> None:
        """End it, with all its connections."""
        self._holder.kill()
        self._holder.wait()

    def _run(self, *command: str) -> None:
        _run(*self.command, *command)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=20,
            env={**os.environ, "PATH": path},
        )  # fmt: skip
    except FileNotFoundError as error:
        raise NoNetwork(f"needs {error.filename}") from None
    if done.returncode:
        raise NoNetwork(f"{' '.join(command)}: {done.stderr.strip()}")
