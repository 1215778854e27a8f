"""
Blocking senders of raw uploads, and the answers they receive.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import time

from twisted_upload.core.answers import CODES, read_answer
from twisted_upload.errors import UploadRefused

Sockets = tuple[socket.socket, socket.socket]
"""A sender, and our end of its connection."""

STORED = "上传成功".encode()
"""The answer to a sender whose file has been stored."""


def send_whole(peer: socket.socket, *pieces: bytes) -> None:
    """Send all pieces, then half-close."""
    for piece in pieces:
        peer.sendall(piece)
    peer.shutdown(socket.SHUT_WR)


def read_all(peer: socket.socket) -> bytes:
    """Read to the end, blocking; raise on a reset."""
    heard = b""
    while piece := peer.recv(65536):
        heard += piece
    return heard


def read_until_reset(peer: socket.socket) -> bytes:
    """Read to the end; return nothing if that is a reset."""
    try:
        return read_all(peer)
    except ConnectionResetError:
        return b""


def reset(peer: socket.socket) -> None:
    """Close so that the kernel sends RST, as for a sender that has been killed."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def refusal_code(answer: bytes) -> str:
    """Return the code of a refusal, which must be one well-formed line."""
    text = answer.decode()
    assert text.startswith("上传失败: ")
    assert text.endswith("\n")
    assert text.count("\n") == 1
    refused = read_answer(answer)
    assert isinstance(refused, UploadRefused)
    assert refused.code in CODES
    assert refused.explanation
    assert "/" not in refused.explanation
    assert "Traceback" not in refused.explanation
    return refused.code


def received_so_far(peer: socket.socket) -> bytes:
    """Return what can be read without waiting."""
    readable, _, _ = select.select([peer], [], [], 0)
    return peer.recv(65536) if readable else b""


def send_all_then_read(peer: socket.socket, data: bytes, times: int = 1) -> bytes:
    """Send everything before reading, as the oldest blocking senders do."""
    for _ in range(times):
        peer.sendall(data)
    peer.shutdown(socket.SHUT_WR)
    return read_all(peer)


def flood(peer: socket.socket) -> str:
    """Send without end; return the error that stops it."""
    piece = bytes(65536)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            peer.sendall(piece)
        except (ConnectionResetError, BrokenPipeError) as error:
            return errno.errorcode[error.errno or 0]
    return "nothing"
