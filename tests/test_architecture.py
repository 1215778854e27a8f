"""
Who may know whom.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import twisted_upload

PACKAGE = Path(twisted_upload.__file__).parent

STORES = {
    *(
        "directory",
        "disk",
        "folder",
        "health",
        "incoming",
        "group_commit",
        "keeping",
        "name_record",
        "partial",
        "space",
    ),
    *("aio", "files", "new_folders", "pipes", "private", "timing"),
    *("hook_command", "hook_log", "hook_owners", "hook_queue", "hook_strays", "hooks"),
    *("marker_facts", "markers"),
    "memory",
}

DOORS = {
    *("connections", "doorstep", "eager", "ending", "handover", "listening", "parting"),
    *("raw", "sender", "sender_base", "settings", "terms", "whole"),
    *("admission", "gate", "refusals", "turned_away", "ports"),
}

CLIENT = {"client", "connecting", "digest", "sendfile", "sending", "source"}

JOURNAL = {"journal", "journal_files", "journal_opening", "journal_reading"}

# Imports run one way: from a later row to earlier ones, or within its own.
ROWS: list[set[str]] = [
    {
        *(
            "clock",
            "errors",
            "garbage",
            "hook_starter",
            "interrupts",
            "links",
            "log_file",
            "log_writer",
        ),
        *("printable", "roff", "signatures", "streams", "suffixes", "text_kinds", "version"),
        *("tls_failures", "tls_records", "transitions", "validity"),
    },
    {"interfaces", "units", "addresses", "networks", "descriptors", "spare", "unread"},
    {
        *("names", "answers", "lifecycle", "limits", "ends", "proxy"),
        *("metrics", "tally", "lag", "records", "certificates"),
    },
    {"tls", "tls_endpoints"},
    STORES | DOORS | CLIENT | JOURNAL,
    {"systemd", "signals", "notifying"},
    {
        "probe",
        "testing",
        "logs",
        "facing",
        "binding",
        "service",
        "destination",
        "batch",
        "display",
        "resolver",
        "__init__",
    },
    {"running"},
    {"reporting", "exposition", "status", "gathering", "expiry", "http_request"},
    {"values"},
    {"options", "journal_command", "command_options"},
    {"pinging", "ping_command", "transfer"},
    {"layers", "worker_process", "workers"},
    {"configuration"},
    {"building", "mounts", "pid_file", "toml_text", "trial", "users"},
    {"check", "reloading"},
    {"management"},
    {"tap", "worker", "systemd_units"},
    {"serving"},
    {"command"},
    {"entry"},
    {"__main__", "manual"},
]


def _modules() -> dict[str, ast.Module]:
    return {
        path.stem: ast.parse(path.read_text("utf-8"), str(path)) for path in PACKAGE.glob("*.py")
    }


MODULES = _modules()


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Module and name of everything that is imported anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            for alias in node.names:
                yield node.module or "", alias.name


def _ours(tree: ast.AST) -> set[str]:
    """The modules of ours that are imported anywhere."""
    ours = set()
    for module, name in _imports(tree):
        package, _, rest = module.partition(".")
        if package == "twisted_upload":
            ours.add(rest or (name if name in MODULES else "__init__"))
    return ours


def _row(module: str) -> int:
    for number, row in enumerate(ROWS):
        if module in row:
            return number
    raise AssertionError(f"{module}.py has no place in the plan: say which")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_run_one_way(module: str) -> None:
    """A module knows those of earlier rows, and those of its own, and none of later ones."""
    for imported in _ours(MODULES[module]):
        assert _row(imported) <= _row(module), f"{module} imports {imported}"


@pytest.mark.parametrize(
    ("ones", "others"),
    [(DOORS, STORES), (STORES, DOORS), (CLIENT, STORES | DOORS), (STORES | DOORS, CLIENT)],
    ids=["doors", "stores", "client", "servers"],
)
def test_strangers(ones: set[str], others: set[str]) -> None:
    """Doors, stores and the client do not know each other."""
    for module in ones & MODULES.keys():
        assert not _ours(MODULES[module]) & others, module


@pytest.mark.parametrize(
    "module", ["lifecycle", "names", "answers", "errors", "interfaces", "units", "metrics"]
)
def test_the_core_meets_no_world(module: str) -> None:
    """What an upload is, is told without sockets, files, clocks or threads."""
    worldly = {"socket", "os", "time", "threading", "io", "pathlib", "twisted.internet.reactor"}
    assert not {imported for imported, _ in _imports(MODULES[module])} & worldly


@pytest.mark.parametrize(
    "module",
    [
        *(
            "partial",
            "keeping",
            "folder",
            "files",
            "aio",
            "new_folders",
            "pipes",
            "names",
            "private",
        ),
        *("markers", "hook_owners", "hook_queue", "hook_command", "hook_starter", "hook_strays"),
        "marker_facts",
        *("timing", "tally"),
    ],
)
def test_disk_threads_meet_no_reactor(module: str) -> None:
    """What runs in a disk thread knows nothing of Twisted's sockets and transports."""
    for imported, name in _imports(MODULES[module]):
        assert imported != "twisted.internet.protocol", module
        assert (imported, name) != ("twisted.internet", "reactor"), module


@pytest.mark.parametrize(
    "module", ["tls", "tls_endpoints", "tls_failures", "tls_records", "certificates", "validity"]
)
def test_tls_by_public_names(module: str) -> None:
    """TLS is made of what Twisted and Python promise: no private name but our own."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Attribute) and re.match(r"_(?!_init__)", node.attr):
            assert isinstance(node.value, ast.Name), node.attr
            assert node.value.id == "self", node.attr
        elif isinstance(node, ast.ImportFrom):
            assert not any(alias.name.startswith("_") for alias in node.names)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_level_reactor(module: str) -> None:
    """A reactor is handed in, or chosen when the program runs: never by an import."""

    def outside(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                yield child
                yield from outside(child)

    for node in outside(MODULES[module]):
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            assert "twisted.internet.reactor" not in names
            assert node.module != "twisted.internet.reactor"
        elif isinstance(node, ast.Import):
            assert "twisted.internet.reactor" not in {alias.name for alias in node.names}


def test_every_reactor_is_monotonic() -> None:
    """Whoever fetches the reactor of a process of ours gives it a clock that nobody can set."""
    for module, tree in MODULES.items():
        names = {*_imports(tree)}
        if ("twisted.internet", "reactor") in names and module != "client":  # its caller's
            assert ("twisted_upload.clock", "use_monotonic_time") in names, module


def test_only_the_page_knows_prometheus() -> None:
    """Counting, and everything else, works without its library."""
    for module, tree in MODULES.items():
        known = {imported.partition(".")[0] for imported, _ in _imports(tree)}
        assert ("prometheus_client" in known) == (module == "exposition"), module


def test_plugin_folders_are_no_packages() -> None:
    """An ``__init__.py`` in ``twisted/`` would hide Twisted itself."""
    root = PACKAGE.parent
    assert not (root / "twisted" / "__init__.py").exists() or (root / "twisted" / "web").exists()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_public_names_exist(module: str) -> None:
    """What a module says it offers, it has, in the order of the alphabet."""
    for node in MODULES[module].body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = ast.literal_eval(node.value)
            assert len(set(names)) == len(names)
            imported = __import__(f"twisted_upload.{module}", fromlist=["*"])
            assert all(hasattr(imported, name) for name in names)
