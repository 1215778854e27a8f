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
from tests.support import ROOT

PACKAGE = Path(twisted_upload.__file__).parent


def _modules() -> dict[str, ast.Module]:
    """Each module of the package, by its name in it: ``net.ports``; a room by its own: ``net``."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text("utf-8"), str(path))
    assert len(found) > 100
    return found


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


WORLDLY = {"core.garbage", "core.outcome"}
"""What is of the whole process, and what writes a line with its time."""


@pytest.mark.parametrize(
    "module",
    [
        *(name for name in MODULES if name.startswith("core.") and name not in WORLDLY),
        *("errors", "interfaces", "observability.metrics"),
    ],
)
def test_the_core_meets_no_world(module: str) -> None:
    """What an upload is, is told without sockets, files, clocks or threads."""
    worldly = {"socket", "os", "time", "threading", "io", "pathlib", "twisted.internet.reactor"}
    assert not {imported for imported, _ in _imports(MODULES[module])} & worldly


@pytest.mark.parametrize(
    "module",
    [
        *("disk.aio", "disk.files", "disk.folders"),
        *("disk.timed_files", "observability.counters", "core.names"),
        *("stores.directory.partial_file", "stores.directory.socket_reader"),
        *("stores.directory.commit_batch", "stores.directory.name_record"),
        "stores.directory.folder",
        *("hooks.command", "hooks.marker", "hooks.orphans"),
        *("hooks.owners", "hooks.hook_spawner", "hooks.spool", "hooks.spool_scan"),
    ],
)
def test_disk_threads_meet_no_reactor(module: str) -> None:
    """What runs in a disk thread knows nothing of Twisted's sockets and transports."""
    for imported, name in _imports(MODULES[module]):
        assert imported != "twisted.internet.protocol", module
        assert (imported, name) != ("twisted.internet", "reactor"), module


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("net.tls.")))
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
        if ("twisted.internet", "reactor") in names and module != "client.upload":  # its caller's
            assert ("twisted_upload.net.clock", "use_monotonic_time") in names, module


def test_only_the_page_knows_prometheus() -> None:
    """Counting, and everything else, works without its library."""
    for module, tree in MODULES.items():
        known = {imported.partition(".")[0] for imported, _ in _imports(tree)}
        assert ("prometheus_client" in known) == (module == "observability.prometheus"), module


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


TESTS = ROOT / "tests"

MOST_LINES = 500
"""Of a test module: a longer one is about several things."""

each_test_module = pytest.mark.parametrize(
    "path", sorted(TESTS.rglob("*.py")), ids=lambda path: str(path.relative_to(TESTS))
)


@each_test_module
def test_no_test_imports_another(path: Path) -> None:
    """What tests share is in ``tests/support`` or a ``conftest.py``; programs in strings count."""
    text = path.read_text("utf-8")
    assert not re.search(r"^\s*(from|import) tests\.[\w.]*\btest_", text, re.MULTILINE)
    assert not re.search(r"^\s*from tests\.[\w.]+ import .*\btest_", text, re.MULTILINE)


@each_test_module
def test_test_modules_are_short(path: Path) -> None:
    """A test module is about one thing."""
    assert path.read_text("utf-8").count("\n") <= MOST_LINES
