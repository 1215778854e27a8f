"""
Commands that use no network, run to their end.
"""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from tests.support.daemon import PATIENCE, deadly

__all__ = ["PROGRAM", "errors_of", "run_on_terminal", "run_program"]

PROGRAM = (sys.executable, "-m", "twisted_upload")


def _environment(env: Mapping[str, str], columns: int) -> dict[str, str]:
    without = ("LINES", "NO_COLOR", "FORCE_COLOR")
    ours = {name: value for name, value in os.environ.items() if name not in without}
    return {**ours, "PYTHONUTF8": "1", "TERM": "xterm", "COLUMNS": str(columns), **env}


def run_program(
    *arguments: str | os.PathLike[str], env: Mapping[str, str] | None = None, **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run the command; collect what it writes."""
    return subprocess.run(
        [*deadly(), *PROGRAM, *map(str, arguments)],
        env=_environment(env or {}, 90),
        check=False,
        timeout=PATIENCE,
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **more},
    )


def run_on_terminal(*arguments: str | os.PathLike[str], columns: int = 90) -> str:
    """Run the command on a terminal; return everything that it shows."""
    ours, its = pty.openpty()
    command = [*deadly(), *PROGRAM, *map(str, arguments)]
    with subprocess.Popen(
        command, env=_environment({}, columns), stdin=its, stdout=its, stderr=its
    ):
        os.close(its)
        shown = b""
        try:
            while data := os.read(ours, 65536):
                shown += data
        except OSError:  # how Linux reports that no process has the terminal open
            pass
    os.close(ours)
    return shown.decode()


def errors_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the lines on standard error, without the name of the program."""
    return [line.removeprefix("twisted-upload: ") for line in done.stderr.splitlines()]
