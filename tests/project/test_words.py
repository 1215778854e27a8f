"""
One word for each thing: outdated words do not appear in code or documentation.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

import twisted_upload
from tests.support import ROOT

PACKAGE = Path(twisted_upload.__file__).parent

OUT = {
    r"door(s|way|ways)?": "front end, listener",
    r"newcomers?": "new connection",
    r"whoever|whomever": "a plain subject",
    r"somebody|someone": "a plain subject",
    r"may (not )?come in|let in": "be allowed, connect",
    r"kept (file|upload)s?|(file|upload)s? (is|are|was|were) kept": "stored",
    r"lost (file|upload)s?|uploads? (is|are|was|were) lost": "aborted",
    r"nothing (is )?kept|not kept": "stored",
    r"turn(s|ed)? (senders? |connections? )?away": "reject",
    r"time-outs?": "timeout",
    r"processor time": "CPU time",
    r"mend(s|ed|ing)?": "fix",
    r"at the (most|least)": "at most, at least",
    r"of (its|their) own|of ours": "a plain word",
    r"stands? still|stood still": "stall",
    r"holds? up|held up": "block",
    r"makes? no sense": "invalid",
    r"as it stands|in hand|comes? to nothing|good for": "a plain word",
    r"end of (the )?(files' )?names?": "suffix",
    r"ha(s|ve) (said|heard)": "sent, received",
    r"a defect": "internal error",
}
"""Patterns of outdated words, and their replacements."""

OUT_FOR_USERS = {
    **OUT,
    r"(?<!file )(?<!file-)descriptors?": "file descriptor",
    r"set(s|ting)? aside": "give up",
}
"""The same, for texts that operators and senders read."""

OUT_OF_PROOFS = [words for words in OUT if "lost" not in words]
"""The same, for proofs, which are about lost uploads."""

_OUT, _OUT_FOR_USERS, _OUT_OF_PROOFS = (
    re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)
    for words in (OUT, OUT_FOR_USERS, OUT_OF_PROOFS)
)

_PLURAL = re.compile(
    r"(?<!\()\{[^{}]*\} (more )?(log )?"
    r"(bytes|connections|days|files|lines|listeners|markers|programs|times|uploads|workers)\b"
)
"""A number in a format, and a noun for more than one. Where the exact size follows another
in parentheses, it is large."""

MODULES = sorted(PACKAGE.rglob("*.py"))
PROOFS = sorted((ROOT / "tests" / "proofs").rglob("*.py"))
TESTS = sorted({*(ROOT / "tests").rglob("*.py")} - {*PROOFS, Path(__file__)})
TEXTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *(path for path in sorted((PACKAGE / "share").rglob("*")) if path.is_file()),
]


def wrong_in(text: str, out: re.Pattern[str] = _OUT_FOR_USERS) -> list[str]:
    """Return the outdated words in a text."""
    return [found[0] for found in out.finditer(" ".join(text.split()))]


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def strings_in(source: str) -> Iterator[str]:
    """The strings of a module, except docstrings: log lines, errors, help."""
    tree = ast.parse(source)
    docstrings = {node.value for node in ast.walk(tree) if _is_docstring(node)}  # type: ignore[attr-defined]
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(it.value if isinstance(it, ast.Constant) else "{}" for it in node.values)  # type: ignore[misc]
        elif isinstance(node, ast.Constant) and node not in docstrings and " " in str(node.value):
            yield str(node.value)


def comments_in(source: str) -> Iterator[str]:
    """The docstrings and comments of a module."""
    for node in ast.walk(ast.parse(source)):
        if _is_docstring(node):
            yield str(node.value.value)  # type: ignore[attr-defined]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


def name_of(path: Path) -> str:
    """Return the path of a file for display."""
    return str(path.relative_to(ROOT if path.is_relative_to(ROOT) else PACKAGE.parent))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_strings(path: Path) -> None:
    """No log line, error or help text contains an outdated word."""
    assert {
        text: wrong for text in strings_in(path.read_text("utf-8")) if (wrong := wrong_in(text))
    } == {}


@pytest.mark.parametrize("path", [*MODULES, *TESTS], ids=name_of)
def test_comments(path: Path) -> None:
    """No docstring or comment does, in the package or in the tests."""
    source = path.read_text("utf-8")
    assert {text: wrong for text in comments_in(source) if (wrong := wrong_in(text, _OUT))} == {}


@pytest.mark.parametrize("path", PROOFS, ids=name_of)
def test_proofs(path: Path) -> None:
    """No docstring, comment, table or error of a proof does."""
    source = path.read_text("utf-8")
    texts = [*comments_in(source), *strings_in(source)]
    assert {text: wrong for text in texts if (wrong := wrong_in(text, _OUT_OF_PROOFS))} == {}


@pytest.mark.parametrize("path", [path for path in TEXTS if path.exists()], ids=name_of)
def test_pages(path: Path) -> None:
    """No page, manual page, alert or dashboard does."""
    assert wrong_in(path.read_text("utf-8").replace(r"\-", "-")) == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_plurals(path: Path) -> None:
    """Nothing says "1 uploads": a number with its noun comes from `counted`."""
    assert [text for text in strings_in(path.read_text("utf-8")) if _PLURAL.search(text)] == []


def test_plural_is_noticed() -> None:
    """A number that varies before a noun in the plural is found."""
    texts = "{} uploads", "{count} more lines", "({} bytes)", "{size} bytes", "{uploads} in flight"
    assert [_PLURAL.search(text) is not None for text in texts] == [True, True, False, True, False]


def test_outdated_words_are_noticed() -> None:
    """The check finds outdated words, also across line ends."""
    text = "A kept\nfile; whoever comes, at the most 5 descriptors, and file descriptors"
    assert wrong_in(text) == ["kept file", "whoever", "at the most", "descriptors"]
    source = 'def f():\n    """A door."""\n    log(f"a {x} newcomer")  # mend it\n'
    assert next(map(wrong_in, strings_in(source))) == ["newcomer"]
    assert [wrong_in(text) for text in comments_in(source)] == [["door"], ["mend"]]
