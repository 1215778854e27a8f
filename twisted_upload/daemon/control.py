"""
Control a running daemon: signals, the service manager, and reloading the
configuration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from twisted_upload.config.configuration import Configuration
from twisted_upload.config.reload import reload
from twisted_upload.core.garbage import freeze_start
from twisted_upload.core.text import printable, shortened
from twisted_upload.daemon.certificate_expiry import Certificates, Renewal
from twisted_upload.daemon.notify import Counts, Notifications
from twisted_upload.daemon.signals import Signals
from twisted_upload.daemon.systemd import Manager, Notifier
from twisted_upload.disk.threads import IDisk
from twisted_upload.errors import CannotStart
from twisted_upload.observability.log import LineObserver

__all__ = ["DaemonControl", "IDaemon"]


class IDaemon(Protocol):
    """A daemon with one process or several."""

    observer: LineObserver | None

    @property
    def disks(self) -> Sequence[IDisk]:
        """The disk threads of this process."""

    def counts(self) -> Counts:
        """Count uploads in flight and stored uploads."""

    def when_ready(self) -> Deferred[None]:
        """Return a Deferred that fires when it serves; call it after the start."""

    def end_now(self) -> None:
        """Stop waiting; called while it stops."""


class DaemonControl:
    """
    Controls a daemon that runs in the same reactor.

    :param reactor: not running yet.
    :param service: the daemon; it is started elsewhere.
    :param manager: the service manager, which is kept informed.
    :param configuration: the one in force.
    :param read: reads the configuration again, or raises `CannotStart`.
    :param apply: applies a configuration that differs from the one in force only in
        reloadable options, or raises `CannotStart`.
    :param certificates: those that the daemon presents.
    :param renew: has the daemon present reloaded certificates.
    """

    def __init__(
        self,
        reactor: Any,
        service: IDaemon,
        manager: Manager,
        *,
        configuration: Configuration,
        read: Callable[[], Configuration],
        apply: Callable[[Configuration], None],
        certificates: Certificates,
        renew: Callable[[Renewal], None],
    ) -> None:
        self._reactor = reactor
        self._service = service
        self._configuration = configuration
        self._read = read
        self._apply = apply
        self._certificates = certificates
        self._renew = renew
        self._notifier = Notifier(manager.notify) if manager.notify else None
        self._notifications: Notifications | None = None
        if self._notifier is not None:
            self._notifications = Notifications(
                self._notifier,
                reactor,
                lambda: f"STATUS={service.counts()}",
                service.disks,
                watchdog=manager.watchdog,
            )

    def begin(self) -> None:
        """Hook into the start and the stop of the reactor."""
        reactor = self._reactor
        Signals(reactor, self).install()
        observer = self._service.observer
        if observer is not None:
            # After twistd has forked.
            reactor.callWhenRunning(observer.begin)
            reactor.addSystemEventTrigger("after", "shutdown", observer.finish)
        reactor.callWhenRunning(freeze_start)
        if self._notifications is not None:
            notifications = self._notifications
            reactor.callWhenRunning(
                lambda: self._service.when_ready().addCallback(lambda _: notifications.ready())
            )
            reactor.addSystemEventTrigger("before", "shutdown", notifications.stopping)
            reactor.addSystemEventTrigger("during", "shutdown", self._over)

    def end_now(self) -> None:
        """See `ISignalled.end_now`."""
        self._service.end_now()

    def rotate(self) -> None:
        """See `ISignalled.rotate`."""
        if self._service.observer is not None:
            self._service.observer.rotate()

    def reload(self) -> None:
        """See `ISignalled.reload`; the log has one line, and a warning for each old certificate."""
        if self._notifications is not None:
            self._notifications.reloading()
        if self._service.observer is not None:
            self._service.observer.reopen()
        try:
            renewal = self._reloaded()
        except CannotStart as error:
            why = shortened(printable(str(error)))
            _log.error("reload failed, keeping the old configuration: {why}", why=why)
        except Exception:
            _log.failure("reload failed, keeping the old configuration: internal error")
        else:
            _log.info("{text}", text=shortened(printable(str(renewal.changes))))
            renewal.warn()
        finally:
            if self._notifications is not None:
                self._notifications.reloaded()

    def _reloaded(self) -> Renewal:
        """
        Put a new configuration in force; return its certificates and all changes.

        :raises CannotStart: or any other exception: the old one stays in force.
        """
        new = self._read()
        renewal = self._certificates.read()
        configuration = reload(self._configuration, new, renewal.changes)
        try:
            self._apply(configuration)
            self._renew(renewal)
        except CannotStart:
            raise  # nothing has changed
        except Exception:
            self._apply(self._configuration)
            raise
        self._configuration = configuration
        return renewal

    def _over(self) -> None:
        assert self._notifications is not None
        assert self._notifier is not None
        self._notifications.over()
        self._notifier.close()


_log = Logger()
