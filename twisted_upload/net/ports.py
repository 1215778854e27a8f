"""
Immediate listening, and what a listening port needs in addition to what Twisted
provides.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any, cast

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred, execute, maybeDeferred
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IDelayedCall,
    IListeningPort,
    IProtocolFactory,
    IReactorFDSet,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from twisted_upload.errors import CannotStart
from twisted_upload.net.acceptor import keep_urgent_bytes_of
from twisted_upload.net.sockets import Sockets
from twisted_upload.net.spare_descriptors import SpareDescriptors
from twisted_upload.net.transport import read_eagerly, serve_accepted

__all__ = [
    "AdoptedUnixEndpoint",
    "accept_the_rest",
    "close_own",
    "drop_new_connections",
    "keep_urgent_bytes",
    "listen",
    "listen_eagerly",
    "notice_dead_peers",
    "stop_accepting",
    "wait_in_shortage",
]

KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES = 60, 15, 4
"""Idle seconds before the kernel probes whether a peer is still there, seconds between
two probes, and number of probes."""

USER_TIMEOUT = 60_000
"""Milliseconds after which the connection of a peer that acknowledges nothing is dropped."""

SHORTAGE_PAUSE = 0.005
"""Seconds until accepting is tried again after there was no file descriptor for a new
connection."""

SHORTAGE_LINE = 60.0
"""Minimum number of seconds between two log lines about that."""

MOST_ACCEPTS = 1000
"""How often a port is asked to accept what is waiting, which may be many connections each time."""

# Errors of accept(2) that concern one connection, and not the listening socket.
_GONE = {
    *(errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP),
    *(errno.ENETDOWN, errno.EHOSTDOWN, errno.ENONET, errno.EHOSTUNREACH, errno.ENETUNREACH),
}
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


def listen(
    name: str,
    endpoint: IStreamServerEndpoint,
    factory: IProtocolFactory,
    spare: SpareDescriptors | None = None,
    sockets: Sockets | None = None,
) -> IListeningPort:
    """
    Listen on an endpoint immediately.

    :param name: of the endpoint, for people.
    :param spare: released if there is no file descriptor for a new connection.
    :param sockets: the system calls.
    :raises CannotStart: it is impossible to listen on the endpoint.
    """
    results: list[Any] = []
    endpoint.listen(factory).addBoth(results.append)
    if not results:
        raise CannotStart(f"{name}: cannot listen: this kind of endpoint is not supported")
    (result,) = results
    if isinstance(result, Failure):
        error = result.value
        reason = error.socketError if isinstance(error, CannotListenError) else error
        text = getattr(reason, "strerror", None) or str(reason)
        raise CannotStart(f"{name}: cannot listen: {text}") from error
    port: Any = result
    if isinstance(port, tcp.Port):  # so are unix ports
        sockets = sockets or Sockets()
        notice_dead_peers(port, sockets)
        keep_urgent_bytes(port, sockets)
        wait_in_shortage(port, cast(IReactorTime, port.reactor), spare, sockets)
    return cast(IListeningPort, port)


def listen_eagerly(
    name: str,
    endpoint: IStreamServerEndpoint,
    factory: IProtocolFactory,
    spare: SpareDescriptors,
    sockets: Sockets | None = None,
) -> IListeningPort:
    """Do the same for a front end, whose protocols start reading by themselves."""
    port = listen(name, endpoint, factory, spare, sockets)
    if getattr(port, "factory", None) is factory:  # nothing between it and the socket
        read_eagerly(port, sockets)
    return port


def notice_dead_peers(port: Any, sockets: Sockets) -> None:
    """
    Make the kernel drop the connections of this port whose peers are dead.

    On Linux, accepted sockets inherit these options: nothing has to be done for each
    connection.  Both options are needed: keepalive for a peer that has nothing to
    acknowledge, the user timeout for one that has.
    """
    with sockets.duplicate_of(port.fileno()) as ours:
        if ours.family not in (socket.AF_INET, socket.AF_INET6):
            return
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (
            (socket.TCP_KEEPIDLE, KEEPALIVE_IDLE),
            (socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL),
            (socket.TCP_KEEPCNT, KEEPALIVE_PROBES),
            (socket.TCP_USER_TIMEOUT, USER_TIMEOUT),
        ):
            ours.setsockopt(socket.IPPROTO_TCP, option, value)


def keep_urgent_bytes(port: Any, sockets: Sockets) -> None:
    """
    Deliver the urgent bytes (``MSG_OOB``) of this port's connections in line.

    Otherwise the kernel takes them out of the stream, and they would be missing in the
    file.  Accepted TCP sockets inherit the option; those do not that wait since before it
    was set, and unix sockets: see `keep_urgent_bytes_of`.
    """
    with sockets.duplicate_of(port.fileno()) as ours:
        keep_urgent_bytes_of(ours)


def wait_in_shortage(
    port: Any,
    clock: IReactorTime,
    spare: SpareDescriptors | None = None,
    sockets: Sockets | None = None,
) -> None:
    """
    Make a port wait if there is no file descriptor for a new connection.

    Twisted would close one connection after the other, with a log line for each, or, if
    the whole system is short of file descriptors, retry at once and forever.  Here, new
    connections wait in the kernel's queue.  Meanwhile, file descriptors that become
    free go to the uploads that have begun: no connection is accepted unless a second
    file descriptor is left for its file.

    :param port: a listening port of Twisted's.
    :param spare: released if there is none.
    :param sockets: the system calls.
    """
    sockets = sockets or Sockets()
    port.socket = _WaitingSocket(port, clock, spare or SpareDescriptors(0, sockets), sockets)


def drop_new_connections(port: Any, sockets: Sockets) -> None:
    """
    Make a TCP port establish no more connections; those that are established, or about
    to be, can still be accepted.

    Closing a port resets the connections that have not been accepted yet, and there are
    always some.  So the kernel first drops requests for new connections; a client that
    retries, a second later, finds the port closed.
    """
    with sockets.duplicate_of(port.fileno()) as ours:
        if ours.family in (socket.AF_INET, socket.AF_INET6):
            sockets.drop_new_connections(ours)


def close_own(port: Any) -> Deferred[Any]:
    """Stop listening on a socket that is shared with other processes, which go on listening."""
    port._shouldShutdown = False  # noqa: SLF001 - it would be shut down for all processes
    return maybeDeferred(port.stopListening)


def accept_the_rest(port: Any, sockets: Sockets) -> None:
    """Accept the connections that are waiting; none if the port has been closed already."""
    if not port.connected:
        serve_accepted(port)
        return
    for _ in range(MOST_ACCEPTS):
        if not sockets.is_readable(port.fileno()):
            break
        port.doRead()
        serve_accepted(port)


def stop_accepting(port: Any) -> None:
    """Leave new connections to the other processes that share this port; it stays open."""
    if not port.connected:  # it has been closed already
        serve_accepted(port)
        return
    port.stopReading()
    if isinstance(port.socket, _WaitingSocket):
        port.socket.cancel_waiting()
    serve_accepted(port)


class _WaitingSocket:
    """
    A listening socket, for `tcp.Port`.

    :ivar spare: the reserve of file descriptors.
    """

    def __init__(
        self, port: Any, clock: IReactorTime, spare: SpareDescriptors, sockets: Sockets
    ) -> None:
        self._socket = port.socket
        self._sockets = sockets
        self.spare = spare
        spare.join()
        self._port = port
        self._clock = clock
        self.accept_descriptor = self._socket._accept  # noqa: SLF001 - see twisted_upload.net.transport
        self._timer: IDelayedCall | None = None
        self._logged_wait = self._logged_shortage = float("-inf")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def accept(self) -> Any:
        """See `socket.socket.accept`."""
        if self.spare.short:
            accepted = self._accept_if_any_are_left()
        else:
            try:
                accepted = self._socket.accept()
            except OSError as error:
                if error.errno not in _SHORT:
                    raise
                self._run_short(error)
                accepted = self._accept_if_any_are_left()
        keep_urgent_bytes_of(accepted[0])
        return accepted

    def cancel_waiting(self) -> None:
        """Do not resume after a shortage."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """See `socket.socket.close`."""
        self.cancel_waiting()
        self.spare.leave()
        self._socket.close()

    def has_others_after(self, error: OSError) -> bool:
        """
        Handle an error of accepting; return whether other connections can still be
        accepted.

        If there was no file descriptor for a connection, `accept` makes sure from now
        on, until there are enough, that there is also one for the connection's file.
        """
        if error.errno in _SHORT:
            self._run_short(error)
        elif error.errno not in _GONE:
            self._wait(error)
            return False
        return True

    def _run_short(self, error: OSError) -> None:
        now = self._clock.seconds()
        if now - self._logged_shortage >= SHORTAGE_LINE:
            self._logged_shortage = now
            _log.warn("almost out of file descriptors: {error}", error=error.strerror)
        self.spare.let_go(now)

    def _accept_if_any_are_left(self) -> Any:
        try:
            if not self.spare.are_left_for_one():
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            accepted = self._socket.accept()
            self.spare.accepted(accepted[0])
        except OSError as error:
            if error.errno not in _SHORT:
                self.spare.recover(self._clock.seconds())
                raise
            self._wait(error)
            raise BlockingIOError(errno.EAGAIN, "later") from error
        self.spare.recover(self._clock.seconds())
        return accepted

    def _wait(self, error: OSError) -> None:
        now = self._clock.seconds()
        is_silent = now - self._logged_wait >= SHORTAGE_LINE
        if is_silent and self._sockets.is_readable(self._socket.fileno()):
            self._logged_wait = now
            _log.warn("new connections have to wait: {error}", error=error.strerror)
        if self._timer is None:
            self._port.stopReading()
            self._timer = self._clock.callLater(SHORTAGE_PAUSE, self._resume)

    def _resume(self) -> None:
        self._timer = None
        if not self._port.disconnecting:
            self._port.startReading()


@implementer(IStreamServerEndpoint)
class AdoptedUnixEndpoint:
    """
    A listening unix socket that another process has bound, and will remove.

    Twisted's own port would change its mode to 0666, and unlink it at the end.

    :param descriptor: of the socket; it is duplicated.
    :param sockets: the system calls.
    """

    def __init__(self, reactor: Any, descriptor: int, sockets: Sockets) -> None:
        self._reactor = reactor
        self._sockets = sockets
        self._descriptor = descriptor

    def listen(
        self,
        protocolFactory: IProtocolFactory,  # noqa: N803 - the interface's name for it
    ) -> Deferred[IListeningPort]:
        """See `IStreamServerEndpoint`."""
        return execute(self._listen, protocolFactory)

    def _listen(self, factory: IProtocolFactory) -> Any:
        if not IReactorFDSet.providedBy(self._reactor):  # it only checks the configuration
            return self._reactor.adoptStreamPort(self._descriptor, socket.AF_UNIX, factory)
        adopted = self._sockets.duplicate_of(self._descriptor)
        adopted.setblocking(False)
        port = _AdoptedPort(adopted.getsockname(), factory, reactor=self._reactor)
        port._preexistingSocket = adopted  # noqa: SLF001 - there is no public way
        port.startListening()
        return port


class _AdoptedPort(unix.Port):
    def startListening(self) -> None:
        tcp.Port.startListening(self)

    def connectionLost(self, reason: Any) -> None:
        tcp.Port.connectionLost(self, reason)


_log = Logger()
