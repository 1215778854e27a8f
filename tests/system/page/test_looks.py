"""
What the page is like for different people: their language, device, colours, senses.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.box import MIB, Box, big_file, rows, states
from tests.support.chromium import Chromium, Tab

COLOURS = """
(() => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => {
    const [r, g, b] = channels(text).slice(0, 3).map((it) => it / 255)
      .map((it) => (it <= 0.04045 ? it / 12.92 : ((it + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (it) => {
    for (; it; it = it.parentElement) {
      const colour = getComputedStyle(it).backgroundColor;
      if (channels(colour)[3] !== 0) return colour;
    }
  };
  return [...document.querySelectorAll("body *")]
    .filter((it) => it.checkVisibility()
      && [...it.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
    .map((it) => {
      const [a, b] = [light(getComputedStyle(it).color), light(behind(it))];
      return [it.className || it.tagName, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)];
    });
})()
"""

SMALL = """
[...document.querySelectorAll("button")].filter((it) => it.checkVisibility())
  .map((it) => [it.textContent, it.getBoundingClientRect().height]).filter(([, high]) => high < 44)
"""


def with_files(tab: Tab, folder: Path) -> None:
    """Fill the page: one file is stored, one fails, one is sent, one is paused."""
    (folder / "stored.txt").write_text("a")
    tab.choose(folder / "stored.txt")
    tab.wait(lambda: states(tab) == ["stored"], "a stored file")
    (folder / "failed.bin").write_bytes(bytes(64 * MIB))
    tab.choose(folder / "failed.bin")
    tab.wait(lambda: states(tab) == ["failed", "stored"], "a file that is too large")
    tab.throttle(MIB)
    tab.choose(big_file(folder, "paused with a rather long name that does not end.bin"))
    tab.wait(lambda: rows(tab)[-1]["share"] > 0, "a file on its way")
    tab.click(".pause")
    tab.choose(big_file(folder, "sent.bin"))
    tab.wait(lambda: rows(tab)[-1]["line"].endswith("left"), "a file on its way")


@pytest.mark.parametrize("phone", [False, True], ids=["wide", "phone"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_legible(chromium: Chromium, tmp_path: Path, *, phone: bool, dark: bool) -> None:
    """
    Light or dark, on a phone or not, each text stands out (WCAG 2.2, 1.4.3), nothing has to
    be scrolled sideways, and what is touched is large enough (2.5.5).
    """
    with Box(tmp_path, "--max-size=32M") as box, chromium.tab(phone=phone, dark=dark) as tab:
        tab.open(box.url)
        with_files(tab, tmp_path)
        contrasts = tab.evaluate(COLOURS)
        assert len(contrasts) > 10
        assert [it for it in contrasts if it[1] < 4.5] == []
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        background = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", background))) < 200) is dark
        if phone:
            assert tab.evaluate("innerWidth") == 390
            assert tab.evaluate(SMALL) == []
            assert tab.is_visible("#take-photo")
            assert not tab.is_visible("#choose-folder")
        else:
            assert not tab.is_visible("#take-photo")
        tab.throttle()


@pytest.mark.parametrize(
    ("accepted", "language", "title", "stored"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh", "上传文件", "上传成功"),
        ("en-GB,en;q=0.9", "en", "Upload files", "stored as"),
        ("de-DE", "en", "Upload files", "stored as"),
    ],
)
def test_language(
    chromium: Chromium,
    box: Box,
    tmp_path: Path,
    accepted: str,
    language: str,
    title: str,
    stored: str,
) -> None:
    """The page speaks the language of the browser, before and after a file is stored."""
    (tmp_path / "a.txt").write_text("a")
    with chromium.tab(language=accepted) as tab:
        tab.open(box.url)
        assert tab.evaluate("document.documentElement.lang") == language
        assert tab.evaluate("document.title") == tab.text("h1") == title
        tab.choose(tmp_path / "a.txt")
        tab.wait(lambda: states(tab) == ["stored"], "a stored file")
        assert rows(tab)[0]["line"].startswith(stored)
        if language == "zh":
            assert re.findall(r"\b[A-Za-z]{4,}\b", tab.text()) == []


def test_keyboard(box: Box, tab: Tab, tmp_path: Path) -> None:
    """All of it can be done with the keyboard; the focus is never lost."""
    focus = "document.activeElement.getAttribute('aria-label') || document.activeElement.innerText"
    tab.press("Tab")
    assert tab.evaluate(focus) == "Choose files"
    tab.throttle(MIB)
    tab.choose(big_file(tmp_path), key="Enter")
    tab.wait(lambda: states(tab) == ["sending"], "a file on its way")
    tab.press("Tab")
    assert tab.evaluate(focus) == "Choose a folder"
    tab.press("Tab")
    assert tab.evaluate(focus) == "Pause: big.bin"
    assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    tab.press(" ")
    assert states(tab) == ["paused"]
    assert tab.evaluate(focus) == "Resume: big.bin"
    tab.throttle()
    tab.press("Enter")
    tab.wait(lambda: states(tab) == ["stored"], "a stored file")
    assert tab.evaluate(focus) == "Copy name and SHA-256: big.bin"


def test_screen_reader(chromium: Chromium, tmp_path: Path) -> None:
    """All that can be used or that moves has a name; what has become of the files is announced."""
    with Box(tmp_path, "--max-size=32M") as box, chromium.tab() as tab:
        tab.open(box.url)
        with_files(tab, tmp_path)
        found = tab.accessible()
        used = [it for it in found if it[0] in {"button", "textbox", "progressbar", "link"}]
        assert [it for it in used if not it[1].strip()] == []
        for action in (
            "Pause: sent",
            "Resume: paused",
            "Remove: failed",
            "Copy name and SHA-256: s",
        ):
            assert any(name.startswith(action) for role, name in used if role == "button"), action
        assert any(it == ("progressbar", "sent.bin") for it in used)
        assert ("heading", "Upload files") in found
        assert [role for role, _ in found if role == "listitem"] == ["listitem"] * 4
        summary = "document.querySelector('#summary')"
        assert tab.evaluate(f"{summary}.getAttribute('role')") == "status"
        assert tab.text("#summary") == "1 of 4 stored, 1 failed"
        tab.throttle()


def test_title(box: Box, tab: Tab, tmp_path: Path) -> None:
    """The title of the window tells how far it is, for those who look at another one."""
    tab.throttle(MIB)
    tab.choose(big_file(tmp_path))
    tab.until("/^[1-9][0-9]?% · Upload files$/.test(document.title)")
    tab.throttle()
    tab.wait(lambda: states(tab) == ["stored"], "a stored file")
    assert tab.evaluate("document.title") == "Upload files"


def test_words_of_the_operator(chromium: Chromium, tmp_path: Path) -> None:
    """The page has the title and the text that the operator has chosen, as text."""
    options = ("--page-title=Scans & <b>more</b>", "--page-text=For the office.\nUntil Friday.")
    with Box(tmp_path, *options) as box, chromium.tab() as tab:
        tab.open(box.url)
        assert tab.text("h1") == "Scans & <b>more</b>"
        assert tab.text(".text") == "For the office.\nUntil Friday."
        assert tab.evaluate("document.title") == "Scans & <b>more</b>"


def test_without_a_page(chromium: Chromium, tmp_path: Path) -> None:
    """With --no-page a browser is told that there is nothing to see."""
    with Box(tmp_path, "--no-page") as box, chromium.tab() as tab:
        tab.open(box.url)
        assert "there is no page here" in tab.text()


def test_without_script(chromium: Chromium, box: Box, tmp_path: Path) -> None:
    """Without JavaScript the page is a form, and tells what has become of the files."""
    (tmp_path / "a.txt").write_text("one")
    (tmp_path / "报告.txt").write_text("two")
    with chromium.tab(without_script=True) as tab:
        tab.open(box.url)
        assert tab.is_visible("#files")
        assert not tab.is_visible("#choose")
        tab.put("#files", tmp_path / "a.txt", tmp_path / "报告.txt")
        tab.evaluate("window.old = true")
        tab.click("#form button.main")
        tab.arrived()
        stored = box.stored()
        assert sorted(stored.values()) == [b"one", b"two"]
        text = tab.text()
        assert all(f"stored as {name} (3 B)" in text for name in stored)
        assert "报告.txt" in text
        tab.evaluate("window.old = true")
        tab.click("a")
        tab.arrived()
        assert tab.is_visible("#files")
        assert tab.complaints == []


def test_form_refused(chromium: Chromium, tmp_path: Path) -> None:
    """If one file of the form is refused, it is named, and it is said that none was stored."""
    (tmp_path / "small.txt").write_text("a")
    with Box(tmp_path, "--max-size=1M") as box, chromium.tab(without_script=True) as tab:
        tab.open(box.url)
        tab.put("#files", tmp_path / "small.txt", big_file(tmp_path, size=2 * MIB))
        tab.evaluate("window.old = true")
        tab.click("#form button.main")
        tab.arrived()
        refused = "big.bin\nnot stored: larger than this server accepts"
        tab.wait(lambda: refused in tab.text(), "the reason")
        assert "None of the files was stored" in tab.text()
        assert box.stored() == {}


def test_policy(tab: Tab) -> None:
    """The browser lets nothing into the page that is not its script."""
    refused: Any = tab.evaluate(
        "(() => { try { document.body.innerHTML = '<b>'; } catch { return 1; } })()"
    )
    assert refused == 1
    tab.evaluate(
        "(() => { const it = document.createElement('img');"
        " it.src = 'https://elsewhere.example/'; document.body.append(it); })()"
    )
    tab.wait(lambda: any("Content Security Policy" in it for it in tab.complaints), "a complaint")
    tab.complaints.clear()
