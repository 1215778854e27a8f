"""
The distributions: the wheel and the sdist.
"""

from __future__ import annotations

import ast
import email
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from docs.man.generate import PAGES, path_of
from tests.support import ROOT
from twisted_upload.version import VERSION

PLUGIN = "twisted/plugins/twisted_upload_plugin.py"


@dataclass
class Built:
    wheel: Path
    sdist: Path

    def in_wheel(self) -> set[str]:
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())

    def in_sdist(self) -> set[str]:
        with tarfile.open(self.sdist) as archive:
            return {name.partition("/")[2] for name in archive.getnames()}

    def read(self, ending: str) -> str:
        """A file of the wheel's dist-info."""
        with zipfile.ZipFile(self.wheel) as archive:
            (name,) = [n for n in archive.namelist() if n.endswith(f".dist-info/{ending}")]
            return archive.read(name).decode()


def importable(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The sdist of the sources, and the wheel that is built from that sdist."""
    if not (ROOT / "twisted_upload").exists():
        pytest.skip("needs the source folder")
    if not importable("hatchling") or not importable("build"):
        pytest.skip("needs hatchling and build: pip install '.[dev]'")
    folder = tmp_path_factory.mktemp("dist")
    result = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = folder.glob("*.whl")
    (sdist,) = folder.glob("*.tar.gz")
    return Built(wheel, sdist)


def modules() -> set[str]:
    """Return every file of the package that belongs in a distribution."""
    package = ROOT / "twisted_upload"
    return {
        str(path.relative_to(ROOT))
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_complete(built: Built) -> None:
    """Wheel and sdist have every module, the py.typed marker and the plugin."""
    wanted = modules() | {PLUGIN}
    assert "twisted_upload/py.typed" in wanted
    assert wanted <= built.in_wheel()
    assert wanted <= built.in_sdist()


def test_wheel_has_nothing_else(built: Built) -> None:
    """The wheel has the package, the plugin, the manual pages and metadata, and nothing else."""
    inside = {name for name in built.in_wheel() if ".dist-info/" not in name}
    assert {name for name in inside if ".data/" not in name} == modules() | {PLUGIN}


def test_manual_pages_are_found(built: Built) -> None:
    """The wheel installs the manual pages where man(1) finds those of programs on the PATH."""
    prefix = f"{built.wheel.name.partition('-py3')[0]}.data/data/share/man/"
    data = {name for name in built.in_wheel() if ".data/" in name}
    assert data == {f"{prefix}{path_of(name)}" for name in PAGES}


def test_sdist_can_be_tested(built: Built) -> None:
    """The sdist has what is needed to build it and to run its tests, and the documentation."""
    wanted = {"pyproject.toml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("*.py")}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert wanted <= built.in_sdist()


@pytest.mark.parametrize("folder", ["twisted", "twisted/plugins"])
def test_twisted_is_not_shadowed(built: Built, folder: str) -> None:
    """No __init__.py is beside the plugin: it would hide Twisted itself."""
    forbidden = f"{folder}/__init__.py"
    assert forbidden not in built.in_wheel()
    assert forbidden not in built.in_sdist()
    assert not (ROOT / forbidden).exists()


def test_no_rubbish(built: Built) -> None:
    """Neither has compiled files or the cache that Twisted writes beside the plugin."""
    for name in built.in_wheel() | built.in_sdist():
        assert not re.search(r"__pycache__|\.pyc$|dropin\.cache|\.orig$|twistd\.(log|pid)", name)


def test_commands(built: Built) -> None:
    """The wheel installs the command twisted-upload, and python -m twisted_upload works."""
    assert "twisted-upload = twisted_upload.cli.entry:main" in built.read("entry_points.txt")
    assert "twisted_upload/__main__.py" in built.in_wheel()


def test_version(built: Built) -> None:
    """File names, metadata, installation and change log have one version."""
    metadata = email.message_from_string(built.read("METADATA"))
    version = metadata["Version"]
    assert built.wheel.name == f"twisted_upload-{version}-py3-none-any.whl"
    assert built.sdist.name == f"twisted_upload-{version}.tar.gz"
    assert importlib.metadata.version("twisted-upload") == VERSION == version
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(rf"^## \[?(Unreleased|{re.escape(version)})\b", changes, re.MULTILINE)
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"


def test_wheel_works(built: Built, tmp_path: Path) -> None:
    """From the wheel alone, twistd has `upload`, and Twisted is not shadowed."""
    with zipfile.ZipFile(built.wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import twisted, twisted.plugins, twisted_upload, twisted.plugins.twisted_upload_plugin\n"
        "from twisted.application.service import IServiceMaker\n"
        "from twisted.plugin import getPlugins\n"
        "print(twisted_upload.__file__)\n"
        "print(twisted.plugins.twisted_upload_plugin.__file__)\n"
        "print(twisted.__file__)\n"
        "print([p.tapname for p in getPlugins(IServiceMaker)].count('upload'))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    ours, plugin, theirs, count = [*result.stdout.splitlines(), "", "", "", ""][:4]
    assert ours == str(tmp_path / "twisted_upload" / "__init__.py"), result.stderr
    assert plugin == str(tmp_path / PLUGIN)
    assert not theirs.startswith(str(tmp_path))
    assert count == "1"


def imported(folder: str, without: str = "") -> set[str]:
    """
    Return the third-party top-level modules that the files in a folder import.

    :param without: a folder in it whose files do not count.
    """
    paths = [
        path
        for path in (ROOT / folder).rglob("*.py")
        if not (without and path.is_relative_to(ROOT / folder / without))
    ]
    trees = (ast.parse(path.read_text("utf-8")) for path in paths)
    names = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module or "")
    tops = {name.partition(".")[0] for name in names}
    return tops - sys.stdlib_module_names - {"twisted_upload", "tests", "benchmarks", "docs"}


def declared(*extras: str) -> set[str]:
    """Return the modules of the dependencies in pyproject.toml, with the given extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [*project["dependencies"]]
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    names = {line.partition(">=")[0].replace("-", "_").lower() for line in lines}
    others = {"zope.interface": "zope", "pyyaml": "yaml", "tuspy": "tusclient"}
    return {others.get(name, name) for name in names}


@pytest.mark.skipif(not (ROOT / "twisted_upload").exists(), reason="needs the source folder")
def test_declared() -> None:
    """Every imported module is declared, and does not rely on indirect dependencies."""
    without_s3 = imported("twisted_upload", without="stores/s3")
    assert without_s3 <= declared()
    assert imported("twisted_upload") <= declared("s3")
    assert imported("tests") <= declared("test", "s3")


@pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="needs the source folder")
def test_lowest_versions() -> None:
    """Each dependency has a lowest version, which is the one that CI tests."""
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci/lowest.py"), "test"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"([\w.-]+==[\w.]+\n)+", done.stdout)
