"""
What a listener that speaks HTTP offers: which handler handles which requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from twisted_upload.config.configuration import Listener
from twisted_upload.frontends.http.exchange import Handler, IExchange
from twisted_upload.frontends.http.messages import Response
from twisted_upload.frontends.http.page.page import TERMS, FileResult, Page
from twisted_upload.frontends.http.plain import PlainUploads
from twisted_upload.frontends.http.receipts import Result
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
    routes += PlainUploads(page=partial(_form_page, page)).routes()
    return Router(routes)


def _form_page(page: Page, exchange: IExchange, results: Sequence[Result], status: int) -> Response:
    """Return the page that tells a browser without JavaScript what is stored."""
    return page.results(exchange, map(_file_result, results), status)


def _file_result(result: Result) -> FileResult:
    original, receipt, refusal = result.metadata.original_name, result.receipt, result.refusal
    if receipt is not None:
        return FileResult(original, receipt.name or "", receipt.size)
    return FileResult(original, "", 0, "" if refusal is None else refusal.explanation)
