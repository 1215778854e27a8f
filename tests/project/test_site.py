"""
The site that is built from the pages, as CONTRIBUTING.md says.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.support import ROOT
from tests.support.pages import DOCS, block

if not importlib.util.find_spec("furo"):
    pytest.skip("needs the extra docs: pip install -e '.[docs]'", allow_module_level=True)
if not (DOCS / "conf.py").exists() or not (ROOT / "benchmarks").exists():
    pytest.skip("the pages are not beside the tests", allow_module_level=True)


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors = {""}
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Record an element."""
        given = {name: value or "" for name, value in attrs}
        self.anchors.add(given.get("id", ""))
        if tag == "a" and "href" in given:
            self.links.add(given["href"])
        if tag == "link" and given.get("rel") not in ("canonical", "author"):
            self.loaded.add(given.get("href", ""))
        if "src" in given:
            self.loaded.add(given["src"])


@cache
def read(path: Path) -> Page:
    return Page(path)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built without a warning."""
    folder = tmp_path_factory.mktemp("site")
    program, *arguments = block("CONTRIBUTING.md", "site").split()
    assert program == ".venv/bin/sphinx-build"
    assert arguments[-1] == "build/docs"
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *arguments[:-1], "-d", f"{folder}.doctrees", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=55,
    )
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()
    return folder


def test_every_page_is_on_the_site(site: Path) -> None:
    """Each page is on the site and reachable from the start page."""
    pages = (path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md"))
    wanted = {(site / path).resolve() for path in pages}
    assert all(path.exists() for path in wanted)
    start = site / "index.html"
    linked = {(site / urlsplit(link).path).resolve() for link in read(start).links}
    assert wanted <= linked | {start.resolve()}


def test_links_on_the_site(site: Path) -> None:
    """No link or anchor of any page is broken."""
    for path in sorted(site.rglob("*.html")):
        for link in read(path).links:
            parts = urlsplit(link)
            if parts.scheme:
                assert parts.scheme == "https", f"{path}: {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path}: {link}"
            if target.suffix == ".html":
                assert unquote(parts.fragment) in read(target).anchors, f"{path}: {link}"


def test_works_offline(site: Path) -> None:
    """No page loads anything from elsewhere."""
    for path in sorted(site.rglob("*.html")):
        for link in read(path).loaded:
            parts = urlsplit(link)
            assert not parts.netloc, f"{path}: {link}"
            if parts.scheme != "data":
                assert (path.parent / parts.path).exists(), f"{path}: {link}"
