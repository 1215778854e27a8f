"""
What a listener that speaks HTTP offers: which handler handles which requests.
"""

from __future__ import annotations

from twisted_upload.frontends.http.access import AccessControl
from twisted_upload.frontends.http.exchange import Handler
from twisted_upload.frontends.http.page.page import TERMS, Page
from twisted_upload.frontends.http.plain import PlainUploads
from twisted_upload.frontends.http.router import Route, Router
from twisted_upload.frontends.http.tus.headers import BASE
from twisted_upload.frontends.http.tus.resource import TusUploads, versioned

__all__ = ["http_handler"]


def http_handler(control: AccessControl) -> Handler:
    """
    Make the handler of all requests of a listener.

    :param control: checks who may upload; the page is for everybody, and tells nothing.
    """
    page = Page(control.grant_of)
    plain = PlainUploads(control.grant_of, page=page.results)
    tus = versioned(control.checked(TusUploads(control.grant_of)))
    router = Router(
        [
            *(Route("GET", path, handler) for path, handler in page.handlers().items()),
            Route("GET", TERMS, control.checked(page.show_terms, only_asks=True)),
            *(it._replace(handler=control.checked(it.handler)) for it in plain.routes()),
            *(Route("*", path, tus) for path in (BASE.rstrip("/"), f"{BASE}*")),
        ]
    )
    return control.guarded(router)
