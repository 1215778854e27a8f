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
import select
import threading
import time
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.python.failure import Failure

from twisted_upload.client.source import SendingStopped
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


def can_send_in_kernel() -> bool:
    """Return whether this system has the calls that `SendFile` needs; some lack pipe2(2)."""
    return hasattr(os, "sendfile") and hasattr(os, "pipe2")


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
    :raises OSError: out of file descriptors.
    """

    def __init__(
        self,
        file: int,
        size: int,
        socket: int,
        reactor: IReactorFromThreads,
        moved: Callable[[int], None],
    ) -> None:
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
                self._descriptors.append(os.dup(descriptor))
            self._descriptors += os.pipe2(os.O_CLOEXEC)
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
            threading.Thread(target=self._run, name="sendfile", daemon=True).start()
        except RuntimeError:
            self._stopping = True
            self._close()
            raise
        return self._done

    def stop(self) -> None:
        """Stop sending, and release the socket as soon as the disk allows."""
        if not self._stopping:
            self._stopping = True
            os.close(self._descriptors.pop())  # wakes the poll() of the thread

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
        poll = select.poll()
        poll.register(socket, select.POLLOUT)
        poll.register(woken, 0)
        move = self._in_kernel
        while not self._stopping:
            left = self._size - self._offset
            if not left:
                return
            try:
                moved = move(file, socket, left)
            except BlockingIOError:
                poll.poll()
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
        return os.sendfile(socket, file, self._offset, min(left, AT_A_TIME))

    def _copy(self, file: int, socket: int, left: int) -> int:
        data = os.pread(file, min(left, FROM), self._offset)
        return os.write(socket, data) if data else 0

    def _report(self, moved: int) -> None:
        self._unreported += moved
        now = time.monotonic()
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
            os.close(self._descriptors.pop())


def sha256_of(file: int, offset: int, size: int, reactor: IReactorFromThreads) -> Deferred[str]:
    """
    Compute the SHA-256, in hexadecimal, of a part of a file, in a thread.

    :return: fails with `OSError` if the file cannot be read.
    """
    done: Deferred[str] = Deferred()
    descriptor = os.dup(file)

    def run() -> None:
        digest = hashlib.sha256()
        position, end = offset, offset + size
        result: object
        try:
            while position < end:
                data = os.pread(descriptor, min(FROM, end - position), position)
                if not data:
                    break
                digest.update(data)
                position += len(data)
            result = digest.hexdigest()
        except BaseException:
            result = Failure()
        finally:
            os.close(descriptor)
        reactor.callFromThread(done.callback, result)

    try:
        threading.Thread(target=run, name="digest", daemon=True).start()
    except RuntimeError as error:
        os.close(descriptor)
        raise OSError(errno.EAGAIN, "cannot start another thread") from error
    return done
