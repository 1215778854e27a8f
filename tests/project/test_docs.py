"""
The pages for operators are true.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import twisted_upload
from tests.support import ROOT
from twisted_upload.errors import CannotStart
from twisted_upload.observability.metrics import METRICS
from twisted_upload.observability.records import FIELDS

DOCS = ROOT / "docs"
PACKAGE = Path(twisted_upload.__file__).parent
PAGES = [*sorted(DOCS.glob("*.md")), ROOT / "README.md"]

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="the pages are not beside the tests")

LOUD = {"info", "warn", "error", "critical", "failure"}

VARYING = "…"
"""In the documents: what differs from one start error to the next."""


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in the package, and in which module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield path.name, node


def log_lines() -> Iterator[tuple[str, str]]:
    """The format and the level of every line that can be logged."""
    for module, call in calls():
        function = call.func
        if not isinstance(function, ast.Attribute) or function.attr not in LOUD:
            continue
        if not isinstance(function.value, ast.Name) or "log" not in function.value.id:
            continue
        text = call.args[0]
        assert isinstance(text, ast.Constant), f"{module}:{call.lineno}: not a literal"
        assert isinstance(text.value, str)
        yield text.value, "critical" if function.attr == "failure" else function.attr


def template(node: ast.expr) -> str | None:
    """A text in the source, with `VARYING` for what is put in; None if it is not one."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) or VARYING for part in node.values)
    return None


def start_errors() -> Iterator[str]:
    """The texts of what stops a start on this machine."""
    for module, call in calls():
        if not isinstance(call.func, ast.Name) or not call.args:
            continue
        text = template(call.args[0])
        if call.func.id == CannotStart.__name__:
            if text is None:  # what folder._telling has told
                assert module == "folder.py", f"{module}:{call.lineno}: not a literal"
            else:
                yield text
        elif call.func.id == "_telling":
            assert text is not None
            yield f"{text}: {VARYING}"


def test_log_lines() -> None:
    """Each line that can be logged is on the page with its level, and no other line is."""
    rows = re.findall(r"^\| `(.+?)` \| (\w+) \| .+ \|$", page("log-lines.md"), re.MULTILINE)
    assert {*rows} == {*log_lines()}
    assert len(rows) == len({*rows})


def test_start_errors() -> None:
    """Each text that stops a start is on the page, and no other is."""
    _, _, text = page("log-lines.md").partition("## When it cannot start")
    rows = {*re.findall(r"^\| `(.+?)` \| [^|]+ \|$", text, re.MULTILINE)}
    rows |= {*re.findall(r"`(the store has not [^`]+|[^`]+ than before)`", text)}
    assert rows == {*start_errors()}


def test_alerts() -> None:
    """Every alert has its row in the table of what is wrong."""
    rules = yaml.safe_load((PACKAGE / "share" / "alerts.yml").read_text("utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert {*re.findall(r"`(Uploads?[A-Z]\w+)`", page("operating.md"))} == alerts


def test_metrics() -> None:
    """The table of metrics names all that there are, with their types and labels."""
    text = page("metrics.md")
    table = text[text.index("<!-- metrics -->") :].split("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) ?\| (.+) \|$", table, re.MULTILINE)
    assert [(name, kind, tuple(re.findall(r"\w+", labels))) for name, kind, labels, _ in rows] == [
        (metric.name, metric.kind, metric.labels) for metric in METRICS
    ]


def test_prometheus_configuration() -> None:
    """The configuration for Prometheus is one, and the rules expect the job's name."""
    (configuration,) = re.findall(r"```yaml\n(.*?)```", page("metrics.md"), re.DOTALL)
    (job,) = yaml.safe_load(configuration)["scrape_configs"]
    assert set(job) == {"job_name", "static_configs"}
    alerts = PACKAGE / "share" / "alerts.yml"
    assert f'up{{job="{job["job_name"]}"}}' in alerts.read_text("utf-8")


def test_fields() -> None:
    """The table of fields names all that there are, in their order."""
    text = page("logs.md")
    table = text[text.index("<!-- fields -->") :].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [*FIELDS]


@pytest.mark.parametrize(("name", "cells"), [("states", 6), ("processes", 4)])
def test_bounds(name: str, cells: int) -> None:
    """Each state of a connection, or of a process, has all its bounds, and a test that there is."""
    text = page("architecture.md")
    table = text[text.index(f"<!-- {name} -->") :].split("\n\n")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[3:]]
    assert len(rows) > 10
    for row in rows:
        assert len(row) == cells
        assert all(row), row
        file, _, test = row[-1].strip("`").partition("::")
        there = (ROOT / "tests" / file).read_text("utf-8")
        assert re.search(rf"^(async )?def {test}\(", there, re.MULTILINE), row[-1]


def anchors(text: str) -> set[str]:
    """What headings can be linked to as, the way GitHub makes them."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links(path: Path) -> None:
    """What a page links to is there."""
    text = path.read_text("utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        linked = path.parent / name if name else path
        if "benchmarks/" in target and not (ROOT / "benchmarks").exists():
            continue  # they are not in the sdist
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text("utf-8")), target
