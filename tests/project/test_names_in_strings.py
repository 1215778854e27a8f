"""
Names of this package in strings and texts exist, although no import or type checker
checks them.

A log namespace that a test observes, a module that must not be imported, an object that
a test replaces: if such a name is out of date, a test may see nothing and pass.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from inspect import getsource
from pathlib import Path
from pkgutil import resolve_name

from tests.support import ROOT

DOTTED = re.compile(r"\btwisted_upload(?:\.\w+)+")

PLACES = ("tests", "benchmarks", "docs", "twisted_upload", ".ci", "README.md", "pyproject.toml")
"""Where such names may be, as far as it exists beside the tests."""


MADE_UP = ".nothing"
"""The suffix of names that tests use because they do not exist."""


def texts(*places: str) -> Iterator[tuple[str, str]]:
    """Path and content of all existing text files."""
    for place in (ROOT / place for place in places):
        paths: list[Path] = [*place.rglob("*")] if place.is_dir() else [place]
        for path in paths:
            if path.suffix in {".py", ".md", ".toml", ".yml"} and path.exists():
                yield str(path.relative_to(ROOT)), path.read_text("utf-8")


def exists(name: str) -> bool:
    """Whether a name is a module or an object in a module."""
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_names_exist() -> None:
    """Every name that starts with the package and a dot, in any text, exists."""
    found = {name: path for path, text in texts(*PLACES) for name in DOTTED.findall(text)}
    assert len(found) > 100
    missing = [(path, name) for name, path in found.items() if not exists(name)]
    assert [it for it in missing if not it[1].endswith(MADE_UP)] == []


def test_observed_modules_log() -> None:
    """If a test observes the log of a module, that module logs."""
    listened = {}
    for path, text in texts("tests"):
        if "log_namespace" in text:
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Constant) and DOTTED.fullmatch(str(node.value)):
                    listened[str(node.value)] = path
    assert len(listened) > 5
    silent = {name for name in listened if "Logger(" not in getsource(import_module(name))}
    assert {name: listened[name] for name in silent} == {}


def is_present(path: str) -> bool:
    """Whether a file exists, or its folder is not beside the tests."""
    return (ROOT / path).exists() or not (ROOT / path.partition("/")[0]).exists()


def test_paths_exist() -> None:
    """Every file that a text names, by its path or as a test file, exists."""
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    missing = []
    for where, text in texts(*PLACES):
        found = re.findall(r"(?<![\w/])((?:tests|benchmarks|twisted_upload)/[\w/.-]+\.py)\b", text)
        missing += [(where, path) for path in found if not is_present(path)]
        found = re.findall(r"(?<![\w/])test_\w+\.py\b", text)
        missing += [(where, name) for name in found if name not in tests]
    assert missing == []
