"""
The documentation pages, and the examples in them.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.support import ROOT

__all__ = ["DOCS", "PAGES", "SHELL", "TEXTS", "block", "fenced", "markers", "page", "shell"]

DOCS = ROOT / "docs"

PAGES = [
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md")))
    if path.exists()
]

TEXTS = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in PAGES}
"""The texts of all pages, by path."""

SHELL = ("sh", "console")
"""Languages of blocks that contain commands."""

_BLOCK = re.compile(
    r"^(?P<margin> *)(?:<!-- (?P<marker>[\w-]+) -->\n *)?```(?P<language>[\w{}-]*)\n"
    r"(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)


def page(name: str) -> str:
    """
    Return the text of a page.

    :param name: its path, relative to the checkout.
    """
    return TEXTS[name]


def fenced(text: str) -> Iterator[tuple[str | None, str, str]]:
    """Yield each block of a page: its marker, its language, its content."""
    for found in _BLOCK.finditer(text):
        margin = found["margin"]
        lines = found["text"].splitlines(keepends=True)
        yield found["marker"], found["language"], "".join(it.removeprefix(margin) for it in lines)


def markers() -> Iterator[tuple[str, str]]:
    """Yield each marker of a block, and the page that it is on."""
    for name, text in TEXTS.items():
        yield from ((marker, name) for marker, _, _ in fenced(text) if marker)


def block(name: str, marker: str) -> str:
    """Return the block below a marker."""
    (found,) = [text for it, _, text in fenced(page(name)) if it == marker]
    return found


def shell(command: str, folder: Path) -> str:
    """
    Run a command as a reader would who has followed the README.

    :return: its output.
    """
    programs = Path(sys.executable).parent
    # Not in an absolute path: the tests may themselves run from a .venv.
    command = re.sub(r"(?<![\w/])\.venv/bin/", lambda _: f"{programs}/", command)
    done = subprocess.run(
        [shutil.which("bash") or "sh", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout
