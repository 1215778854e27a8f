"""
The import rules of the package and its tests.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import twisted_upload
from tests.support import ROOT

PACKAGE = Path(twisted_upload.__file__).parent


def _modules() -> dict[str, ast.Module]:
    """Return each module by its name in the package: ``net.ports``; a room: ``net``."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text("utf-8"), str(path))
    assert len(found) > 100
    return found


MODULES = _modules()


def _imports(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Module and name of every import, at any level."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            for alias in node.names:
                yield node.module or "", alias.name


IMPURE = {"core.garbage", "core.outcome"}
"""Exceptions: the first concerns the whole process, the second logs durations."""

REACTOR = ("twisted.internet", "reactor")
MONOTONIC = ("twisted_upload.net.clock", "use_monotonic_time")


@pytest.mark.parametrize(
    "module",
    [
        *(name for name in MODULES if name.startswith("core.") and name not in IMPURE),
        *("errors", "interfaces", "observability.metrics"),
    ],
)
def test_core_is_pure(module: str) -> None:
    """The core uses neither sockets nor files, clocks or threads."""
    impure = {"socket", "os", "time", "threading", "io", "pathlib", "twisted.internet.reactor"}
    assert not {imported for imported, _ in _imports(MODULES[module])} & impure


@pytest.mark.parametrize(
    "module",
    [
        *("disk.aio", "disk.files", "disk.folders", "disk.owners"),
        *("disk.timed_files", "observability.counters", "core.names"),
        *("stores.directory.partial_file", "stores.directory.socket_reader"),
        *("stores.directory.commit_batch", "stores.directory.name_record"),
        "stores.directory.folder",
        *("hooks.command", "hooks.marker", "hooks.orphans"),
        *("hooks.hook_spawner", "hooks.spool", "hooks.spool_scan"),
    ],
)
def test_disk_threads_do_not_use_the_reactor(module: str) -> None:
    """Code that runs in disk threads imports neither Twisted's protocols nor the reactor."""
    for imported, name in _imports(MODULES[module]):
        assert imported != "twisted.internet.protocol", module
        assert (imported, name) != REACTOR, module


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("net.tls.")))
def test_tls_by_public_names(module: str) -> None:
    """TLS uses only public names of Twisted and Python; private names only of self."""
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Attribute) and re.match(r"_(?!_init__)", node.attr):
            assert isinstance(node.value, ast.Name), node.attr
            assert node.value.id == "self", node.attr
        elif isinstance(node, ast.ImportFrom):
            assert not any(alias.name.startswith("_") for alias in node.names)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_level_reactor(module: str) -> None:
    """A reactor is passed in, or imported when the program runs, never at module level."""

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
    """Every module that imports the reactor gives it a monotonic clock."""
    found = {module: {*_imports(tree)} for module, tree in MODULES.items()}
    # The client's caller chooses its reactor.
    fetching = {name for name, imports in found.items() if REACTOR in imports} - {"client.upload"}
    assert fetching
    assert {name for name in fetching if MONOTONIC not in found[name]} == set()


def test_only_the_page_imports_prometheus() -> None:
    """All other modules work without the Prometheus library."""
    for module, tree in MODULES.items():
        known = {imported.partition(".")[0] for imported, _ in _imports(tree)}
        assert ("prometheus_client" in known) == (module == "observability.prometheus"), module


def test_plugin_folders_are_not_packages() -> None:
    """An ``__init__.py`` in ``twisted/`` would hide Twisted itself."""
    root = PACKAGE.parent
    assert not (root / "twisted" / "__init__.py").exists() or (root / "twisted" / "web").exists()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_public_names_exist(module: str) -> None:
    """Every name in ``__all__`` exists, and is there once."""
    for node in MODULES[module].body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            names = ast.literal_eval(node.value)
            assert len(set(names)) == len(names)
            imported = __import__(f"twisted_upload.{module}", fromlist=["*"])
            assert all(hasattr(imported, name) for name in names)


TESTS = ROOT / "tests"

MOST_LINES = 500
"""The limit for a test module: a longer one tests several things."""

each_test_module = pytest.mark.parametrize(
    "path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS))
)


@each_test_module
def test_no_test_imports_another(path: Path) -> None:
    """Tests share code in ``tests/support`` or ``conftest.py``; programs in strings count too."""
    text = path.read_text("utf-8")
    assert not re.search(r"^\s*(from|import) tests\.[\w.]*\btest_", text, re.MULTILINE)
    assert not re.search(r"^\s*from tests\.[\w.]+ import .*\btest_", text, re.MULTILINE)


@each_test_module
def test_test_modules_are_short(path: Path) -> None:
    """A test module tests one thing."""
    assert path.read_text("utf-8").count("\n") <= MOST_LINES
