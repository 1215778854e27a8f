"""
A large regular file on its way into a socket, inside the kernel.

`FileSender` reads a piece, hands it to the transport, and is called again when
that has gone: that costs twice the processor time of what the kernel does by
itself when it is asked to (sendfile(2)).  A thread of its own asks, so that a
disk that stands still holds up nothing else.
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
"""Bytes of a file from which on a thread is worth it."""

AT_A_TIME = 8 * 1024 * 1024
"""Bytes that the kernel is asked for; it takes as many as the socket has room for."""

TELL_EVERY = 0.05
"""Seconds between two reports of how far it is."""

_CANNOT = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
_SOCKET_GONE = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN, errno.ETIMEDOUT, errno.ECONNABORTED)


def can_send_in_kernel() -> bool:
    """Whether this system has the calls that `SendFile` needs; some have no pipe2(2)."""
    return hasattr(os, "sendfile") and hasattr(os, "pipe2")


class SendFile:
    """
    One file on its way into one non-blocking socket.

    Both descriptors are duplicated: the caller may close his own at any time,
    and calls `stop` then.  No half-close is sent here, whatever happens.

    :param file: descriptor of a regular file.
    :param size: bytes of it to send, from its beginning; fewer, if it ends before.
    :param socket: descriptor of the socket.
    :param reactor: in whose thread results are told.
    :param moved: called there with the bytes that have gone since the last time.
    :raises OSError: there are no more descriptors.
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
        self._told_at = 0.0
        self._untold = 0
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
        Send all of that.

        :return: fires when the last byte is with the kernel; fails with
            `SourceFailed`, or with `SendingStopped` where the connection has
            gone, or it was stopped.
        :raises RuntimeError: there are no more threads.
        """
        try:
            threading.Thread(target=self._run, name="sendfile", daemon=True).start()
        except RuntimeError:
            self._stopping = True
            self._close()
            raise
        return self._done

    def stop(self) -> None:
        """Send no more, and let go of the socket, as soon as the disk allows."""
        if not self._stopping:
            self._stopping = True
            os.close(self._descriptors.pop())  # what the thread polls wakes up

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
                if error.errno in _CANNOT and move == self._in_kernel:
                    move = self._through_here  # a file system that cannot
                    continue
                reason = os.strerror(error.errno or 0)
                raise SourceFailed(f"cannot read what is to be sent: {reason}") from error
            if moved == 0:
                return
            self._offset += moved
            self._tell(moved)
        raise SendingStopped

    def _in_kernel(self, file: int, socket: int, left: int) -> int:
        return os.sendfile(socket, file, self._offset, min(left, AT_A_TIME))

    def _through_here(self, file: int, socket: int, left: int) -> int:
        data = os.pread(file, min(left, FROM), self._offset)
        return os.write(socket, data) if data else 0

    def _tell(self, moved: int) -> None:
        self._untold += moved
        now = time.monotonic()
        if now - self._told_at >= TELL_EVERY:
            self._told_at = now
            untold, self._untold = self._untold, 0
            self._reactor.callFromThread(self._moved_in_reactor, untold)

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
            if self._untold:
                self._moved(self._untold)
        self._done.callback(result)  # type: ignore[arg-type]  # a Failure makes it fail

    def _close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())


def sha256_of(file: int, offset: int, size: int, reactor: IReactorFromThreads) -> Deferred[str]:
    """
    The SHA-256, in hexadecimal, of a part of a file, computed in a thread.

    :return: fails with `OSError` where it cannot be read.
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
        raise OSError(errno.EAGAIN, "there are no more threads") from error
    return done
