"""
What is documented is used: an option that no code reads, a code that nothing sends.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

import twisted_upload
from twisted_upload.config.options import DaemonSettings, ListenerSettings
from twisted_upload.core.answers import CODES
from twisted_upload.observability import metrics
from twisted_upload.observability.metrics import METRICS

PACKAGE = Path(twisted_upload.__file__).parent

OPTIONS = [it.name for settings in (ListenerSettings, DaemonSettings) for it in fields(settings)]

READERS = "config", "daemon", "frontends", "cli"
"""The rooms that read options, from a name that ends in ``settings``."""

SENDERS = "core", "frontends", "stores"
"""The rooms that refuse uploads."""

REPORTERS = "daemon", "observability"
"""The rooms that produce samples of metrics."""


def nodes_in(*rooms: str) -> Iterator[ast.AST]:
    """Return all syntax nodes of some rooms."""
    for room in rooms:
        for path in sorted((PACKAGE / room).rglob("*.py")):
            if path.name != "metrics.py":
                yield from ast.walk(ast.parse(path.read_text("utf-8")))


def options_in(nodes: Iterator[ast.AST]) -> set[str]:
    """Return the names of the fields that are read from settings."""
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Load)
        and ast.unparse(node.value).endswith("settings")
    }


def names_in(nodes: Iterator[ast.AST]) -> set[str]:
    """Return the names that are used, other than in imports."""
    return {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }


def sampled_in(nodes: Iterator[ast.AST]) -> set[str]:
    """Return the names of which samples are produced, as keys of a dictionary."""
    keys = [
        key
        for node in nodes
        for key in (node.keys if isinstance(node, ast.Dict) else [])
        if key is not None
    ]
    return {
        key.value.id
        for key in keys
        if isinstance(key, ast.Attribute) and isinstance(key.value, ast.Name)
    }


READ = options_in(nodes_in(*READERS))
SENT = names_in(nodes_in(*SENDERS))
SAMPLED = sampled_in(nodes_in(*REPORTERS))


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str) -> None:
    """Each option is read by the code."""
    assert name in READ


@pytest.mark.parametrize("code", CODES)
def test_codes(code: str) -> None:
    """Each code is sent by the code, not only received."""
    assert CODES[code].__name__ in SENT


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_metrics(metric: metrics.Metric) -> None:
    """Each metric has samples."""
    (name,) = (name for name, value in vars(metrics).items() if value is metric)
    assert name in SAMPLED


def test_unused_is_noticed() -> None:
    """The checks find what is used, and nothing else."""
    source = (
        "def f(x: Busy):\n    return {LAG.name: x._settings.drain, 'FREE': [Empty, settings]}\n"
    )
    tree = ast.parse(source)
    assert options_in(ast.walk(tree)) == {"drain"}
    assert sampled_in(ast.walk(tree)) == {"LAG"}
    assert "Empty" in names_in(ast.walk(tree))
