"""
The endpoints of a listener.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from twisted.internet.protocol import Factory
from twisted.internet.testing import MemoryReactorClock

from tests.support.configurations import configured, configured_listeners
from tests.support.tls_peers import files
from twisted_upload.config.configuration import configure
from twisted_upload.daemon.endpoints import EndpointBuilder
from twisted_upload.errors import WrongConfiguration
from twisted_upload.net.sockets import Sockets


def test_endpoints(tmp_path: Path) -> None:
    """An endpoint is named after its source: an option, or a file and its key."""
    configuration = configured_listeners(
        tmp_path, "interface = '::1'\nlisten = ['unix:/a', 'tcp:5']"
    )
    reactor: Any = MemoryReactorClock()
    names = [name for name, _ in EndpointBuilder(reactor).of_listener(configuration.listeners[0])]
    where = f"{tmp_path}/x.toml: listener l0:"
    assert names == [
        f"{where} port 0 ({where} interface ::1)",
        f"{where} listen unix:/a",
        f"{where} listen tcp:5",
    ]
    (listener,) = configure({}, {}, "/").listeners
    assert [name for name, _ in EndpointBuilder(reactor).of_listener(listener)] == ["--port 6666"]


def test_wrong_endpoint(tmp_path: Path) -> None:
    """The error for an invalid endpoint names its source."""
    configuration = configured_listeners(tmp_path, "listen = 'ssl:1'")
    with pytest.raises(WrongConfiguration, match=r"listener l0: listen: .* half-close"):
        EndpointBuilder(MemoryReactorClock()).of_listener(configuration.listeners[0])


@pytest.mark.parametrize("dual", [True, False])
def test_kernel_that_was_given(dual: bool) -> None:
    """Whether there is IPv6 is asked of the kernel that was given, for each kind of port."""

    class Kernel(Sockets):
        def serve_both_families(self) -> bool:
            return dual

    reactor: Any = MemoryReactorClock()
    builder = EndpointBuilder(reactor, kernel=Kernel())
    for listener in configured("directory=/in", "port=6666", "http=8080").listeners:
        for _, endpoint in builder.of_listener(listener):
            endpoint.listen(Factory())
    assert [it[3] for it in reactor.tcpServers] == 2 * ["::" if dual else "0.0.0.0"]


def test_tls_behind_a_balancer(tmp_path: Path) -> None:
    """TLS cannot be combined with the PROXY protocol, and the error says what can."""
    key, chain, _ = files(tmp_path)
    listen = f"listen = 'tls:1:key={key}:cert={chain}'\n"
    (one,) = configured_listeners(tmp_path, listen).listeners
    assert len(EndpointBuilder(MemoryReactorClock()).of_listener(one)) == 2
    balanced = listen + "proxy-protocol = true\nproxy-from = '10.0.0.0/8'"
    with pytest.raises(WrongConfiguration, match=r"listener l1: listen: tls: cannot be combined"):
        configured_listeners(tmp_path, listen, balanced)
