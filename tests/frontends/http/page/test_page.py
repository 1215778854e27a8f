"""
The page, as it is served.
"""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from twisted.internet.task import Clock

from tests.support.exchanges import NOW, FakeExchange, FakeFrontend, request_for
from twisted_upload.errors import StoreFailed, UploadRefused
from twisted_upload.frontends.http.access import Grant
from twisted_upload.frontends.http.messages import Response
from twisted_upload.frontends.http.page.page import TERMS, Page
from twisted_upload.frontends.http.page.texts import LANGUAGES, language_for
from twisted_upload.frontends.http.receipts import Result
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.interfaces import Metadata, Receipt
from twisted_upload.stores.memory import MemoryStore

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


def frontend(**settings: Any) -> FakeFrontend:
    return FakeFrontend(MemoryStore(lambda: NOW), Clock(), HTTPSettings(**settings))


def served(page: Page, path: str = "/", accepted: str = "", **settings: Any) -> Response:
    request = request_for("GET", path, {"Accept-Language": accepted})
    exchange = FakeExchange(request, frontend=frontend(**settings))
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
    """The page, its script or the results use each text, and the script uses no other."""
    page = Page()
    script = next(it for path, it in page_parts(page).items() if path.endswith(".js")).body.decode()
    (body,) = Elements(served(page).body).of("body")
    texts = json.loads(body["data-texts"] or "")
    for key, text in texts.items():
        assert text == LANGUAGES["en"][key]
        assert f'"{key}"' in script or f"{key}:" in script or key.startswith("code "), key
    states = re.findall(r"^  (\w+): \[", script, re.MULTILINE)
    used = {*re.findall(r'\btext\(\s*"([^"]+)"', script), *states}
    assert states
    assert used <= texts.keys()


def page_parts(page: Page) -> dict[str, Response]:
    return {path: served(page, path) for path in page.handlers() if path != "/"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_from_elsewhere(language: str) -> None:
    """The page loads its own script and style only; nothing is inline."""
    page = Page()
    elements = Elements(served(page, accepted=language).body)
    loaded = [it.get("src") for it in elements.of("script")]
    loaded += [it.get("href") for it in elements.of("link") if it.get("rel") == "stylesheet"]
    assert {f".{path}" for path in page_parts(page)} == set(loaded)
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


def test_a_few_kilobytes() -> None:
    """All of it together is small."""
    page = Page()
    assert sum(len(it.body) for it in (served(page), *page_parts(page).values())) < 36 * 1024


def test_parts_are_named_by_content() -> None:
    """The script and the style may be cached forever: a new one has a new name."""
    for path, response in page_parts(Page()).items():
        assert re.fullmatch(r"/page-[0-9a-f]{12}\.(js|css)", path)
        assert "immutable" in fields(response)["Cache-Control"]
    assert fields(served(Page()))["Cache-Control"] == "no-store"


def test_the_form_works_alone() -> None:
    """Without JavaScript, the page is a form that posts files."""
    elements = Elements(served(Page()).body)
    (form,) = (it for it in elements.of("form") if it["id"] == "form")
    sent = form["method"], form["action"], form["enctype"]
    assert sent == ("post", "./", "multipart/form-data")
    named = [it for it in elements.of("input") if it.get("name")]
    assert [(it["type"], it["name"]) for it in named] == [("file", "file")]
    assert named[0]["id"] in [it["for"] for it in elements.of("label")]


def test_words_of_the_operator() -> None:
    """The title and the text are the operator's, and cannot break the page."""
    page = Page()
    body = served(page, page_title=HOSTILE, page_text=HOSTILE).body.decode()
    assert "<script>alert" not in body
    assert body.count("&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;{x}") == 3
    assert "Upload files" not in body
    assert "Upload files" in served(page).body.decode()


def test_reloaded_often() -> None:
    """Pages with the words of former settings do not accumulate."""
    page = Page()
    for number in range(100):
        assert f"<h1>{number}</h1>" in served(page, page_title=f"{number}").body.decode()
    assert len(page._pages) <= 16


def test_no_page() -> None:
    """An operator who wants no page has none, from the next request on."""
    page = Page()
    response = served(page, no_page=True)
    assert response.status == 404
    assert b"PUT" in response.body
    assert served(page).status == 200


def test_terms() -> None:
    """The script is told what it may send."""
    page = Page(lambda exchange: Grant("invitation:1", "Alice", 1000, 3, NOW))
    exchange = FakeExchange(request_for("GET", TERMS), frontend=frontend(max_size=500))
    response = exchange.handle(page.show_terms).response
    assert response is not None
    assert json.loads(response.body) == {
        "label": "Alice",
        "max_size": 500,
        "uploads": 3,
        "expires": NOW,
    }
    assert fields(response)["Cache-Control"] == "no-store"


def test_terms_without_limits() -> None:
    """Nothing is said of a listener that is open to all."""
    response = FakeExchange(request_for("GET", TERMS)).handle(Page().show_terms).response
    assert response is not None
    assert json.loads(response.body) == {
        "label": "",
        "max_size": 0,
        "uploads": None,
        "expires": None,
    }


def test_results_of_a_form() -> None:
    """What has become of each file of a form is shown as text."""
    page = Page()
    exchange = FakeExchange(request_for("POST", "/", {"Accept-Language": "zh"}))
    receipt = Receipt("1795328130123.jpg", 5, None, "192.0.2.7:50123", 1.0, 2.0)
    results = [
        Result(Metadata(HOSTILE), receipt),
        Result(Metadata("b"), refusal=StoreFailed()),
        Result(Metadata("c"), refusal=UploadRefused("no <b>")),
    ]
    response = page.results(exchange, results, 201)
    body = response.body.decode()
    assert response.status == 201
    assert "上传成功：1795328130123.jpg（5 B）" in body
    assert "上传失败：服务器未能保存文件" in body
    assert "上传失败：no &lt;b&gt;" in body
    assert "<script" not in body
    assert '<a href="./">' in body
    assert "没有保存任何文件" not in body
    refused = page.results(exchange, results[1:], 413).body.decode()
    assert "没有保存任何文件" in refused
