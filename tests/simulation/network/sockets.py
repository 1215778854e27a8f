"""
Socket objects of a simulated process, and the system calls of `Sockets`.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import TYPE_CHECKING, Any, Self

from tests.simulation.network.listening import Listening
from tests.simulation.network.stream import ERR, HUP, IN, failed
from tests.simulation.scheduler import Killed
from twisted_upload.net.sockets import Sockets

if TYPE_CHECKING:
    from tests.simulation.network.network import Network
    from tests.simulation.process import Process

__all__ = ["SimulatedSocket", "SimulatedSockets"]

# As plain numbers: an enumeration takes ten times as long for each call.
_PEEK, _NOW, _URGENT = int(socket.MSG_PEEK), int(socket.MSG_DONTWAIT), int(socket.MSG_OOB)
_LINGER = (socket.SOL_SOCKET, socket.SO_LINGER)
_LOWAT = (socket.SOL_SOCKET, socket.SO_RCVLOWAT)
_INLINE = (socket.SOL_SOCKET, socket.SO_OOBINLINE)
_ERROR = (socket.SOL_SOCKET, socket.SO_ERROR)
_CREDENTIALS = (socket.SOL_SOCKET, socket.SO_PEERCRED)
_INFO = (socket.IPPROTO_TCP, socket.TCP_INFO)


class SimulatedSocket:
    """
    A socket object, with the methods of `socket.socket` that Twisted and the daemon call.

    :param process: its process.
    :param number: its file descriptor, which it owns.
    :ivar thing: what the file descriptor refers to.
    """

    __slots__ = ("__weakref__", "_blocks", "_number", "network", "process", "thing")

    type = socket.SOCK_STREAM
    proto = 0

    def __init__(self, network: Network, process: Process, number: int) -> None:
        self.network = network
        self.process = process
        self.thing: Any = process.descriptors.get(number)
        self._number = number
        self._blocks = True

    @property
    def family(self) -> int:
        """Of its addresses."""
        return int(self.thing.family)

    def fileno(self) -> int:
        """Return the file descriptor; -1 if it is closed."""
        return self._number

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def setblocking(self, blocks: bool) -> None:
        """See `socket.socket.setblocking`."""
        self._blocks = bool(blocks)

    def detach(self) -> int:
        """Give the file descriptor away, and return it."""
        number, self._number = self._number, -1
        return number

    def close(self) -> None:
        """See close(2); harmless if it is closed."""
        number = self._number
        if number >= 0:
            self.process.step("close", number)
            self._number = -1
            self.process.descriptors.close(number)

    def _step(self, call: str) -> Any:
        """Begin a system call; return what it concerns."""
        self.process.step(call, self._number)
        if self._number < 0:
            raise failed(errno.EBADF)
        return self.thing

    # Listening

    def bind(self, address: Any) -> None:
        """See bind(2)."""
        self._step("bind")
        self.network.bind(self.thing, address)

    def listen(self, backlog: int = 128) -> None:
        """See listen(2)."""
        self._step("listen")
        self.thing = self.network.listen(self.process, self._number, backlog or 0)

    def _accept(self) -> tuple[int, Any]:
        """See accept(2); return a file descriptor and an address."""
        self.process.step("accept", self._number)
        descriptors = self.process.descriptors
        descriptors.check_room()
        stream = self.thing.accept()
        stream.credentials = self.network.credentials_of(self.process)
        return descriptors.add(stream), stream.peer_name

    def accept(self) -> tuple[SimulatedSocket, Any]:
        """See `socket.socket.accept`."""
        number, address = self._accept()
        return SimulatedSocket(self.network, self.process, number), address

    # Connecting

    def connect_ex(self, address: Any) -> int:
        """See connect(2); return the error number."""
        return self.network.connect_stream(self._step("connect"), address)

    def connect(self, address: Any) -> None:
        """See connect(2)."""
        number = self.connect_ex(address)
        if number:
            raise failed(number)

    # Addresses

    def getsockname(self) -> Any:
        """See getsockname(2)."""
        return self._step("getsockname").name

    def getpeername(self) -> Any:
        """See getpeername(2)."""
        stream = self._step("getpeername")
        if not stream.connected or (stream.dead and stream.family != socket.AF_UNIX):
            raise failed(errno.ENOTCONN)
        return stream.peer_name

    # Options

    def getsockopt(self, level: int, option: int, size: int = 0) -> Any:
        """See getsockopt(2)."""
        thing = self._step("getsockopt")
        key = (level, option)
        if key == _ERROR:
            return thing.taken_error()
        if key == _CREDENTIALS:
            other = thing.other
            return struct.pack("3i", *((0, 0, 0) if other is None else other.credentials))
        if key == _LOWAT:
            return thing.lowat
        if key == _INLINE:
            return int(thing.inline)
        if key == _INFO:
            raise failed(errno.ENOPROTOOPT)
        return thing.options.get(key, 0)

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        """See setsockopt(2)."""
        thing = self._step("setsockopt")
        key = (level, option)
        if key == _LINGER:
            on, seconds = struct.unpack("ii", value)
            thing.linger = seconds if on else None
        elif key == _LOWAT:
            if isinstance(thing, Listening):
                thing.lowat = max(1, value)
            else:
                thing.wake_for(value)
        elif key == _INLINE:
            thing.inline = bool(value)
        else:
            thing.options = {**thing.options, key: value}  # it may be its port's

    # Receiving and sending

    def recv(self, size: int, flags: int = 0) -> bytes:
        """See recv(2)."""
        stream = self._step("recv")
        try:
            data: bytes = stream.receive(size, peek=flags & _PEEK != 0)
        except BlockingIOError:
            self._would_block(flags)
            raise
        return data

    def recv_into(self, view: memoryview, size: int = 0, flags: int = 0) -> int:
        """See `socket.socket.recv_into`."""
        stream = self._step("recv")
        try:
            data = stream.receive(size or len(view), peek=flags & _PEEK != 0)
        except BlockingIOError:
            self._would_block(flags)
            raise
        view[: len(data)] = data
        return len(data)

    def recvmsg(
        self, size: int, more: int = 0, flags: int = 0
    ) -> tuple[bytes, list[Any], int, Any]:
        """See `socket.socket.recvmsg`: nothing comes with the bytes."""
        return self.recv(size, flags), [], 0, None

    def send(self, data: bytes | memoryview, flags: int = 0) -> int:
        """See send(2)."""
        stream = self._step("send")
        try:
            taken: int = stream.send(bytes(data), urgent=flags & _URGENT != 0)
        except BlockingIOError:
            self._would_block(flags)
            raise
        return taken

    def shutdown(self, how: int) -> None:
        """See shutdown(2)."""
        self._step("shutdown").shutdown(how)

    def _would_block(self, flags: int) -> None:
        """Note that a call would block the whole process, and kill it: it cannot go on."""
        if self._blocks and not flags & _NOW:
            self.network.hangs.append(f"{self.process.name}, descriptor {self._number}")
            self.process.kill()
            raise Killed


class SimulatedSockets(Sockets):
    """
    The system calls of `Sockets` in a simulated process.

    :param network: its network.
    :param process: the process.
    """

    def __init__(self, network: Network, process: Process) -> None:
        self._network = network
        self._process = process

    def _thing(self, call: str, descriptor: int) -> Any:
        self._process.step(call, descriptor)
        return self._process.descriptors.get(descriptor)

    def is_readable(self, descriptor: int) -> bool:
        """See `Sockets.is_readable`."""
        return bool(self._thing("poll", descriptor).poll() & (IN | ERR | HUP))

    def has_hung_up(self, descriptor: int) -> bool:
        """See `Sockets.has_hung_up`."""
        return bool(self._thing("poll", descriptor).poll() & HUP)

    def unread_size(self, descriptor: int) -> int:
        """See `Sockets.unread_size`."""
        if descriptor < 0:
            return 0
        try:
            return int(self._thing("ioctl", descriptor).unread)
        except OSError:
            return 0

    def bare(self, family: int, kind: int, protocol: int, descriptor: int) -> Any:
        """See `Sockets.bare`."""
        return SimulatedSocket(self._network, self._process, descriptor)

    def full(self, ours: Any, family: int, kind: int) -> Any:
        """See `Sockets.full`."""
        return ours

    def duplicate_of(self, descriptor: int) -> Any:
        """See `Sockets.duplicate_of`."""
        return SimulatedSocket(self._network, self._process, self.duplicate(descriptor))

    def drop_new_connections(self, listening: Any) -> None:
        """See `Sockets.drop_new_connections`."""
        self._process.step("setsockopt", listening.fileno())
        listening.thing.dropping = True

    def serve_both_families(self) -> bool:
        """See `Sockets.serve_both_families`."""
        return self._network.dual_stack

    def host_with_scope(self, address: Any) -> str:
        """See `Sockets.host_with_scope`."""
        host, _, _, scope = address
        return f"{host}%{scope}" if scope else str(host)

    def duplicate(self, descriptor: int) -> int:
        """See `Sockets.duplicate`."""
        self._process.step("dup", descriptor)
        return self._process.descriptors.duplicate(descriptor)

    def reserve(self) -> int:
        """See `Sockets.reserve`."""
        self._process.step("eventfd")
        return self._process.descriptors.add(_Reserve())

    def do_not_block(self, descriptor: int) -> None:
        """See `Sockets.do_not_block`."""
        self._thing("fcntl", descriptor)

    def close(self, descriptor: int) -> None:
        """See `Sockets.close`."""
        self._process.step("close", descriptor)
        self._process.descriptors.close(descriptor)


class _Reserve:
    """A file descriptor that is held in reserve."""

    __slots__ = ()

    def release(self) -> None:
        """Do nothing."""
