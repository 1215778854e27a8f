"""
The page for people: it is served at ``/``, and its script sends files with tus.

Without JavaScript it is a form.  It loads nothing from elsewhere, and a strict content
security policy holds for all of it.
"""

from __future__ import annotations

import functools
import hashlib
import html
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files

from twisted_upload.core.text import format_size
from twisted_upload.errors import NotFound
from twisted_upload.frontends.http.access import Grant, open_to_all
from twisted_upload.frontends.http.exchange import Handler, IExchange
from twisted_upload.frontends.http.messages import Response
from twisted_upload.frontends.http.page.texts import LANGUAGES, language_for
from twisted_upload.frontends.http.receipts import Result

__all__ = ["SCRIPTS", "SECURITY", "TERMS", "Page"]

SECURITY = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:;"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    # With "no-referrer", browsers send a form over plain HTTP with "Origin: null".
    ("Referrer-Policy", "same-origin"),
)
"""Header fields of the page and its parts."""

SCRIPTS = ("transfer.js", "rows.js", "page.js")
"""The files of the script, in order."""

TERMS = "/terms"
"""Where the script asks what it may send; this handler has to be checked (`access`)."""

_IN_THE_TEMPLATE = (
    *("choose", "choose_folder", "take_photo", "hint", "send"),
    *("token", "go_on", "copy_all", "total"),
)
_IN_RESULTS = ("title", "results", "again", "nothing", "is_stored", "is_refused")

_MOST_PAGES = 16


class Page:
    """
    The page, its script and its style.

    Its title and its text are in the settings of the front end.

    :param grant_of: returns what a request may do.
    """

    def __init__(self, grant_of: Callable[[IExchange], Grant] = open_to_all) -> None:
        self._grant_of = grant_of
        self._template, self._results, script, style = _sources()
        self._css, css = _part(style, "css", "text/css; charset=utf-8")
        self._js, js = _part(script, "js", "text/javascript; charset=utf-8")
        self._parts = {self._css: css, self._js: js}
        self._pages: dict[tuple[str, str, str], Response] = {}

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of ``GET`` that are open to all, by path."""
        return {"/": self.show, **dict.fromkeys(self._parts, self.show_part)}

    def show(self, exchange: IExchange) -> None:
        """
        Respond with the page.

        :raises NotFound: the operator wants none.
        """
        settings = exchange.frontend.settings
        if settings.no_page:
            raise NotFound("there is no page here; upload with PUT, POST or tus")
        key = (language_for(_accepted(exchange)), settings.page_title, settings.page_text)
        if key not in self._pages:
            if len(self._pages) >= _MOST_PAGES:
                self._pages.clear()  # the settings have been reloaded often
            self._pages[key] = self._page(*key)
        exchange.respond(self._pages[key])

    def show_part(self, exchange: IExchange) -> None:
        """Respond with the script or the style."""
        exchange.respond(self._parts[exchange.request.path])

    def show_terms(self, exchange: IExchange) -> None:
        """Respond with what this request's sender may upload, for the script."""
        grant = self._grant_of(exchange)
        terms = {
            "label": grant.label,
            "max_size": grant.limit(exchange.frontend.settings.max_size),
            "uploads": grant.uploads_left,
            "expires": grant.expires,
        }
        fields = (("Content-Type", "application/json"), ("Cache-Control", "no-store"))
        exchange.respond(Response(200, fields, json.dumps(terms).encode()))

    def results(self, exchange: IExchange, results: Sequence[Result], status: int) -> Response:
        """Return the response to a form that was sent without JavaScript."""
        language = language_for(_accepted(exchange))
        texts = LANGUAGES[language]
        items = []
        for result in results:
            receipt, refusal = result.receipt, result.refusal
            if receipt is not None:
                size = format_size(receipt.size)
                said = texts["is_stored"].format(name=receipt.name, size=size)
            else:
                assert refusal is not None
                reason = texts.get(f"code {refusal.code}", refusal.explanation)
                said = texts["is_refused"].format(reason=reason)
            kind = "failed" if receipt is None else "stored"
            name = _escaped(result.metadata.original_name)
            items.append(
                f'<li class="{kind}"><span class="name">{name}</span>'
                f' <div class="state">{_escaped(said)}</div></li>'
            )
        stored = any(result.receipt is not None for result in results)
        shown = {
            "lang": language,
            "css": "." + self._css,
            "results": texts["results"],
            "again": texts["again"],
        }
        escaped = {key: _escaped(value) for key, value in shown.items()}
        below = "" if stored else f'<p class="text">{_escaped(texts["nothing"])}</p>\n'
        body = self._results.format(items="\n".join(items), below=below, **escaped)
        return _html(body, status)

    def _page(self, language: str, title: str, text: str) -> Response:
        texts = LANGUAGES[language]
        messages = {
            key: text
            for key, text in texts.items()
            if key not in _IN_THE_TEMPLATE and key not in _IN_RESULTS
        }
        shown = {key: texts[key] for key in _IN_THE_TEMPLATE} | {
            "lang": language,
            "title": title or texts["title"],
            "css": "." + self._css,
            "js": "." + self._js,
            "terms": "." + TERMS,
            "texts": json.dumps(messages, ensure_ascii=False),
        }
        escaped = {key: _escaped(value) for key, value in shown.items()}
        below = f'<p class="text">{_escaped(text)}</p>\n' if text else ""
        return _html(self._template.format(text=below, **escaped), 200)


@functools.cache
def _sources() -> tuple[str, str, bytes, bytes]:
    """Return the page, the page of results, script and style; read once, however many listen."""
    folder = files(__package__)
    return (
        folder.joinpath("page.html").read_text(encoding="utf-8"),
        folder.joinpath("results.html").read_text(encoding="utf-8"),
        b"\n".join(folder.joinpath(name).read_bytes() for name in SCRIPTS),
        folder.joinpath("page.css").read_bytes(),
    )


def _accepted(exchange: IExchange) -> str:
    return exchange.request.fields.get("accept-language", "")


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)


def _html(body: str, status: int) -> Response:
    fields = (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Cache-Control", "no-store"),
        ("Vary", "Accept-Language"),
        *SECURITY,
    )
    return Response(status, fields, body.encode())


def _part(data: bytes, suffix: str, kind: str) -> tuple[str, Response]:
    """Return the path of a part, which changes with its content, and the response."""
    fields = (
        ("Content-Type", kind),
        ("Cache-Control", "public, max-age=31536000, immutable"),
        *SECURITY,
    )
    path = f"/page-{hashlib.sha256(data).hexdigest()[:12]}.{suffix}"
    return path, Response(200, fields, data)
