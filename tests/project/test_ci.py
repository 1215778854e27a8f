"""
What CI runs exists.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support import ROOT

pytestmark = pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="needs the source folder")


def quick(*names: str) -> list[str]:
    """Return the arguments for pytest: the whole quick part, or that of some files."""
    command = [sys.executable, str(ROOT / ".ci" / "quick.py"), *names]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_quick_part() -> None:
    """Each test that the quick part includes or excludes exists."""
    single = [it.removeprefix("--deselect=") for it in quick() if "::" in it]
    assert len(single) > 20
    for argument in single:
        path, _, name = argument.partition("::")
        function = name.partition("[")[0]
        text = (ROOT / path).read_text("utf-8")
        assert re.search(rf"^((async )?def|class) {function}\b", text, re.MULTILINE), argument


def test_files_for_the_wheel() -> None:
    """The test files that are run against the built wheel exist."""
    text = (ROOT / ".ci" / "run").read_text("utf-8")
    (words,) = re.findall(r"< <\(python3 \.ci/quick\.py ([^)]*)\)", text)
    expanded = subprocess.run(["bash", "-c", f"echo {words}"], capture_output=True, check=True)
    names = expanded.stdout.decode().split()
    assert len(names) > 10
    assert [it for it in quick(*names) if not it.startswith("--deselect=")]
