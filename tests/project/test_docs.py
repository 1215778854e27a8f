"""
The pages are correct: each table, command, option, metric, path and link in them.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from twisted.scripts._twistd_unix import ServerOptions

import twisted_upload
from docs.site.tables import GROUPS, PARTS, filled
from tests.support import ROOT
from tests.support.pages import DOCS, SHELL, TEXTS, fenced, markers, page
from twisted_upload.cli.invite import invite
from twisted_upload.cli.log import read_journal
from twisted_upload.cli.main import program
from twisted_upload.cli.ping import ping
from twisted_upload.cli.streams import ExitStatus
from twisted_upload.cli.token import token
from twisted_upload.cli.watch import watch
from twisted_upload.config.options import CHECK, CONFIG, OPTIONS, PRINT_CONFIG
from twisted_upload.core.answers import CODES
from twisted_upload.daemon.tap import Options
from twisted_upload.errors import CannotStart
from twisted_upload.frontends.http.problems import STATUSES
from twisted_upload.observability.metrics import METRICS
from twisted_upload.observability.records import FIELDS

PACKAGE = Path(twisted_upload.__file__).parent

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="the pages are not beside the tests")

LOUD = {"info", "warn", "error", "critical", "failure"}

VARYING = "…"
"""Stands for the variable parts of start errors in the documents."""


def calls() -> Iterator[tuple[str, ast.Call]]:
    """Every call in the package, and in which module."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield path.name, node


def log_lines() -> Iterator[tuple[str, str]]:
    """Yield format and level of every log line."""
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
    """Return a text in the source, with `VARYING` for variable parts; None if it is not a text."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part) or VARYING for part in node.values)
    return None


def start_errors() -> Iterator[str]:
    """Yield the texts of errors that prevent a start on this machine."""
    for module, call in calls():
        if not isinstance(call.func, ast.Name) or not call.args:
            continue
        text = template(call.args[0])
        if call.func.id == CannotStart.__name__:
            if text is None:  # the text that folder._telling builds
                assert module == "folder.py", f"{module}:{call.lineno}: not a literal"
            else:
                yield text
        elif call.func.id == "_telling":
            assert text is not None
            yield f"{text}: {VARYING}"


def test_log_lines() -> None:
    """Every log line is on the page with its level, and no other line is."""
    rows = re.findall(
        r"^\| `(.+?)` \| (\w+) \| .+ \|$", page("docs/reference/log-lines.md"), re.MULTILINE
    )
    assert {*rows} == {*log_lines()}
    assert len(rows) == len({*rows})


def test_start_errors() -> None:
    """Every start error is on the page, and no other text is."""
    _, _, text = page("docs/reference/log-lines.md").partition("## When it cannot start")
    rows = {*re.findall(r"^\| `(.+?)` \| [^|]+ \|$", text, re.MULTILINE)}
    rows |= {*re.findall(r"`(the store has not [^`]+|[^`]+ than before)`", text)}
    assert rows == {*start_errors()}


def test_alerts() -> None:
    """Every alert has its row in the table of problems."""
    rules = yaml.safe_load((PACKAGE / "share" / "alerts.yml").read_text("utf-8"))
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    assert {*re.findall(r"`(Uploads?[A-Z]\w+)`", page("docs/operations/runbook.md"))} == alerts


@pytest.mark.parametrize("name", TEXTS)
def test_generated(name: str) -> None:
    """Tables generated from the source are up to date: ``python -m docs.site.tables``."""
    assert filled(TEXTS[name]) == TEXTS[name]


def test_all_is_generated() -> None:
    """Each generated part is on one page, and each option in one group."""
    found = [name for text in TEXTS.values() for name in re.findall(r"<!-- begin (\w+) -->", text)]
    assert sorted(found) == sorted(PARTS)
    names = [name for _, group in GROUPS.values() for name in group]
    assert sorted(names) == sorted(it.name for it in (*OPTIONS, CONFIG, CHECK, PRINT_CONFIG))


def test_codes() -> None:
    """Each code has an explanation in addition to its row."""
    text = page("docs/reference/answers.md")
    assert re.findall(r"^- `([a-z-]+)`: ", text, re.MULTILINE) == [*CODES]


def test_statuses() -> None:
    """The table of the statuses of HTTP has each code, with the status that it is sent with."""
    text = page("docs/reference/http.md")
    table = text[text.index("<!-- statuses -->") :].split("\n\n")[0]
    documented = {
        code: int(status)
        for status, codes in re.findall(r"^\| (\d+) \| (.*) \|$", table, re.MULTILINE)
        for code in re.findall(r"`([a-z-]+)`", codes)
    }
    assert documented == {kind.code: status for kind, status in STATUSES.items()}
    assert documented.keys() == CODES.keys()


def test_exit_statuses() -> None:
    """The table of exit statuses is complete."""
    text = page("docs/reference/command.md")
    documented = {int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert documented == {value for name, value in vars(ExitStatus).items() if name.isupper()}


def test_prometheus_configuration() -> None:
    """The configuration for Prometheus is valid, and the rules use its job name."""
    (configuration,) = re.findall(
        r"```yaml\n(.*?)```", page("docs/reference/metrics.md"), re.DOTALL
    )
    (job,) = yaml.safe_load(configuration)["scrape_configs"]
    assert set(job) == {"job_name", "static_configs"}
    alerts = PACKAGE / "share" / "alerts.yml"
    assert f'up{{job="{job["job_name"]}"}}' in alerts.read_text("utf-8")


def test_fields() -> None:
    """The table of fields is complete, and in order."""
    text = page("docs/reference/log-fields.md")
    table = text[text.index("<!-- fields -->") :].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [*FIELDS]


@pytest.mark.parametrize(("name", "cells"), [("states", 6), ("http-states", 6), ("processes", 4)])
def test_bounds(name: str, cells: int) -> None:
    """Each state of a connection or process has all its bounds, and an existing test."""
    text = page("docs/explanation/architecture.md")
    table = text[text.index(f"<!-- {name} -->") :].split("\n\n")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[3:]]
    assert len(rows) > 8
    for row in rows:
        assert len(row) == cells
        assert all(row), row
        file, _, test = row[-1].strip("`").partition("::")
        there = (ROOT / "tests" / file).read_text("utf-8")
        assert re.search(rf"^(async )?def {test}\(", there, re.MULTILINE), row[-1]


def test_threats() -> None:
    """Each threat has something that holds, and an existing test."""
    rows = re.findall(
        r"^\| (.+) \| (.+) \| `(.+)` \|$", page("docs/explanation/security.md"), re.MULTILINE
    )
    assert len(rows) > 40
    for _, _, named_test in rows:
        file, _, test = named_test.partition("::")
        there = (ROOT / "tests" / file).read_text("utf-8")
        assert re.search(rf"^(async )?def {test}\(", there, re.MULTILINE), named_test


def anchors(text: str) -> set[str]:
    """Return the anchors of headings, as GitHub generates them."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading).strip().lower() for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", TEXTS)
def test_links(name: str) -> None:
    """Every link of a page has a target."""
    path = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        if "benchmarks/" in target and not (ROOT / "benchmarks").exists():
            continue  # not in the sdist
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked.read_text("utf-8")), target


def command_options(command: click.Command) -> set[str]:
    options = command.get_params(click.Context(command, **command.context_settings))
    return {name for it in options if isinstance(it, click.Option) for name in it.opts}


DAEMON = {f"--{name.rstrip('=')}" for name in Options().longOpt}

TWISTD = {f"--{name.rstrip('=')}" for name in ServerOptions().longOpt} | {"-n"}

OURS = {
    "": command_options(program),
    "log": command_options(read_journal),
    "ping": command_options(ping),
    "watch": command_options(watch),
    "serve": DAEMON,
    "invite": command_options(invite),
    "token": command_options(token.commands["add"]),
}
"""The options of each command of this package."""

FOREIGN = {
    *("-N", "-q0", "-t5"),
    *("-nocommands", "--deploy-hook", "--fail", "--hook"),
    *("--install", "--limits", "--proxy", "--send-only", "--shrink", "--planted"),
}
"""Options of other programs that texts mention alone."""

PROGRAMS = {
    *(".ci/run", "cat", "cd", "chgrp", "chmod", "chown", "cp", "curl", "df", "dmesg", "du"),
    *(
        "echo",
        "export",
        "find",
        "getent",
        "git",
        "gnutls-cli",
        "grep",
        "iostat",
        "journalctl",
        "jq",
        "kill",
        "ls",
    ),
    *("lsattr", "lint-imports", "man", "mount", "mv", "mypy", "namei", "nc", "nc.traditional"),
    *("ncat", "openssl", "pip", "pipx", "ps", "pytest", "quota", "rm", "rsync", "ruff"),
    *("setfacl", "socat", "sphinx-build", "ss", "systemctl", "systemd-run", "tar", "top", "vmstat"),
}
"""Other programs that readers are asked to run."""


def simple_commands(line: str) -> Iterator[list[str]]:
    """The words of each command of a line, without variable assignments and redirections."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if re.fullmatch(r"[;|&()]+", word):
            while words and (re.match(r"\w+=", words[0]) or words[0] == "-"):
                del words[0]
            if words:
                yield words
            words = []
        else:
            words.append(word)


def options_in(words: list[str]) -> set[str]:
    return {word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}


def wrong_in(words: list[str]) -> set[str]:
    """Return the words of a command that do not exist."""
    name, rest = words[0].rpartition("/")[2], words[1:]
    if name == "systemd-run":
        return wrong_in(rest[rest.index("/opt/twisted-upload/bin/twistd") :])
    if name in ("python", "python3") and rest[:1] == ["-m"]:
        if rest[1] in ("venv", "build", "pytest"):
            return set()
        return set() if importlib.util.find_spec(rest[1]) else {rest[1]}
    if name in ("python", "python3"):
        return set()
    if name == "twistd":
        before = rest.index("upload")
        return (options_in(rest[:before]) - TWISTD) | (options_in(rest[before:]) - DAEMON)
    if name == "twisted-upload":
        command = rest[0] if rest and rest[0] in OURS else ""
        return options_in(rest) - OURS[command]
    return set() if name in PROGRAMS or words[0] in PROGRAMS else {name}


def test_wrong_commands_are_noticed() -> None:
    """The check of commands detects wrong ones."""
    for line, wrong in [
        ("twistd -n upload --prot 6666", {"--prot"}),
        ("twistd --daemon upload", {"--daemon"}),
        ("A=b .venv/bin/twisted-upload log x --size 3 | jq .", {"--size"}),
        ("echo x | twisted-upload - --jsno", {"--jsno"}),
        ("python -m twisted_upload.nothing", {"twisted_upload.nothing"}),
        ("true && jp .", {"true", "jp"}),
        ("nc -N host 6666 < file", set()),
    ]:
        assert {it for words in simple_commands(line) for it in wrong_in(words)} == wrong


def shell_lines(text: str) -> Iterator[str]:
    """Each line of a page that a reader may type in a shell."""
    for _, language, lines in fenced(text):
        if language in SHELL:
            for line in lines.splitlines():
                if language == "sh" or line.startswith("$ "):
                    yield line.removeprefix("$ ")


@pytest.mark.parametrize("name", TEXTS)
def test_commands(name: str) -> None:
    """Each command in a block exists, and those of this package have these options."""
    for line in shell_lines(TEXTS[name]):
        for words in simple_commands(line):
            assert not wrong_in(words), line


def spans(text: str) -> Iterator[str]:
    """Inline code in the text of a page."""
    text = re.sub(r"^ *```.*?^ *```$", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from (" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text))


@pytest.mark.parametrize("name", TEXTS)
def test_names(name: str) -> None:
    """Each option, command, variable, metric, module and file that a page names exists."""
    variables = {it.variable for it in (*OPTIONS, CONFIG)} | {
        f"TWISTED_UPLOAD_{name}" for name in ("TO", "TOKEN", "TOKEN_FILE", "CACERT")
    }
    metrics = {metric.name for metric in METRICS}
    everything = DAEMON | TWISTD | set().union(*OURS.values()) | FOREIGN
    for span in spans(TEXTS[name]):
        if re.match(r"(\.venv/bin/)?(twistd .*upload|twisted-upload) .*-", span):
            for words in simple_commands(re.sub(r"\[.*\]|\\", "", span)):
                assert not wrong_in(words), span
        if found := re.match(r"--?[a-zA-Z][\w-]*", span):
            assert found[0] in everything, span
        for variable in re.findall(r"\bTWISTED_UPLOAD_[A-Z_]+[A-Z]", span):
            assert variable in variables, span
        if re.fullmatch(r"twisted_upload_\w+", span):
            assert span in metrics, span
        if re.fullmatch(r"twisted_upload(\.\w+)+", span):
            assert named(span), span
        if re.fullmatch(r"(twisted_upload|tests|docs|benchmarks|\.ci)/[\w./-]+", span):
            assert (ROOT / span).exists() or not (ROOT / span.partition("/")[0]).exists(), span


def named(dotted: str) -> bool:
    """Whether a module, or an object in a module, has that name."""
    module, _, name = dotted.rpartition(".")
    if importlib.util.find_spec(module) is None:
        return False
    if hasattr(importlib.import_module(module), name):
        return True
    return importlib.util.find_spec(dotted) is not None


GUIDES, SITE = "test_guides.py::", "test_site.py::"
OBJECT_GUIDE = "test_object_store_guide.py::"
RECIPES, RECIPE_NAMES = "test_recipes.py::", ("ci", "cron", "card", "phone", "ping")
HTTP_GUIDE = "../system/test_http_guide.py::"

RUN = {
    "README.md": {
        "start": ".ci/run",
        "tests": ".ci/run",
        "api": "test_readme.py::test_python_program",
    },
    "CONTRIBUTING.md": {"site": f"{SITE}site"},
    "docs/guide/access.md": {
        "tokens": f"{GUIDES}test_tokens",
        "token-curl": f"{GUIDES}test_tokens",
        "invitations": f"{GUIDES}test_invitations",
        "invite": f"{GUIDES}test_invitations",
    },
    "docs/guide/configuration.md": {
        "configuration": f"{GUIDES}test_configuration",
        "print-config": f"{GUIDES}test_print_config",
        "check": f"{GUIDES}test_check",
    },
    "docs/guide/http.md": {
        "listen": f"{HTTP_GUIDE}test_command_of_the_daemon",
        "curl": f"{HTTP_GUIDE}test_curl",
        "digest": f"{HTTP_GUIDE}test_curl",
        "requests": f"{HTTP_GUIDE}test_python",
        "tuspy": f"{HTTP_GUIDE}test_python",
        "tus-js-client": f"{HTTP_GUIDE}test_tus_js_client",
    },
    "docs/guide/limits.md": {
        "allow": f"{GUIDES}test_command_of_the_daemon",
        "haproxy": f"{GUIDES}test_haproxy",
    },
    "docs/guide/object-store.md": {
        **dict.fromkeys(("access", "check", "store", "forward"), f"{OBJECT_GUIDE}test_commands"),
        "policy": f"{OBJECT_GUIDE}test_policy",
        "lifecycle": f"{OBJECT_GUIDE}test_lifecycle",
    },
    "docs/guide/on-upload.md": {"replay": f"{GUIDES}test_replay"},
    "docs/guide/fleet.md": {
        it: f"test_fleet_guide.py::test_{it}" for it in ("node", "unit", "haproxy", "try")
    },
    "docs/guide/proxies.md": dict.fromkeys(
        ("proxied", "nginx", "caddy", "haproxy-http"), "../system/test_http_proxies.py::test_whole"
    ),
    "docs/guide/python.md": {"errors": f"{GUIDES}test_errors_in_python"}
    | dict.fromkeys(("sync", "aio", "state"), f"{GUIDES}test_other_programs"),
    "docs/guide/senders.md": {
        "unix": f"{GUIDES}test_command_of_the_daemon",
        **{f"recipe-{it}": f"{RECIPES}test_{it}" for it in RECIPE_NAMES},
    },
    "docs/guide/start.md": {
        "send-curl": f"{GUIDES}test_first_upload_by_curl",
        "send-nc": f"{GUIDES}test_first_upload",
        "send": f"{GUIDES}test_first_upload",
        "ping": f"{GUIDES}test_ping",
    },
    "docs/guide/watch.md": {
        "watch": f"{GUIDES}test_watch",
        "watch-status": f"{GUIDES}test_watch",
        "watch-unit": f"{GUIDES}test_watch_unit",
    },
    "docs/guide/store.md": {
        "finished": f"{GUIDES}test_finished_file",
        "store": f"{GUIDES}test_custom_store",
    },
    "docs/operations/backup.md": {"backup": f"{GUIDES}test_backup"},
    "docs/operations/files.md": {
        "retention": f"{GUIDES}test_retention",
        "tmpfiles": f"{GUIDES}test_retention_by_systemd",
    },
    "docs/operations/logs.md": {
        "old-logs": f"{GUIDES}test_old_logs",
        "logrotate": f"{GUIDES}test_logrotate",
    },
    "docs/operations/runbook.md": {
        "replay-service": f"{GUIDES}test_replay",
        "forward-again": f"{OBJECT_GUIDE}test_forward_again",
    },
    "docs/reference/command.md": {"man": f"{GUIDES}test_manual_page"},
    "docs/reference/http.md": {"plain": f"{GUIDES}test_plain_uploads"},
    "docs/reference/metrics.md": {"share": f"{GUIDES}test_share"},
}
"""
What runs each block that has a marker, by page and marker.  In the other blocks,
`test_commands` checks each command and its options.
"""


def test_examples_are_run() -> None:
    """Each block with a marker is run by a test or by CI."""
    found: dict[str, set[str]] = {}
    for marker, name in markers():
        if marker not in ("tree", "states", "http-states", "processes"):  # compared with the source
            found.setdefault(name, set()).add(marker)
    assert found == {name: {*blocks} for name, blocks in RUN.items()}
    for name, blocks in RUN.items():
        for marker, runner in blocks.items():
            file, _, test = runner.partition("::")
            if test:
                source = (Path(__file__).parent / file).read_text("utf-8")
                assert f"def {test}(" in source
                assert f'"{marker}"' in source, f"{name}: {marker}"
            elif (ROOT / file).exists():
                assert f"$(readme {marker})" in (ROOT / file).read_text("utf-8")
