"""
Carries out a conversation on sockets, in the thread that calls it.

One driver for all: a program without a loop calls it, and for those with one (asyncio,
Twisted) it runs in a thread, so that neither a slow disk nor a lookup holds their loop.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any, TypeVar

from twisted_upload.client.connecting import connect
from twisted_upload.client.content import CHANGED, CHUNK, Content
from twisted_upload.client.conversation import (
    Abort,
    Close,
    Connect,
    ConnectionBroken,
    Conversation,
    HalfClose,
    Read,
    Receive,
    Send,
    SendFrom,
    Sha256,
    Sleep,
)
from twisted_upload.client.hasher import Hasher
from twisted_upload.client.rate_limit import RateLimit
from twisted_upload.client.streams import Stream
from twisted_upload.client.system import SYSTEM, ClientSystem
from twisted_upload.client.waiting import READ, WRITE, Stop, Waiter
from twisted_upload.core.text import format_duration
from twisted_upload.errors import AnswerTimedOut, SourceChanged, UploadError, UploadTimedOut

__all__ = ["Driver"]

T = TypeVar("T")

FROM = 1024 * 1024
"""Bytes from which the kernel sends a file."""

AT_A_TIME = 8 * 1024 * 1024
"""Bytes requested of the kernel at a time; it takes as many as the socket has room for."""

REPORT_INTERVAL = 0.05
"""Seconds between two reports of progress."""

_UNSUPPORTED = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


class Driver:
    """
    Carries out one conversation.

    :param stop: ends it from another thread.
    :param limit: how fast it may send.
    :param system: what is asked of the kernel.
    """

    def __init__(
        self,
        stop: Stop | None = None,
        limit: RateLimit | None = None,
        system: ClientSystem = SYSTEM,
    ) -> None:
        self._system = system
        self._waiter = Waiter(stop, system)
        self._limit = limit
        self._stream: Stream | None = None
        self._hasher: Hasher | None = None
        self._in_kernel = system.sockets.sends_files
        self._reported_at = -1.0

    def run(self, conversation: Conversation[T]) -> T:
        """
        Carry out a conversation, and return its result.

        The connection is closed at the end, reset unless that was said otherwise.

        :raises UploadError: what the conversation raises.
        :raises Stopped: it was stopped.
        """
        result: Any = None
        error: Exception | None = None
        try:
            while True:
                step = conversation.send if error is None else conversation.throw
                command = step(error or result)
                result = error = None
                try:
                    result = _STEPS[type(command)](self, command)
                except (UploadError, ConnectionBroken) as failure:
                    error = failure
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            try:
                self._abort()
            finally:
                conversation.close()
                if self._hasher is not None:
                    self._hasher.close()

    # The connection

    def _connect(self, command: Connect) -> str:
        self._abort()
        self._stream, peer = connect(command, self._waiter)
        return peer

    def _abort(self, _: Abort | None = None) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.abort()

    def _close(self, _: Close) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    @property
    def _open(self) -> Stream:
        if self._stream is None:
            raise ConnectionBroken("there is no connection")
        return self._stream

    def _half_close(self, _: HalfClose) -> None:
        stream = self._open
        done = stream.half_close()
        while not done:
            self._waiter.wait(stream.socket.fileno(), WRITE, None)
            done = stream.flush()

    # Waiting for the other side

    def _receive(self, command: Receive) -> bytes:
        stream = self._open
        while not stream.has_input():
            events = READ if stream.flush() else READ | WRITE
            if not self._wait(stream, events, command.timeout):
                seconds = format_duration(command.timeout)
                raise AnswerTimedOut(f"everything was sent, but no answer came within {seconds}")
        return stream.take()

    def _wait(self, stream: Stream, events: int, timeout: float) -> bool:
        """Wait; return whether there is an event, or bytes have got through meanwhile."""
        while True:
            before = stream.mark()
            if self._waiter.wait(stream.socket.fileno(), events, timeout or None):
                return True
            if stream.mark() == before:
                return False

    # Sending

    def _send(self, command: Send) -> int:
        return self._send_all(memoryview(command.data), command.timeout)

    def _send_all(self, data: memoryview, timeout: float) -> int:
        """Send; return how much was sent before the server sent something."""
        stream, sent = self._open, 0
        try:
            while sent < len(data) or not stream.flush():
                moved = stream.try_send(data[sent:]) if sent < len(data) else 0
                sent += moved
                if not moved and self._is_answered(stream, timeout):
                    break
        except ConnectionBroken as broken:
            broken.sent = sent
            raise
        return sent

    def _is_answered(self, stream: Stream, timeout: float) -> bool:
        """
        Wait until more can be sent; return whether the server has sent something.

        :raises UploadTimedOut: no byte got through.
        """
        if stream.has_input():
            return True
        if not self._wait(stream, READ | WRITE, timeout):
            raise UploadTimedOut(f"no byte was transferred for {format_duration(timeout)}")
        return stream.has_input()

    def _send_from(self, command: SendFrom) -> int:
        content, offset = command.content, command.offset
        assert isinstance(content, Content)
        end = offset + command.size
        hasher = self._hasher_of(content) if command.hashed else None
        try:
            while offset < end:
                size = min(end - offset, AT_A_TIME)
                if self._limit is not None:
                    size = min(size, self._limit.piece)
                    self._limit.take(size)
                    self._waiter.check()
                moved = self._send_piece(command, content, offset, size, hasher)
                offset += moved
                self._report(command, offset, last=offset == end)
                if self._open.has_input():
                    break
        except ConnectionBroken as broken:
            broken.sent += offset - command.offset
            raise
        return offset - command.offset

    def _send_piece(
        self, command: SendFrom, content: Content, offset: int, size: int, hasher: Hasher | None
    ) -> int:
        descriptor = content.descriptor
        large = command.size >= FROM
        if large and self._in_kernel and self._open.is_plain and descriptor is not None:
            try:
                moved = self._send_in_kernel(descriptor, offset, size, command.timeout)
            except NotImplementedError:
                self._in_kernel = False
            else:
                if hasher is not None:
                    hasher.follow(offset + moved)
                return moved
        chunk = content.read_at(offset, min(size, CHUNK))
        if not chunk:
            raise SourceChanged(CHANGED)
        moved = self._send_all(memoryview(chunk), command.timeout)
        if hasher is not None:
            hasher.passed(offset, chunk[:moved])
        return moved

    def _send_in_kernel(self, descriptor: int, offset: int, size: int, timeout: float) -> int:
        """
        Have the kernel send a part of a file; return how many bytes it has taken.

        :raises NotImplementedError: it does not do that for this file.
        """
        stream, send_file = self._open, self._system.sockets.send_file
        while True:
            try:
                moved = send_file(stream.socket.fileno(), descriptor, offset, size)
            except BlockingIOError:
                if self._is_answered(stream, timeout):
                    return 0
            except OSError as error:
                if error.errno in _UNSUPPORTED:
                    raise NotImplementedError from error
                raise ConnectionBroken(error.strerror or str(error)) from error
            else:
                if not moved:
                    raise SourceChanged(CHANGED)
                return moved

    def _report(self, command: SendFrom, offset: int, *, last: bool) -> None:
        now = self._system.monotonic()
        if last or now - self._reported_at >= REPORT_INTERVAL:
            self._reported_at = now
            command.moved(offset)

    # The content

    def _read(self, command: Read) -> bytes:
        content, chunks, left = command.content, [], command.size
        assert isinstance(content, Content)
        while left:
            size = left if self._limit is None else min(left, self._limit.piece)
            self._wait_for_content(content)
            with self._waiter.blocked(self._abort):
                chunk = content.read_next(size)
            if not chunk:
                break
            if self._limit is not None:
                self._limit.take(len(chunk))
            chunks.append(chunk)
            left -= len(chunk)
            if command.some:
                break
        return b"".join(chunks)

    def _wait_for_content(self, content: Content) -> None:
        """Wait until reading does not, if the system can tell: then it can be stopped."""
        self._waiter.check()
        if not content.waits or os.name != "posix":
            return
        try:
            descriptor = content.file.fileno()
        except (OSError, AttributeError, ValueError):
            return
        if getattr(content.file, "peek", None) is None:  # else it may have a buffer
            self._waiter.wait(descriptor, READ, None)

    def _sha256(self, command: Sha256) -> str:
        assert isinstance(command.content, Content)
        return self._hasher_of(command.content).hexdigest(command.size, self._waiter.check)

    def _hasher_of(self, content: Content) -> Hasher:
        if self._hasher is None:
            self._hasher = Hasher(content)
        return self._hasher

    def _sleep(self, command: Sleep) -> None:
        self._waiter.wait(None, READ, command.seconds)


_STEPS: dict[type, Callable[[Driver, Any], Any]] = {
    Abort: Driver._abort,  # noqa: SLF001 - its own
    Close: Driver._close,  # noqa: SLF001
    Connect: Driver._connect,  # noqa: SLF001
    HalfClose: Driver._half_close,  # noqa: SLF001
    Read: Driver._read,  # noqa: SLF001
    Receive: Driver._receive,  # noqa: SLF001
    Send: Driver._send,  # noqa: SLF001
    SendFrom: Driver._send_from,  # noqa: SLF001
    Sha256: Driver._sha256,  # noqa: SLF001
    Sleep: Driver._sleep,  # noqa: SLF001
}
