"""
What a listener that speaks HTTP offers: which handler handles which requests.
"""

from __future__ import annotations

from twisted_upload.config.configuration import Listener
from twisted_upload.frontends.http.exchange import Handler
from twisted_upload.frontends.http.page.page import TERMS, Page
from twisted_upload.frontends.http.router import Route, Router
from twisted_upload.frontends.http.tus.headers import BASE
from twisted_upload.frontends.http.tus.resource import TusUploads, versioned

__all__ = ["http_handler"]


def http_handler(listener: Listener) -> Handler:
    """Make the handler of all requests of a listener."""
    tus = versioned(TusUploads())
    routes = [Route("*", path, tus) for path in (BASE.rstrip("/"), f"{BASE}*")]
    page = Page()
    routes += [Route("GET", path, handler) for path, handler in page.handlers().items()]
    routes.append(Route("GET", TERMS, page.show_terms))
    return Router(routes)
