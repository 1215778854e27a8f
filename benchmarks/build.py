"""Compiles the C and Java parts when they are first needed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from .errors import UnavailableError

HERE = Path(__file__).parent


class Toolbox:
    """Compiled programs, each built once per run into `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def program(self, name: str) -> str:
        """Return the path of the program compiled from `c/NAME.c`."""
        return self._compile(HERE / "c" / f"{name}.c", self.directory / name, ["-pthread"])

    def library(self, name: str) -> str:
        """Return the path of the shared library compiled from `c/NAME.c`."""
        return self._compile(
            HERE / "c" / f"{name}.c", self.directory / f"{name}.so", ["-shared", "-fPIC"]
        )

    def _compile(self, source: Path, target: Path, options: list[str]) -> str:
        if not target.exists():
            run([command("cc"), "-O2", "-Wall", *options, "-o", str(target), str(source)])
        return str(target)

    def java(self, name: str) -> list[str]:
        """Return the command that runs the class compiled from `java/NAME.java`."""
        java, javac = command("java"), command("javac")
        if not (self.directory / f"{name}.class").exists():
            source = HERE / "java" / f"{name}.java"
            run([javac, "-encoding", "UTF-8", "-d", str(self.directory), str(source)])
        return [java, "-cp", str(self.directory), name]


def command(name: str) -> str:
    """Return the path of an installed command; raises `UnavailableError` if there is none."""
    found = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    if found is None:
        raise UnavailableError(f"{name} is not installed")
    return found


def run(arguments: list[str]) -> str:
    """Run a command to its end and return its output; raises `UnavailableError` if it fails."""
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or [
            f"exit status {done.returncode}"
        ]
        raise UnavailableError(f"{Path(arguments[0]).name}: {lines[-1]}")
    return done.stdout
