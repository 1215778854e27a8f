"""
Build the front ends of the listeners in a configuration.

A daemon without HTTP does not import what only HTTP needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime

from twisted_upload.config.listener import Listener
from twisted_upload.core.outcome import UploadObserver
from twisted_upload.daemon.settings import copied_settings
from twisted_upload.daemon.stores import StoreSet
from twisted_upload.daemon.system import System
from twisted_upload.disk.files import Files
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.raw.factory import UploadFactory
from twisted_upload.frontends.raw.settings import RawSettings
from twisted_upload.frontends.refusal_log import RefusalCounter
from twisted_upload.frontends.settings import FrontendSettings

__all__ = ["FrontendBuilder", "frontend_settings"]


class FrontendBuilder:
    """
    Makes the front ends of one process.

    :param stores: the stores of the listeners.
    :param clock: times uploads.
    :param system: the kernel.
    :param observers: are told of each upload that has ended.
    :param slots: the connections of the process.
    :param refusals: counts the rejected connections.
    """

    def __init__(
        self,
        stores: StoreSet,
        clock: IReactorTime,
        system: System,
        *,
        observers: Sequence[UploadObserver],
        slots: ConnectionSlots,
        refusals: RefusalCounter,
    ) -> None:
        self._stores = stores
        self._clock = clock
        self._system = system
        self._observers = tuple(observers)
        self._slots = slots
        self._refusals = refusals

    def of(self, listener: Listener) -> Frontend[Any]:
        """
        Make the front end of a listener.

        :raises WrongConfiguration: a file of tokens or keys cannot be used.
        """
        if listener.protocol == "http":
            from twisted_upload.daemon.http_frontend import http_frontend  # noqa: PLC0415

            return http_frontend(
                listener,
                self._stores,
                self._clock,
                self._system,
                observers=self._observers,
                slots=self._slots,
                refusals=self._refusals,
            )
        return UploadFactory(
            self._stores.of(listener),
            self._clock,
            copied_settings(RawSettings, listener),
            observers=self._observers,
            name=listener.name,
            slots=self._slots,
            refusals=self._refusals,
            sockets=self._system.sockets(),
        )


def frontend_settings(listener: Listener, files: Files) -> FrontendSettings:
    """
    Make the front end settings of a listener; read the files that they name.

    :raises WrongConfiguration: a file of tokens or keys cannot be used.
    """
    if listener.protocol == "http":
        from twisted_upload.daemon.http_frontend import http_settings  # noqa: PLC0415

        return http_settings(listener, files)
    return copied_settings(RawSettings, listener)
