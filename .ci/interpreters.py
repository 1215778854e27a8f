"""
Print the paths of this machine's interpreters that the package supports, one per line,
oldest version first: from the PATH and from pyenv.
"""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"

NAME = "Programming Language :: Python :: "


def supported() -> list[str]:
    """Return the declared versions, such as 3.11, in order."""
    classifiers = tomllib.loads(PYPROJECT.read_text())["project"]["classifiers"]
    return [line.removeprefix(NAME) for line in classifiers if re.search(rf"{NAME}\d\.\d", line)]


def of_pyenv(version: str) -> Iterator[str]:
    """Yield pyenv's interpreters; on the PATH there may be only a shim that refuses to run."""
    if shutil.which("pyenv"):
        root = subprocess.check_output(["pyenv", "root"], text=True).strip()
        for path in sorted(Path(root, "versions").glob(f"{version}.*/bin/python{version}")):
            yield str(path)


def works(python: str, version: str) -> bool:
    """Return whether it has that version, and can create virtual environments."""
    code = "import ensurepip, ssl, sys, venv; print('%d.%d' % sys.version_info[:2])"
    with contextlib.suppress(OSError):
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, check=False, cwd=os.sep
        )
        return done.stdout.strip() == version
    return False


for version in supported():
    found = [sys.executable, shutil.which(f"python{version}") or "", *of_pyenv(version)]
    working = (python for python in found if python and works(python, version))
    if python := next(working, None):
        print(python)
    else:
        print(f"no Python {version} here: it is not tested", file=sys.stderr)
