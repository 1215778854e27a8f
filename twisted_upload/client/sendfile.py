"""
Sending a large regular file into a socket, inside the kernel.

`FileSender` reads a chunk, passes it to the transport, and is called again when
that has been sent.  That takes twice the CPU time of sendfile(2), with which the
kernel does it alone.  A separate thread makes the calls, so that a stalled disk
does not block anything else.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from twisted_upload.client.sockets import READ, WRITE
from twisted_upload.client.source import SendingStopped
from twisted_upload.client.system import SYSTEM, ClientSystem
from twisted_upload.errors import SourceFailed

__all__ = ["FROM", "SendFile", "can_send_in_kernel", "sha256_of"]

FROM = 1024 * 1024
"""File size, in bytes, from which a thread pays off."""

AT_A_TIME = 8 * 1024 * 1024
"""Bytes requested of the kernel at a time; it takes as many as the socket has room for."""

REPORT_INTERVAL = 0.05
"""Seconds between two progress reports."""

_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_SOCKET_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ETIMEDOUT, errno.ECONNABORTED)


def can_send_in_kernel(system: ClientSystem) -> bool:
    """Return whether this system has the calls that `SendFile` needs; some lack pipe2(2)."""
    return system.sockets.sends_files and system.files.has_pipes


class SendFile:
    """
    Sends one file into one non-blocking socket.

    Both file descriptors are duplicated: the caller may close its own at any time, and
    then calls `stop`.  No half-close is sent here, whatever happens.

    :param file: file descriptor of a regular file.
    :param size: bytes to send, from the beginning of the file; fewer if it ends before.
    :param socket: file descriptor of the socket.
    :param reactor: in whose thread results are reported.
    :param moved: called there with the number of bytes sent since the last call.
    :param system: what is asked of the kernel.
    :raises OSError: out of file descriptors.
    """

    def __init__(
        self,
        file: int,
        size: int,
        socket: int,
        reactor: IReactorFromThreads,
        moved: Callable[[int], None],
        *,
        system: ClientSystem = SYSTEM,
    ) -> None:
        self._system = system
        self._files = system.files
        self._reactor = reactor
        self._moved = moved
        self._offset = 0
        self._size = size
        self._done: Deferred[None] = Deferred()
        self._reported_at = 0.0
        self._unreported = 0
        self._stopping = False
        self._descriptors: list[int] = []
        try:
            for descriptor in (file, socket):
                self._descriptors.append(self._files.duplicate(descriptor))
            self._descriptors += self._files.pipe()
        except OSError:
            self._close()
            raise

    def start(self) -> Deferred[None]:
        """
        Start sending.

        :return: fires when the kernel has the last byte.  Fails with `SourceFailed`, or
            with `SendingStopped` if the connection is gone or `stop` was called.
        :raises RuntimeError: out of threads.
        """
        try:
            self._system.start(self._run, "sendfile")
        except RuntimeError:
            self._stopping = True
            self._close()
            raise
        return self._done

    def stop(self) -> None:
        """Stop sending, and release the socket as soon as the disk allows."""
        if not self._stopping:
            self._stopping = True
            self._files.close(self._descriptors.pop())  # wakes the thread

    # In the thread

    def _run(self) -> None:
        try:
            self._send()
            result: object = None
        except BaseException as error:
            result = Failure(error)
        self._reactor.callFromThread(self._finish, result)

    def _send(self) -> None:
        file, socket, woken = self._descriptors[:3]
        wanted = {socket: WRITE, woken: READ}
        move = self._in_kernel
        while not self._stopping:
            left = self._size - self._offset
            if not left:
                return
            try:
                moved = move(file, socket, left)
            except BlockingIOError:
                self._system.sockets.wait(wanted, None)
                continue
            except OSError as error:
                if error.errno in _SOCKET_GONE:
                    raise SendingStopped from error
                if error.errno in _UNSUPPORTED and move == self._in_kernel:
                    move = self._copy  # the file system does not support sendfile
                    continue
                reason = os.strerror(error.errno or 0)
                raise SourceFailed(f"cannot read the source: {reason}") from error
            if moved == 0:
                return
            self._offset += moved
            self._report(moved)
        raise SendingStopped

    def _in_kernel(self, file: int, socket: int, left: int) -> int:
        size = min(left, AT_A_TIME)
        return self._system.sockets.send_file(socket, file, self._offset, size)

    def _copy(self, file: int, socket: int, left: int) -> int:
        data = self._files.read_at(file, min(left, FROM), self._offset)
        return self._files.write(socket, data) if data else 0

    def _report(self, moved: int) -> None:
        self._unreported += moved
        now = self._system.monotonic()
        if now - self._reported_at >= REPORT_INTERVAL:
            self._reported_at = now
            unreported, self._unreported = self._unreported, 0
            self._reactor.callFromThread(self._moved_in_reactor, unreported)

    # In the reactor's thread

    def _moved_in_reactor(self, size: int) -> None:
        if not self._stopping:
            self._moved(size)

    def _finish(self, result: object) -> None:
        self._close()
        if self._stopping:
            result = Failure(SendingStopped())
        else:
            self._stopping = True
            if self._unreported:
                self._moved(self._unreported)
        self._done.callback(result)  # type: ignore[arg-type]  # a Failure makes it fail

    def _close(self) -> None:
        while self._descriptors:
            self._files.close(self._descriptors.pop())


def sha256_of(
    file: int,
    offset: int,
    size: int,
    reactor: IReactorFromThreads,
    system: ClientSystem = SYSTEM,
) -> Deferred[str]:
    """
    Compute the SHA-256, in hexadecimal, of a part of a file, in a thread.

    :return: fails with `OSError` if the file cannot be read.
    """
    done: Deferred[str] = Deferred()
    files = system.files
    descriptor = files.duplicate(file)

    def run() -> None:
        digest = hashlib.sha256()
        position, end = offset, offset + size
        result: object
        try:
            while position < end:
                data = files.read_at(descriptor, min(FROM, end - position), position)
                if not data:
                    break
                digest.update(data)
                position += len(data)
            result = digest.hexdigest()
        except BaseException:
            result = Failure()
        finally:
            files.close(descriptor)
        reactor.callFromThread(done.callback, result)

    try:
        system.start(run, "digest")
    except RuntimeError as error:
        files.close(descriptor)
        raise OSError(errno.EAGAIN, "cannot start another thread") from error
    return done
