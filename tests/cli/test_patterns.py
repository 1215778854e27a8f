"""
Which files of a folder --include and --exclude select.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_upload.cli.patterns import Patterns, parse_pattern

MATCHES = [
    ("*.jpg", "a.jpg", True),
    ("*.jpg", "deep/er/a.jpg", True),
    ("*.jpg", "a.jpeg", False),
    ("*.jpg", "a.jpg.txt", False),
    ("a?.txt", "ab.txt", True),
    ("a?.txt", "a/.txt", False),
    ("[ab]*", "bell", True),
    ("[!ab]*", "bell", False),
    ("[!ab]*", "cell", True),
    ("[]x]", "]", True),
    ("[a-c]1", "b1", True),
    ("[a", "[a", True),
    ("x[!a]y", "x/y", False),
    ("[[^]", "^", True),
    ("[+--]", ",", True),
    ("[a-c-]", "-", True),
    ("[-a]", "-", True),
    ("[!-a]", "-", False),
    (r"[\d]", "5", False),
    ("a+b(c)", "a+b(c)", True),
    ("2026/*.txt", "2026/a.txt", True),
    ("2026/*.txt", "2026/deep/a.txt", False),
    ("2026/*.txt", "old/2026/a.txt", False),
    ("/a.txt", "a.txt", True),
    ("/a.txt", "deep/a.txt", False),
    ("./a/b", "a/b", True),
    ("2026/**", "2026/deep/a.txt", True),
    ("2026/**/a.txt", "2026/a.txt", True),
    ("2026/**/a.txt", "2026/x/y/a.txt", True),
    ("**/b/*", "a/b/c", True),
    ("**/b/*", "b/c", True),
    (".*", ".hidden", True),
    (".*", "a.b", False),
    ("caf\u00e9\n", "caf\u00e9\n", True),
]


@pytest.mark.parametrize(("pattern", "path", "matches"), MATCHES)
def test_matches(pattern: str, path: str, matches: bool) -> None:
    """A pattern without a slash is for names in any folder; one with a slash for whole paths."""
    assert parse_pattern(pattern).matches(path, is_folder=False) == matches


def test_folders() -> None:
    """A pattern that ends with a slash matches only folders."""
    drafts = parse_pattern("drafts/")
    assert drafts.matches("a/drafts", is_folder=True)
    assert not drafts.matches("a/drafts", is_folder=False)


@pytest.mark.parametrize("text", ["", "/", "./", "a//b", "../a", "a/..", "[z-a]", "[?--]"])
def test_invalid(text: str) -> None:
    """A pattern that can match nothing is an error that shows one that can."""
    with pytest.raises(ValueError, match="is not a pattern such as"):
        parse_pattern(text)


@given(st.text("ab*?[]!/-\\^&|~", min_size=1, max_size=12), st.text("ab-\\^/", max_size=8))
def test_any_text(text: str, path: str) -> None:
    """Any text is a pattern or an error; without special characters, it stands for itself."""
    try:
        pattern = parse_pattern(text)
    except ValueError:
        return
    matched = pattern.matches(path, is_folder=True)
    if not {*text} & {*"*?["} and not text.startswith("./"):
        wanted = text.strip("/") if text.endswith("/") else text.removeprefix("/")
        whole = "/" in text.removesuffix("/")
        assert matched == (wanted == (path if whole else path.rpartition("/")[2]))


def test_include_and_exclude() -> None:
    """--exclude wins; --include selects files, or all of a folder."""
    patterns = Patterns(
        (parse_pattern("*.txt"), parse_pattern("all/")), (parse_pattern("secret*"),)
    )
    assert patterns.includes("a/b.txt")
    assert patterns.includes("x/all/b.bin")
    assert not patterns.includes("a/b.bin")
    assert not patterns.includes("all")  # a file of that name
    assert patterns.excludes("a/secret.txt", is_folder=False)
    assert Patterns().includes("anything")
    assert not Patterns().excludes("anything", is_folder=True)
