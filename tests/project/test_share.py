"""
The shipped alert rules and dashboard.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

import twisted_upload
from twisted_upload.observability.metrics import METRICS, Samples
from twisted_upload.observability.prometheus import page

SHARE = Path(twisted_upload.__file__).parent / "share"
ALERTS: Any = yaml.safe_load((SHARE / "alerts.yml").read_text("utf-8"))
DASHBOARD: Any = json.loads((SHARE / "grafana.json").read_text("utf-8"))

TARGET = {"job", "instance"}
"""The labels that Prometheus adds to all samples of a target."""


def rules() -> list[dict[str, Any]]:
    return [rule for group in ALERTS["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [*DASHBOARD["panels"]]


def queries() -> Iterator[tuple[str, str]]:
    """Every query of a panel, with its title."""
    for panel in panels():
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


EXPRESSIONS = [(rule["alert"], rule["expr"]) for rule in rules()] + [*queries()]


def exported() -> dict[str, set[str]]:
    """Return the names of all samples that a page can have, as the official parser reads them."""
    samples: Samples = {
        metric.name: {metric.labels: [0] * (len(metric.bounds) + 2) if metric.bounds else 0}
        for metric in METRICS
    }
    text, _ = page(samples)
    names: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text.decode()):
        for sample in family.samples:
            names.setdefault(sample.name, set()).update(sample.labels)
    return names


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_names_exist(title: str, expression: str) -> None:
    """Rules and dashboard query only metrics and labels that the daemon exports."""
    known = exported()
    names = set(re.findall(r"\btwisted_upload_\w+", expression))
    assert names <= set(known), title
    assert names or expression.startswith("up{")
    labels = set().union(TARGET, *(known[name] for name in names))
    asked = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', expression))
    for several in re.findall(r"\b(?:by|on|without) \(([^)]*)\)", expression):
        asked |= {label.strip() for label in several.split(",")}
    assert asked <= labels, title


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_rule(rule: dict[str, Any]) -> None:
    """Each alert has a severity, a summary of one line and a description."""
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert set(rule["annotations"]) == {"summary", "description"}
    assert re.search(r"[.?]\Z", rule["annotations"]["description"])


@pytest.mark.parametrize("expected", [metric.name for metric in METRICS])
def test_every_metric_is_used(expected: str) -> None:
    """Every metric is in the dashboard or in an alert."""
    assert any(expected in expression for _, expression in EXPRESSIONS)


def test_legends_have_labels() -> None:
    """A legend uses only labels that its query retains."""
    for panel in panels():
        for target in panel.get("targets", []):
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                aggregated = re.search(
                    r"\b(?:sum|min|max|count)\b(?: by \(([^)]*)\))?", target["expr"]
                )
                if aggregated is not None:
                    assert label in (aggregated[1] or ""), panel["title"]


def test_dashboard() -> None:
    """Panels have unique numbers and titles, do not overlap, and use the data source."""
    assert len({panel["id"] for panel in panels()}) == len(panels())
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"], panel["title"]


def test_variables() -> None:
    """The variables of the queries exist, and query exported metrics."""
    variables = {it["name"]: it for it in DASHBOARD["templating"]["list"]}
    used = {
        name
        for _, expression in queries()
        for name in re.findall(r"\$(\w+)", expression)
        if not name.startswith("__")
    }
    assert used | {"datasource"} == set(variables)
    for variable in variables.values():
        if variable["type"] == "query":
            (name,) = re.findall(r"\btwisted_upload_\w+", variable["definition"])
            assert name in exported()
            assert variable["query"]["query"] == variable["definition"]


needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed"
)


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(
        ["promtool", *map(str, arguments)], capture_output=True, text=True, check=False, timeout=55
    )
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_accepts_the_rules(tmp_path: Path) -> None:
    """Prometheus loads the rules, and every alert fires exactly when it should."""
    promtool("check", "rules", SHARE / "alerts.yml")
    cases: Any = yaml.safe_load(Path(__file__).with_name("alerts.test.yml").read_text("utf-8"))
    cases["rule_files"] = [str(SHARE / "alerts.yml")]
    expected = json.dumps(
        [[it.get("alert_rule_test"), it.get("promql_expr_test")] for it in cases["tests"]]
    )
    assert all(rule["alert"] in expected for rule in rules())
    (tmp_path / "tests.yml").write_text(json.dumps(cases))
    promtool("test", "rules", tmp_path / "tests.yml")


@needs_promtool
def test_promtool_accepts_the_queries(tmp_path: Path) -> None:
    """Prometheus can parse every query of the dashboard."""
    records = [
        {"record": f"query:{number}", "expr": re.sub(r"\$__\w+", "5m", expression)}
        for number, (_, expression) in enumerate(queries())
    ]
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": records}]}))
    promtool("check", "rules", path)
