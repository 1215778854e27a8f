"""
The page, as it is served.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from tests.support.exchanges import FakeExchange, request_for
from twisted_upload.frontends.http.messages import Response
from twisted_upload.frontends.http.page.page import FileResult, Page
from twisted_upload.frontends.http.page.texts import LANGUAGES, language_for

HOSTILE = '"><script>alert(1)</script>&{x}'


class Elements(HTMLParser):
    """All elements of a page, with their attributes."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(body.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def served(page: Page, path: str = "/", accepted: str = "") -> Response:
    exchange = FakeExchange(request_for("GET", path, {"Accept-Language": accepted}))
    exchange.handle(page.handlers()[path])
    assert exchange.response is not None
    return exchange.response


def fields(response: Response) -> dict[str, str]:
    return dict(response.fields)


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("zh", "zh"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("de,zh;q=0.5", "zh"),
        ("de", "en"),
        ("ZH-TW", "zh"),
        ("zh;q=0, en", "en"),
        ("*", "en"),
        ("zh;q=banana", "en"),
        ("," * 100_000 + "zh", "en"),
    ],
)
def test_language(accepted: str, language: str) -> None:
    """The reader's browser says which language it is."""
    assert language_for(accepted) == language
    assert f'<html lang="{language}">' in served(Page(), accepted=accepted).body.decode()


def test_languages_have_the_same_texts() -> None:
    """Each text is there in each language, with the same values in it."""
    (first, *others) = LANGUAGES.values()
    for other in others:
        assert other.keys() == first.keys()
        for key, text in first.items():
            assert set(re.findall(r"{(\w+)}", text)) == set(re.findall(r"{(\w+)}", other[key])), key


def test_all_texts_are_used() -> None:
    """The page, its script or the results use each text."""
    page = Page()
    script = next(it for path, it in page_parts(page).items() if path.endswith(".js")).body.decode()
    shown = served(page).body.decode()
    (messages,) = (it["data-messages"] for it in Elements(shown.encode()).of("body"))
    assert messages is not None
    for key, text in json.loads(messages).items():
        assert text == LANGUAGES["en"][key]
        assert f'"{key}"' in script or f"{key}:" in script or key.startswith("code "), key


def page_parts(page: Page) -> dict[str, Response]:
    return {path: served(page, path) for path in page.handlers() if path != "/"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_from_elsewhere(language: str) -> None:
    """The page loads its own script and style only; nothing is inline."""
    page = Page()
    elements = Elements(served(page, accepted=language).body)
    loaded = [it.get("src") for it in elements.of("script")]
    loaded += [it.get("href") for it in elements.of("link") if it.get("rel") == "stylesheet"]
    assert set(loaded) == set(page_parts(page))
    assert not elements.of("style")
    for _, attributes in elements.found:
        assert not any(name == "style" or name.startswith("on") for name in attributes)
    for response in (served(page), *page_parts(page).values()):
        assert b"http://" not in response.body
        assert b"https://" not in response.body
        policy = fields(response)["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert fields(response)["X-Content-Type-Options"] == "nosniff"


def test_a_few_kilobytes() -> None:
    """All of it together is small."""
    page = Page()
    assert sum(len(it.body) for it in (served(page), *page_parts(page).values())) < 32 * 1024


def test_parts_are_named_by_content() -> None:
    """The script and the style may be cached forever: a new one has a new name."""
    for path, response in page_parts(Page()).items():
        assert re.fullmatch(r"/page-[0-9a-f]{12}\.(js|css)", path)
        assert "immutable" in fields(response)["Cache-Control"]
    assert fields(served(Page()))["Cache-Control"] == "no-store"


def test_the_form_works_alone() -> None:
    """Without JavaScript, the page is a form that posts files."""
    elements = Elements(served(Page()).body)
    (form,) = elements.of("form")
    assert (form["method"], form["action"], form["enctype"]) == ("post", "/", "multipart/form-data")
    named = [it for it in elements.of("input") if it.get("name")]
    assert [(it["type"], it["name"]) for it in named] == [("file", "file")]
    assert [it["for"] for it in elements.of("label")] == [named[0]["id"]]


def test_words_of_the_operator() -> None:
    """The title and the text are the operator's, and cannot break the page."""
    body = served(Page(HOSTILE, HOSTILE)).body.decode()
    assert "<script>alert" not in body
    assert body.count("&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;{x}") == 3
    assert "Upload files" not in body


def test_results_of_a_form() -> None:
    """What has become of each file of a form is shown as text."""
    page = Page()
    exchange = FakeExchange(request_for("POST", "/", {"Accept-Language": "zh"}))
    results = [FileResult(HOSTILE, "1795328130123.jpg", 5), FileResult("b", "", 7, "no-space <b>")]
    response = page.results(exchange, results, 201)
    body = response.body.decode()
    assert response.status == 201
    assert "上传成功:1795328130123.jpg(5 B)" in body
    assert "上传失败:no-space &lt;b&gt;" in body
    assert "<script" not in body
    assert '<a href="/">' in body
