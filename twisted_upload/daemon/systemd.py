"""
The protocol between a service manager such as systemd and a daemon.

sd_notify(3), sd_listen_fds(3) and sd_watchdog_enabled(3) are three environment
variables and a datagram socket; podman, s6 and others use the same.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

from twisted_upload.errors import CannotStart

__all__ = ["InheritedSocket", "Manager", "Notifier", "started_with", "take_environment"]

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
_OURS = (
    *("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"),
    *("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"),
)


@dataclass(frozen=True, slots=True)
class InheritedSocket:
    """
    A listening socket that the manager has opened, and keeps open.

    :ivar name: its ``FileDescriptorName=``.
    """

    name: str
    descriptor: int
    family: socket.AddressFamily


@dataclass(frozen=True, slots=True)
class Manager:
    """
    What is known of the service manager that started this process.

    :ivar notify: the address of its socket; None if it wants no notifications.
    :ivar watchdog: seconds without a sign of life after which it considers the
        process dead; 0 for never.
    :ivar sockets: the sockets that it has opened for us to serve.
    """

    notify: str | None = None
    watchdog: float = 0.0
    sockets: tuple[InheritedSocket, ...] = ()


def started_with() -> Mapping[str, str]:
    """
    Return the environment that this process was started with.

    When it is imported, Twisted removes the systemd variables that it knows from
    `os.environ`, whether they are used or not.
    """
    try:
        with open("/proc/self/environ", "rb") as file:
            variables = file.read().split(b"\0")
    except OSError:
        return dict(os.environ)
    pairs = (os.fsdecode(variable).partition("=") for variable in variables if variable)
    return {name: value for name, _, value in pairs}


def take_environment(
    started: Mapping[str, str], environment: MutableMapping[str, str], process: int
) -> Manager:
    """
    Parse the variables of the service manager, and hide them from child processes.

    :param started: the environment to parse.
    :param environment: the environment of child processes; the variables are removed
        from it.
    :param process: our PID; variables meant for another process are ignored.
    :raises CannotStart: a socket cannot be served.
    """
    for name in _OURS:
        environment.pop(name, None)
    watchdog = 0
    if started.get("WATCHDOG_PID", str(process)) == str(process):
        watchdog = _number(started.get("WATCHDOG_USEC"))
    sockets: tuple[InheritedSocket, ...] = ()
    if started.get("LISTEN_PID") == str(process):
        names = started.get("LISTEN_FDNAMES", "").split(":")
        sockets = tuple(
            _inherited(names[index] if index < len(names) else "", _FIRST_DESCRIPTOR + index)
            for index in range(_number(started.get("LISTEN_FDS")))
        )
    return Manager(started.get("NOTIFY_SOCKET") or None, watchdog / 1e6, sockets)


def _number(text: str | None) -> int:
    return int(text) if text is not None and re.fullmatch("[0-9]{1,20}", text) else 0


def _inherited(name: str, descriptor: int) -> InheritedSocket:
    label = f"LISTEN_FDS: file descriptor {descriptor}{f' ({name})' if name else ''}"
    try:
        with socket.socket(fileno=os.dup(descriptor)) as one:
            listening = one.type == socket.SOCK_STREAM and bool(
                one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
            )
            family = one.family
    except OSError as error:
        raise CannotStart(f"{label}: not a socket: {error.strerror}") from error
    if not listening:
        raise CannotStart(
            f"{label}: not a listening socket; the .socket unit needs ListenStream= and Accept=no"
        )
    os.set_inheritable(descriptor, False)
    os.set_blocking(descriptor, False)
    return InheritedSocket(name, descriptor, family)


class Notifier:
    """
    Sends messages to the manager.

    Never waits: a manager that does not read must not block the daemon.

    :param address: the address of its socket: a path, or ``@`` and an abstract name.
    :raises CannotStart: it is neither.
    """

    def __init__(self, address: str) -> None:
        if address[:1] not in ("/", "@") or len(address) < 2:
            raise CannotStart(
                f"NOTIFY_SOCKET: {address!r} is neither a path nor an abstract socket name"
            )
        self._address = "\0" + address[1:] if address[0] == "@" else address
        self._socket = socket.socket(
            socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )

    def __call__(self, message: str) -> bool:
        """
        Send a message: lines such as ``READY=1``.

        :return: whether it was sent; otherwise it may be sent again later.
        """
        with contextlib.suppress(OSError):
            return self._socket.sendto(message.encode(), self._address) > 0
        return False

    def close(self) -> None:
        """Close the socket; nothing more can be sent."""
        self._socket.close()
