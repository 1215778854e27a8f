"""
The protocol between a supervisor and its workers.
"""

from __future__ import annotations

import socket

import pytest

from twisted_upload.daemon.worker_protocol import InheritedPort


@pytest.mark.parametrize(
    ("port", "text"),
    [
        (InheritedPort(socket.AF_INET6, 4), "AF_INET6:4"),
        (InheritedPort(socket.AF_INET, 5, identity=6), "AF_INET:5:6"),
        (InheritedPort(socket.AF_UNIX, 7, lasting=True), "AF_UNIX:7:lasting"),
        (InheritedPort(socket.AF_INET, 8, 9, lasting=True), "AF_INET:8:9:lasting"),
    ],
)
def test_inherited_port(port: InheritedPort, text: str) -> None:
    """The description of a port can be read back by a worker."""
    assert str(port) == text
    assert InheritedPort.parse(text) == port
