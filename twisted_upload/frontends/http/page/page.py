"""
The page for people: it is served at ``/``, and its script sends files with tus.

Without JavaScript it is a form.  It loads nothing from elsewhere, and a strict content
security policy holds for all of it.
"""

from __future__ import annotations

import hashlib
import html
import json
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import NamedTuple

from twisted_upload.core.text import format_size
from twisted_upload.frontends.http.exchange import Handler, IExchange
from twisted_upload.frontends.http.messages import Response
from twisted_upload.frontends.http.page.texts import LANGUAGES, language_for

__all__ = ["SECURITY", "FileResult", "Page"]

SECURITY = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:;"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    # With "no-referrer", browsers send a form over plain HTTP with "Origin: null".
    ("Referrer-Policy", "same-origin"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Permissions-Policy", "screen-wake-lock=(self), clipboard-write=(self)"),
)
"""Header fields of the page and its parts."""

_IN_THE_TEMPLATE = ("choose", "choose_folder", "take_photo", "hint", "send")

_FOR_THE_SCRIPT = (
    *("waiting", "sending", "storing", "progress", "paused", "broken", "stored", "cancelled"),
    *("failed", "copied", "pause", "resume", "retry", "cancel", "copy", "summary"),
    *("summary failed", "unfinished", "no connection", "status"),
)


class FileResult(NamedTuple):
    """
    What has become of one file of a form.

    :ivar original_name: its name at the sender.
    :ivar name: of the stored file; empty if it was not stored.
    :ivar size: in bytes.
    :ivar reason: why it was not stored.
    """

    original_name: str
    name: str
    size: int
    reason: str = ""


class Page:
    """
    The page, its script and its style.

    :param title: its title; empty for the usual one.
    :param text: a line or more of text below the title, for the operator's words.
    :param max_size: maximum size of a file in bytes, so that the script can tell at once;
        0 for no limit.
    """

    def __init__(self, title: str = "", text: str = "", max_size: int = 0) -> None:
        folder = files(__package__)
        self._template = folder.joinpath("page.html").read_text(encoding="utf-8")
        parts = {
            "js": folder.joinpath("page.js").read_bytes(),
            "css": folder.joinpath("page.css").read_bytes(),
        }
        self._paths = {
            kind: f"/page-{hashlib.sha256(data).hexdigest()[:12]}.{kind}"
            for kind, data in parts.items()
        }
        self._title, self._text, self._max_size = title, text, max_size
        self._pages = {language: self._page(language) for language in LANGUAGES}
        self._parts = {
            self._paths["js"]: _part(parts["js"], "text/javascript; charset=utf-8"),
            self._paths["css"]: _part(parts["css"], "text/css; charset=utf-8"),
        }

    def handlers(self) -> Mapping[str, Handler]:
        """Return the handlers of ``GET``, by path."""
        return {"/": self.show, **dict.fromkeys(self._parts, self.show_part)}

    def show(self, exchange: IExchange) -> None:
        """Respond with the page."""
        exchange.respond(self._pages[language_for(_accepted(exchange))])

    def show_part(self, exchange: IExchange) -> None:
        """Respond with the script or the style."""
        exchange.respond(self._parts[exchange.request.path])

    def results(self, exchange: IExchange, results: Iterable[FileResult], status: int) -> Response:
        """Return the response to a form that was sent without JavaScript."""
        texts = LANGUAGES[language_for(_accepted(exchange))]
        lines = []
        for result in results:
            what = texts["is_refused" if result.reason else "is_stored"]
            said = what.format(
                name=result.name, size=format_size(result.size), reason=result.reason
            )
            kind = "failed" if result.reason else "stored"
            lines.append(
                f'<li class="{kind}"><span class="name">{_escaped(result.original_name)}</span>'
                f' <div class="state">{_escaped(said)}</div></li>'
            )
        language = language_for(_accepted(exchange))
        body = (
            f'<!doctype html>\n<html lang="{language}">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n'
            f"<title>{_escaped(texts['results'])}</title>\n"
            '<link rel="icon" href="data:,">\n'
            f'<link rel="stylesheet" href="{self._paths["css"]}">\n</head>\n<body>\n<main>\n'
            f"<h1>{_escaped(texts['results'])}</h1>\n"
            f'<ol id="list">\n{chr(10).join(lines)}\n</ol>\n'
            f'<p><a href="/">{_escaped(texts["again"])}</a></p>\n</main>\n</body>\n</html>\n'
        )
        return _html(body, status)

    def _page(self, language: str) -> Response:
        texts = LANGUAGES[language]
        codes = {key for key in texts if key.startswith("code ")}
        messages = {key: texts[key] for key in (*_FOR_THE_SCRIPT, *sorted(codes))}
        shown = {
            key: texts[key] for key in ("choose", "choose_folder", "take_photo", "hint", "send")
        }
        shown |= {
            "lang": language,
            "title": self._title or texts["title"],
            "css": self._paths["css"],
            "js": self._paths["js"],
            "action": "/",
            "messages": json.dumps(messages, ensure_ascii=False),
            "max_size": str(self._max_size),
        }
        escaped = {key: _escaped(value) for key, value in shown.items()}
        text = f'<p class="text">{_escaped(self._text)}</p>\n' if self._text else ""
        return _html(self._template.format(text=text, **escaped), 200)


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


def _part(data: bytes, kind: str) -> Response:
    # Its name changes with its content.
    fields = (
        ("Content-Type", kind),
        ("Cache-Control", "public, max-age=31536000, immutable"),
        *SECURITY,
    )
    return Response(200, fields, data)
