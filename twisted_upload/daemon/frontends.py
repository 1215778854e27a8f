"""
Build the front ends of the listeners in a configuration.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, TypeVar

from twisted.internet.interfaces import IReactorTime

from twisted_upload.config.listener import Listener
from twisted_upload.core.outcome import UploadObserver
from twisted_upload.errors import WrongConfiguration
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.http.credentials import Credentials
from twisted_upload.frontends.http.invitations import read_keys
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.http.tokens import read_tokens
from twisted_upload.frontends.raw.factory import UploadFactory
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.frontends.refusal_log import RefusalCounter
from twisted_upload.frontends.settings import FrontendSettings
from twisted_upload.interfaces import IUploadStore
from twisted_upload.stores.limited import LimitedStore
from twisted_upload.stores.places import Places

__all__ = ["FrontendBuilder", "frontend_settings"]

_KINDS: Mapping[str, type[FrontendSettings]] = {"raw": RawSettings, "http": HTTPSettings}

S = TypeVar("S", bound=FrontendSettings)
T = TypeVar("T")


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

    def of(self, listener: Listener, store: IUploadStore, places: Places) -> Frontend[Any]:
        """
        Make the front end of a listener.

        :param store: its store.
        :param places: those of its invitations.
        :raises WrongConfiguration: a file of tokens or keys cannot be used.
        """
        if listener.protocol == "http":
            return self._http(listener, store, places)
        return UploadFactory(
            store,
            self._clock,
            _settings(RawSettings, listener),
            observers=self._observers,
            name=listener.name,
            slots=self._slots,
            refusals=self._refusals,
        )

    def _http(
        self, listener: Listener, store: IUploadStore, places: Places
    ) -> Frontend[HTTPSettings]:
        # A daemon without HTTP does not need these modules.
        from twisted_upload.daemon.http_handlers import http_handler  # noqa: PLC0415
        from twisted_upload.frontends.http.access import AccessControl  # noqa: PLC0415
        from twisted_upload.frontends.http.factory import HTTPFactory  # noqa: PLC0415

        control = AccessControl(
            places, now=time.time, clock=self._clock, count=self._refusals.count
        )
        if listener.settings.invitation_keys is not None:
            store = LimitedStore(store, places)
        return HTTPFactory(
            store,
            self._clock,
            _http_settings(listener),
            handler=http_handler(control),
            observers=self._observers,
            name=listener.name,
            slots=self._slots,
            refusals=self._refusals,
        )


def frontend_settings(listener: Listener) -> FrontendSettings:
    """
    Make the front end settings of a listener; read the files that they name.

    :raises WrongConfiguration: a file of tokens or keys cannot be used.
    """
    if listener.protocol == "http":
        return _http_settings(listener)
    return _settings(_KINDS[listener.protocol], listener)


def _http_settings(listener: Listener) -> HTTPSettings:
    settings = listener.settings
    tokens = _read(listener, "tokens", settings.tokens, read_tokens)
    keys = _read(listener, "invitation-keys", settings.invitation_keys, read_keys)
    return replace(_settings(HTTPSettings, listener), credentials=Credentials(tokens, keys))


def _read(listener: Listener, name: str, path: str | None, read: Callable[[str], T]) -> T | None:
    if path is None:
        return None
    try:
        return read(path)
    except WrongConfiguration as error:
        raise WrongConfiguration(f"{listener.by_name[name].source}: {error}") from error


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
