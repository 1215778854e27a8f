"""
Build the front ends of the listeners in a configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from twisted.internet.interfaces import IReactorTime

from twisted_upload.config.configuration import Listener
from twisted_upload.core.outcome import UploadObserver
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.raw.factory import UploadFactory
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.frontends.refusal_log import RefusalCounter
from twisted_upload.frontends.settings import FrontendSettings
from twisted_upload.interfaces import IUploadStore

__all__ = ["FrontendBuilder", "frontend_settings"]

_KINDS: Mapping[str, type[FrontendSettings]] = {"raw": RawSettings, "http": HTTPSettings}

S = TypeVar("S", bound=FrontendSettings)


class FrontendBuilder:
    """
    Makes the front ends of one process.

    :param clock: times uploads.
    :param observers: are told of each upload that has ended.
    :param slots: the connections of the process.
    :param refusals: counts the rejected connections.
    """

    def __init__(
        self,
        clock: IReactorTime,
        observers: Sequence[UploadObserver],
        slots: ConnectionSlots,
        refusals: RefusalCounter,
    ) -> None:
        self._clock = clock
        self._observers = tuple(observers)
        self._slots = slots
        self._refusals = refusals

    def of(self, listener: Listener, store: IUploadStore) -> Frontend[Any]:
        """
        Make the front end of a listener.

        :param store: its store.
        """
        if listener.protocol == "http":
            return self._http(listener, store)
        return UploadFactory(
            store,
            self._clock,
            _settings(RawSettings, listener),
            observers=self._observers,
            name=listener.name,
            slots=self._slots,
            refusals=self._refusals,
        )

    def _http(self, listener: Listener, store: IUploadStore) -> Frontend[HTTPSettings]:
        # A daemon without HTTP does not need these modules.
        from twisted_upload.daemon.http_handlers import http_handler  # noqa: PLC0415
        from twisted_upload.frontends.http.factory import HTTPFactory  # noqa: PLC0415

        return HTTPFactory(
            store,
            self._clock,
            _settings(HTTPSettings, listener),
            handler=http_handler(),
            observers=self._observers,
            name=listener.name,
            slots=self._slots,
            refusals=self._refusals,
        )


def frontend_settings(listener: Listener) -> FrontendSettings:
    """Make the front end settings of a listener."""
    return _settings(_KINDS[listener.protocol], listener)


def _settings(kind: type[S], listener: Listener) -> S:
    """Fields that have the name of an attribute of the listener, or an option, are copied."""
    sources = (listener, listener.settings)
    values = {
        it.name: getattr(source, it.name)
        for it in fields(kind)
        for source in reversed(sources)
        if hasattr(source, it.name)
    }
    return kind(**values)
