"""
Build the front ends of the listeners in a configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

from twisted.internet.interfaces import IReactorTime

from twisted_upload.config.configuration import Listener
from twisted_upload.core.outcome import UploadObserver
from twisted_upload.errors import WrongConfiguration
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.raw.factory import UploadFactory
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.frontends.refusal_log import RefusalCounter
from twisted_upload.frontends.settings import FrontendSettings
from twisted_upload.interfaces import IUploadStore

__all__ = ["FrontendBuilder", "frontend_settings"]

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
        if listener.protocol != "raw":
            raise WrongConfiguration(f"{listener.name}: there is no front end for HTTP yet")
        return UploadFactory(
            store,
            self._clock,
            _settings(RawSettings, listener),
            observers=self._observers,
            name=listener.name,
            slots=self._slots,
            refusals=self._refusals,
        )


def frontend_settings(listener: Listener) -> FrontendSettings:
    """Make the front end settings of a listener."""
    return _settings(RawSettings, listener)


def _settings(kind: type[S], listener: Listener) -> S:
    """Fields that have the name of an option are copied."""
    settings = listener.settings
    names = [it.name for it in fields(kind) if hasattr(settings, it.name)]
    return kind(
        rules=listener.rules,
        trusted_proxies=listener.trusted_proxies,
        **{name: getattr(settings, name) for name in names},
    )
