"""
The building blocks of manual pages.
"""

from __future__ import annotations

import shutil
import subprocess

import pytest

from docs.man.roff import item_list, manual_page, paragraphs, verbatim

HOSTILE = r""".so /etc/passwd
'begins "with" a quote\fB \n[x] `tick` ^hat~ 上传成功 --a-b ..."""


def formatted(*parts: str) -> str:
    """Return what a reader sees."""
    if not shutil.which("groff"):
        pytest.skip("groff is not installed")
    source = manual_page("name", 7, "about it", date="2026-11-22", parts=[("PART", "".join(parts))])
    assert source.isascii()
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=150n"],
        input=source,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


def test_verbatim() -> None:
    """Lines are literal, whatever they contain."""
    shown = formatted(verbatim(HOSTILE)).splitlines()
    for line in HOSTILE.splitlines():
        assert any(line in one for one in shown), line


def test_paragraphs() -> None:
    """Text is filled, and literal; an empty line starts a paragraph."""
    shown = formatted(paragraphs(f"{HOSTILE}\n\nAnother   one.\n.")).splitlines()
    assert any(" ".join(HOSTILE.split()) in line for line in shown)
    assert "       Another one. ." in shown
    assert shown[shown.index("       Another one. .") - 1] == ""


def test_long_paragraph() -> None:
    """A source line that starts with a dot is not a request."""
    text = " ".join(["word", ".so"] * 100)
    shown = formatted(paragraphs(text))
    assert shown.count(".so") == 100
    assert shown.count("word") == 100


def test_items() -> None:
    """Each item has a term, and then its explanation."""
    source = item_list([("-j, --jobs N", "Send."), ("124", "Timed out."), ("kept|lost", "Ends.")])
    assert r"\fB\-j\fR, \fB\-\-jobs\fR \fIN\fR" in source
    assert r"\fB124\fR" in source
    assert "\nkept|lost\n" in source
    assert "-j, --jobs N\n              Send." in formatted(source)
