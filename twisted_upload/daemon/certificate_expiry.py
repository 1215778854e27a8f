"""
The certificates that a daemon presents: check that they are valid, report when they
expire, reload them.
"""

from __future__ import annotations

import datetime as dt
import errno
import math
from collections.abc import Callable, Iterable, Iterator

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from twisted_upload.config.reload import Changes
from twisted_upload.core.text import counted, printable
from twisted_upload.errors import CannotStart, WrongConfiguration
from twisted_upload.net.tls.certificates import Identity
from twisted_upload.net.tls.endpoints import TLSServerEndpoint
from twisted_upload.observability.metrics import CERTIFICATE_ENDS, Samples

__all__ = ["WARNING_DAYS", "CertificateWatch", "Certificates", "Renewal"]

WARNING_DAYS = 14
"""Warn of a certificate that expires in fewer days than this."""

LOOK_INTERVAL = 3600.0
"""Seconds between two checks; there is at most one warning a day."""


class Renewal:
    """
    Certificates that have been reloaded but are not presented yet.

    :ivar changes: those that differ.
    """

    def __init__(self) -> None:
        self.changes = Changes()
        self._new: list[tuple[TLSServerEndpoint, Identity]] = []
        self._unreadable: dict[str, tuple[str, float]] = {}

    def add(self, endpoint: TLSServerEndpoint, identity: Identity) -> None:
        """Add a certificate that has changed."""
        self._new.append((endpoint, identity))
        old = endpoint.identity.validity.ends
        ends = _date(identity.validity.ends)
        text = f"certificate {identity.name}: until {_date(old)} -> until {ends}"
        if text not in self.changes.made:
            self.changes.made.append(text)

    def add_unreadable(self, old: Identity, why: str) -> None:
        """Add a certificate that the user of the daemon cannot read."""
        self._unreadable[old.name] = why, old.validity.ends

    def __bool__(self) -> bool:
        return bool(self._new)

    def warn(self) -> None:
        """Warn of certificates that were not renewed; the next reload tries again."""
        for name, (why, ends) in self._unreadable.items():
            _log.warn(
                "certificate {name} was not renewed: {why}; the old one, valid until {ends}, stays"
                " in use: let the daemon's user read the file, then reload again",
                name=name,
                why=printable(why),
                ends=_date(ends),
            )

    def show(self) -> None:
        """Present them to new connections."""
        for endpoint, identity in self._new:
            endpoint.show(identity)


class Certificates:
    """
    All certificates that a daemon presents.

    :param endpoints: all endpoints that the daemon listens on; only TLS endpoints have
        certificates.
    :param now: returns the time in seconds since the epoch.
    """

    def __init__(self, endpoints: Iterable[object], now: Callable[[], float]) -> None:
        self._endpoints = [one for one in endpoints if isinstance(one, TLSServerEndpoint)]
        self._now = now

    def check(self) -> None:
        """:raises CannotStart: one of them is not valid now."""
        for identity in self._each():
            _check(identity, self._now())

    def expiries(self) -> Iterator[tuple[Identity, int, str]]:
        """Return each, the number of whole days it is still valid, and that in words."""
        now = self._now()
        for identity in self._each():
            ends = min(identity.validity.ends, identity.chain_ends)
            days = math.floor((ends - now) / 86400)
            which = "it" if ends == identity.validity.ends else "another certificate in the file"
            if ends <= now:
                text = f"{which} expired on {_date(ends)}"
            else:
                text = f"{which} is valid until {_date(ends)}, for {counted(days, 'day')}"
            yield identity, days, text

    def samples(self) -> Samples:
        """Return the samples for the metrics."""
        return {CERTIFICATE_ENDS.name: {(it.name,): it.validity.ends for it in self._each()}}

    def read(self) -> Renewal:
        """
        Reload them.  One that cannot be read for lack of permissions stays as it is.

        :raises CannotStart: one of them cannot be used; nothing has changed.
        """
        try:
            return self._read()
        except CannotStart as error:
            text = "the old certificate stays in use: fix the files, then reload again"
            raise type(error)(f"{error}; {text}") from error

    def _read(self) -> Renewal:
        renewal = Renewal()
        for endpoint in self._endpoints:
            if endpoint.files is None:
                continue
            try:
                identity = Identity.from_files(*endpoint.files)
            except ValueError as error:
                if getattr(error.__cause__, "errno", None) in (errno.EACCES, errno.EPERM):
                    renewal.add_unreadable(endpoint.identity, str(error))
                    continue
                raise WrongConfiguration(str(error)) from error
            if identity.pem != endpoint.identity.pem:
                _check(identity, self._now())
                renewal.add(endpoint, identity)
        return renewal

    def _each(self) -> Iterator[Identity]:
        identities = {it.identity.name: it.identity for it in self._endpoints}
        yield from identities.values()


class CertificateWatch(Service):
    """
    Warns of certificates that expire soon: at the start, and then once a day.

    :param certificates: those that are presented.
    :param clock: schedules the checks.
    """

    def __init__(self, certificates: Certificates, clock: IReactorTime) -> None:
        self._certificates = certificates
        self._clock = clock
        self._warned: dict[str, int] = {}
        self._timer: IDelayedCall | None = None

    def startService(self) -> None:
        """Check now, and then every hour."""
        super().startService()  # type: ignore[no-untyped-call]
        self._look()

    def stopService(self) -> None:
        """Stop checking."""
        super().stopService()  # type: ignore[no-untyped-call]
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        for identity, days, text in self._certificates.expiries():
            if days < WARNING_DAYS and self._warned.get(identity.name) != days:
                self._warned[identity.name] = days
                _log.warn("certificate {name}: {text}", name=identity.name, text=text)
        self._timer = self._clock.callLater(LOOK_INTERVAL, self._look)


def _check(identity: Identity, now: float) -> None:
    begins, ends = identity.validity
    if now >= ends:
        raise CannotStart(
            f"{identity.name}: the certificate expired on {_date(ends)}, and the time is"
            f" {_date(now)}"
        )
    if now < begins:
        raise CannotStart(
            f"{identity.name}: the certificate is not valid before {_date(begins)}, and the time"
            f" is {_date(now)}: check the clock"
        )


def _date(moment: float) -> str:
    return dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_log = Logger()
