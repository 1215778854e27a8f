"""
Connecting: looks up a name, tries its addresses, and shakes hands.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted_upload.client.conversation import Connect, ConnectionBroken
from twisted_upload.client.sockets import Address
from twisted_upload.client.streams import Stream
from twisted_upload.client.targets import Target
from twisted_upload.client.waiting import READ, WRITE, Waiter
from twisted_upload.core.text import format_duration
from twisted_upload.errors import CouldNotConnect, UploadTimedOut
from twisted_upload.net.endpoint_text import socket_name
from twisted_upload.net.linger import reset_on_close

__all__ = ["connect"]

NEXT_AFTER = 0.3
"""Seconds after which the next address of a name is tried too: RFC 8305, section 5."""

_LOOK = 0.05  # seconds between two looks at whether a lookup was stopped


def connect(command: Connect, waiter: Waiter) -> tuple[Stream, str]:
    """
    Connect to a server.

    :return: the connection, and the name of the peer.
    :raises CouldNotConnect: it failed; the text says why.
    :raises UploadTimedOut: it took too long.
    :raises Stopped: it was stopped.
    """
    return _Attempt(command, waiter).run()


class _Attempt:
    def __init__(self, command: Connect, waiter: Waiter) -> None:
        self._target = command.target
        self._reset = command.reset_if_killed
        self._waiter = waiter
        limits = [limit for limit in (command.timeout, command.target.timeout) if limit]
        self._limit = min(limits, default=0.0)
        self._deadline = waiter.system.monotonic() + self._limit if limits else None
        self._open: dict[int, socket.socket] = {}
        self._error: OSError | None = None

    def run(self) -> tuple[Stream, str]:
        try:
            connection = self._try_all(_addresses(self._target, self._left, self._waiter))
        finally:
            for other in self._open.values():
                other.close()
        try:
            return self._stream(connection), _peer_name(connection)
        except BaseException:
            connection.close()
            raise

    def _left(self) -> float | None:
        """:raises UploadTimedOut: nothing is left."""
        if self._deadline is None:
            return None
        left = self._deadline - self._waiter.system.monotonic()
        if left <= 0:
            what = "TLS connection" if self._target.is_tls else "connection"
            raise UploadTimedOut(f"no {what} within {format_duration(self._limit)}")
        return left

    def _try_all(self, addresses: list[Address]) -> socket.socket:
        waiting = [*addresses]
        while waiting or self._open:
            if waiting:
                self._begin(*waiting.pop(0))
            seconds = self._left()
            if waiting and self._open:
                seconds = min(NEXT_AFTER, seconds or NEXT_AFTER)
            while self._open:
                events = dict.fromkeys(self._open, WRITE)
                descriptor, _ = self._waiter.wait_for_one(events, seconds)
                if descriptor < 0:
                    break
                connection = self._open.pop(descriptor)
                number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not number:
                    return connection
                connection.close()
                self._error = OSError(number, os.strerror(number))
                if waiting:
                    break
        assert self._error is not None
        reason = self._error.strerror or str(self._error)
        raise CouldNotConnect(reason) from self._error

    def _begin(self, family: int, address: Any) -> None:
        try:
            connection = self._waiter.system.sockets.stream(family)
        except OSError as error:
            self._error = error
            return
        try:
            if self._reset:  # from the beginning: it may be killed, or lose to another address
                reset_on_close(connection)
            if self._target.scheme == "unix":  # a full backlog would not be told by select
                connection.settimeout(self._left())
                connection.connect(address)
            connection.setblocking(False)
            if self._target.scheme != "unix":
                connection.connect(address)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._error = error
            connection.close()
            return
        except BaseException:
            connection.close()
            raise
        self._open[connection.fileno()] = connection

    def _stream(self, connection: socket.socket) -> Stream:
        if self._target.scheme != "unix":
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if not self._target.is_tls:
            return Stream(connection)
        # Imported here, because most uses have no TLS.
        from twisted_upload.client.tls_stream import TLSStream  # noqa: PLC0415
        from twisted_upload.net.tls.certificates import verifying_context  # noqa: PLC0415

        try:
            context = verifying_context(self._target.cacert)
        except ValueError as error:
            raise CouldNotConnect(str(error)) from error
        stream = TLSStream(connection, context, self._target.host)
        try:
            while not stream.shake_hands():
                events = READ if stream.flush() else READ | WRITE
                self._waiter.wait(connection.fileno(), events, self._left())
        except ConnectionBroken as error:
            raise CouldNotConnect(str(error)) from error
        return stream


def _addresses(target: Target, left: Callable[[], float | None], waiter: Waiter) -> list[Address]:
    system = waiter.system
    if target.scheme == "unix":
        family = system.sockets.unix_family
        if family is None:
            raise CouldNotConnect("this system has no unix sockets")
        return [(family, target.path)]
    try:
        return system.sockets.look_up(target.host, target.port, is_address=True)
    except OSError:
        pass  # it is a name
    # In a thread, because nothing can interrupt a lookup.
    found: list[list[Address] | Exception] = []
    done = system.event()

    def run() -> None:
        try:
            found.append(system.sockets.look_up(target.host, target.port))
        except Exception as error:
            found.append(error)
        done.set()

    try:
        system.start(run, "lookup")
    except RuntimeError as error:
        raise CouldNotConnect(f"cannot look up {target.host}: {error}") from error
    while True:
        waiter.check()
        if done.wait(min(_LOOK, left() or _LOOK)):
            break
    result = found[0]
    if isinstance(result, list):
        return result
    reason = getattr(result, "strerror", None) or str(result)
    raise CouldNotConnect(f"cannot look up {target.host}: {reason}") from result


def _peer_name(connection: socket.socket) -> str:
    address = connection.getpeername()
    if isinstance(address, tuple):
        return socket_name(address[0], address[1])
    return "unix"
