"""
Build the front end of a listener that speaks HTTP: its settings, and which handler handles
which requests.

A daemon without HTTP does not import this module.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from twisted.internet.interfaces import IReactorTime

from twisted_upload.config.listener import Listener
from twisted_upload.core.outcome import UploadObserver
from twisted_upload.daemon.settings import copied_settings
from twisted_upload.daemon.stores import StoreSet
from twisted_upload.daemon.system import System
from twisted_upload.disk.files import Files
from twisted_upload.errors import WrongConfiguration
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.http.access import AccessControl
from twisted_upload.frontends.http.credentials import Credentials
from twisted_upload.frontends.http.exchange import Handler
from twisted_upload.frontends.http.factory import HTTPFactory
from twisted_upload.frontends.http.invitations import read_keys
from twisted_upload.frontends.http.page.page import TERMS, Page
from twisted_upload.frontends.http.plain import PlainUploads
from twisted_upload.frontends.http.router import Route, Router
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.http.tokens import read_tokens
from twisted_upload.frontends.http.tus.headers import BASE
from twisted_upload.frontends.http.tus.resource import TusUploads, versioned
from twisted_upload.frontends.refusal_log import RefusalCounter
from twisted_upload.interfaces import IUploadStore
from twisted_upload.stores.limited import LimitedStore

__all__ = ["http_frontend", "http_settings"]

T = TypeVar("T")


def http_frontend(
    listener: Listener,
    stores: StoreSet,
    clock: IReactorTime,
    system: System,
    *,
    observers: Sequence[UploadObserver],
    slots: ConnectionSlots,
    refusals: RefusalCounter,
) -> HTTPFactory:
    """
    Make the front end of a listener; see `twisted_upload.daemon.frontends.FrontendBuilder`.

    :raises WrongConfiguration: a file of tokens or keys cannot be used.
    """
    places = stores.places_of(listener)
    store: IUploadStore = stores.of(listener)
    if listener.settings.invitation_keys is not None:
        store = LimitedStore(store, places)
    control = AccessControl(places, now=system.now, clock=clock, count=refusals.count)
    return HTTPFactory(
        store,
        clock,
        http_settings(listener, system.files()),
        handler=_handler(control, system.now),
        observers=observers,
        name=listener.name,
        slots=slots,
        refusals=refusals,
        now=system.now,
        sockets=system.sockets(),
    )


def http_settings(listener: Listener, files: Files) -> HTTPSettings:
    """
    Make the settings of a listener; read the files that they name.

    :raises WrongConfiguration: a file of tokens or keys cannot be used.
    """
    settings = listener.settings
    tokens = _read(listener, "tokens", settings.tokens, partial(read_tokens, files=files))
    read = partial(read_keys, files=files)
    keys = _read(listener, "invitation-keys", settings.invitation_keys, read)
    return replace(copied_settings(HTTPSettings, listener), credentials=Credentials(tokens, keys))


def _read(listener: Listener, name: str, path: str | None, read: Callable[[str], T]) -> T | None:
    if path is None:
        return None
    try:
        return read(path)
    except WrongConfiguration as error:
        raise WrongConfiguration(f"{listener.by_name[name].source}: {error}") from error


def _handler(control: AccessControl, now: Callable[[], float]) -> Handler:
    """
    Make the handler of all requests of a listener.

    :param control: checks who may upload; the page is for everybody, and tells nothing.
    """
    page = Page(control.grant_of)
    plain = PlainUploads(control.grant_of, page=page.results)
    tus = versioned(control.checked(TusUploads(control.grant_of, now=now)))
    router = Router(
        [
            *(Route("GET", path, handler) for path, handler in page.handlers().items()),
            Route("GET", TERMS, control.checked(page.show_terms, only_asks=True)),
            *(it._replace(handler=control.checked(it.handler)) for it in plain.routes()),
            *(Route("*", path, tus) for path in (BASE.rstrip("/"), f"{BASE}*")),
        ]
    )
    return control.guarded(router)
