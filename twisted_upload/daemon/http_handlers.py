"""
What a listener that speaks HTTP offers: which handler handles which requests.
"""

from __future__ import annotations

from twisted_upload.frontends.http.exchange import Handler
from twisted_upload.frontends.http.page.page import TERMS, Page
from twisted_upload.frontends.http.plain import PlainUploads
from twisted_upload.frontends.http.router import Route, Router
from twisted_upload.frontends.http.tus.headers import BASE
from twisted_upload.frontends.http.tus.resource import TusUploads, versioned

__all__ = ["http_handler"]


def http_handler() -> Handler:
    """Make the handler of all requests of a listener."""
    page = Page()
    tus = versioned(TusUploads())
    return Router(
        [
            *(Route("GET", path, handler) for path, handler in page.handlers().items()),
            Route("GET", TERMS, page.show_terms),
            *PlainUploads(page=page.results).routes(),
            *(Route("*", path, tus) for path in (BASE.rstrip("/"), f"{BASE}*")),
        ]
    )
