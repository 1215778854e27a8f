"""
The pages about the architecture, compared with the code.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.support import ROOT

if not (ROOT / "docs").exists() or not (ROOT / "twisted_upload").exists():
    pytest.skip("the pages are not beside the code", allow_module_level=True)

TREE = (ROOT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
LIFE = (ROOT / "docs" / "explanation" / "life-of-an-upload.md").read_text("utf-8")

ROOM_LINE = re.compile(r"( *)(\S+?)(/?) {2,}(\S.*)")


def _documented() -> dict[str, str]:
    """Return the text for each path in the tree; folders end with a slash."""
    (tree,) = re.findall(r"<!-- tree -->\n```\n(.*?)```\n", TREE, re.DOTALL)
    found: dict[str, str] = {}
    folders: list[str] = []
    for line in tree.splitlines():
        match = ROOM_LINE.fullmatch(line) or re.fullmatch(r"( *)(\S+)(/)()", line)
        assert match is not None, line
        indent, name, slash, text = match.groups()
        depth, rest = divmod(len(indent), 2)
        assert not rest, line
        del folders[depth:]
        path = "".join(f"{it}/" for it in [*folders, name])
        path = path if slash else path[:-1]
        assert path not in found, path
        found[path] = text
        if slash:
            folders.append(name)
    return found


def _real() -> Iterator[str]:
    """The paths that the tree must have: all files of the package and all folders of tests."""
    package = ROOT / "twisted_upload"
    for path in package.rglob("*.py"):
        if path.name != "__init__.py" or path.stat().st_size:
            yield str(path.relative_to(ROOT))
            yield from (
                f"{it.relative_to(ROOT)}/" for it in path.parents if it.is_relative_to(package)
            )
    yield "twisted_upload/share/"
    for path in (package / "share").iterdir():
        yield f"{path.relative_to(ROOT)}/" if path.is_dir() else str(path.relative_to(ROOT))
    rooms = {it.name for it in package.iterdir()}
    for path in (ROOT / "tests").iterdir():
        if (path / "__init__.py").exists() and path.name not in rooms:
            yield f"{path.relative_to(ROOT)}/"
    yield from ("tests/", "docs/", "docs/man/", "docs/site/", "benchmarks/", "twisted/plugins/")


def test_tree() -> None:
    """Every file of the package has a line in the tree, and every line has a file."""
    documented, real = {*_documented()}, {*_real()}
    assert (sorted(real - documented), sorted(documented - real)) == ([], [])


def test_tests_mirror_the_rooms() -> None:
    """Each folder of tests is that of a room, or has a separate line."""
    package = ROOT / "twisted_upload"
    for path in (ROOT / "tests").rglob("__init__.py"):
        folder = path.parent.relative_to(ROOT / "tests")
        if folder.parts and f"tests/{folder.parts[0]}/" not in _documented():
            assert (package / folder / "__init__.py").exists(), folder


def test_lines() -> None:
    """Each line is unique, and short enough."""
    texts = [text for text in _documented().values() if text]
    assert len({*texts}) == len(texts)
    assert all(not text.endswith(".") for text in texts)
    (tree,) = re.findall(r"<!-- tree -->\n```\n(.*?)```\n", TREE, re.DOTALL)
    assert max(map(len, tree.splitlines())) <= 100


def _lives() -> dict[str, list[str]]:
    """The steps of each kind of upload, by the title of its list."""
    found = {}
    for section in re.split(r"^## ", LIFE, flags=re.MULTILINE)[1:]:
        title = section.splitlines()[0]
        steps = re.findall(r"^\d+\. (.*?)(?=^\d+\. |^\S|\Z)", section, re.MULTILINE | re.DOTALL)
        if steps:
            found[title] = steps
    return found


LIVES = _lives()


def test_lives() -> None:
    """There are four, each has at most twelve steps, and none returns to a file."""
    assert len(LIVES) == 4
    for steps in LIVES.values():
        assert 5 <= len(steps) <= 12
        files = [re.match(r"\*\*`(\S+\.py)`\*\*", step) for step in steps]
        assert None not in files
        assert len({match[1] for match in files if match}) == len(steps)


def _resolves(name: str, module: ModuleType) -> bool:
    it: object = module
    for part in name.split("."):
        if not hasattr(it, part):
            return False
        it = getattr(it, part)
    return True


@pytest.mark.parametrize(
    "step", [pytest.param(it, id=it.split("`")[1]) for steps in LIVES.values() for it in steps]
)
def test_names_in_lives(step: str) -> None:
    """Each file in a step exists, and each name in the step is defined in one of them."""
    spans = re.findall(r"`([^`]+)`", step)
    modules = [
        importlib.import_module(f"twisted_upload.{it[:-3].replace('/', '.')}")
        for it in spans
        if it.endswith(".py")
    ]
    names = [it for it in spans if re.fullmatch(r"[A-Za-z_][\w.]*", it) and not it.endswith(".py")]
    assert names
    for name in names:
        assert any(_resolves(name, module) for module in modules), name
