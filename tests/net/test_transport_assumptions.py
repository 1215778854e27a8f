"""
What reading at once assumes about Twisted and Python beyond their promises.
"""

from __future__ import annotations

import socket
from functools import partial

from twisted.internet import tcp
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.protocol import Factory

from tests.support.frontends import open_frontend
from tests.support.transports import RecordedTransports
from tests.support.waiting import reactor, until
from twisted_upload.net.transport import EagerServer, read_eagerly


async def test_what_twisted_has() -> None:
    """
    A port of Twisted takes the class of its connections from ``transport`` and numbers
    them by ``sessionno``; the reactor calls its ``doRead``; ``_buildAddr`` makes an
    address of a tuple; ``disconnecting`` says that it is being closed.  If this fails,
    `twisted_upload.net.transport` has to be adapted to a new Twisted.
    """
    port = reactor.listenTCP(0, Factory(), 50, "127.0.0.1")
    assert port.transport is tcp.Server
    assert "doRead" not in vars(port)
    assert (port.sessionno, port.disconnecting) == (0, False)
    assert port.addressFamily == socket.AF_INET
    assert port.socketType == socket.SOCK_STREAM
    address = port._buildAddr(("127.0.0.1", 1234))
    assert (address.host, address.port) == ("127.0.0.1", 1234)
    arguments = tcp.Server.__init__.__code__.co_varnames[1:7]
    assert arguments == ("sock", "protocol", "client", "server", "sessionno", "reactor")
    await port.stopListening()


async def test_what_a_transport_has() -> None:
    """
    A connection of Twisted has the attributes ``socket``, ``protocol`` and ``fileno``,
    which are removed when it is lost; ``connected`` and ``disconnected`` say whether it
    is; ``doRead`` returns ``CONNECTION_DONE`` at the end.
    """
    async with open_frontend() as frontend:
        made = RecordedTransports(frontend)
        frontend.connect()
        await until(lambda: made.transports)
        (transport,) = made.transports
        assert {"socket", "protocol", "fileno"} <= vars(transport).keys()
        assert (transport.connected, transport.disconnected) == (1, 0)
        calls = "doRead", "startReading", "stopReading", "startWriting", "stopWriting"
        assert all(hasattr(tcp.Server, it) for it in (*calls, "readConnectionLost"))
        transport.abortConnection()
        await frontend.is_quiet()
        assert not {"socket", "protocol", "fileno"} & vars(transport).keys()
        assert (transport.connected, transport.disconnected) == (0, 1)
        assert CONNECTION_DONE is not None


async def test_how_a_transport_describes_itself() -> None:
    """
    A connection of Twisted has two strings that describe it, ``logstr`` and ``repstr``,
    made of ``_getLogPrefix``, ``_realPortNumber``, ``hostname`` and ``sessionno``; ours
    returns the same, but stores neither.
    """
    async with open_frontend() as frontend:
        made = RecordedTransports(frontend)
        frontend.connect()
        await until(lambda: made.transports)
        (ours,) = made.transports
        theirs = tcp.Server(
            ours.socket.dup(), ours.protocol, ours.client, ours.server, ours.sessionno, reactor
        )
        theirs.stopReading()
        assert ours.logPrefix() == theirs.logPrefix()
        assert ours.logstr == theirs.logstr
        assert repr(ours) == repr(theirs)
        assert not {"logstr", "repstr"} & vars(ours).keys()
        theirs.socket.close()
        ours.abortConnection()
        await frontend.is_quiet()
        assert "#" in repr(ours), "even when it is lost"
        assert ours.logPrefix()


def test_what_a_socket_has() -> None:
    """``socket._accept``, which `socket.accept` uses, returns a file descriptor and an address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as peer:
            descriptor, address = listener._accept()  # type: ignore[attr-defined]
            assert address == peer.getsockname()
        socket.close(descriptor)


async def test_where_twisted_looks() -> None:
    """A TCP port makes eager connections from then on; anything else is left alone."""
    port = reactor.listenTCP(0, Factory(), 50, "127.0.0.1")
    read_eagerly(port)
    assert isinstance(port.transport, partial)
    assert port.transport.func is EagerServer
    assert "doRead" not in vars(port), "its factory does not take whole uploads"
    read_eagerly(object())
    await port.stopListening()
