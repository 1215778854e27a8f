"""
The ``twisted-upload`` command for blocking tests, in another home than that of the tests.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.support.daemon import PATIENCE, deadly

__all__ = ["Command", "url_of"]

COMMAND = [sys.executable, "-m", "twisted_upload"]


class Command:
    """
    The command, in another home than that of the tests.

    :ivar state: the folder of what it remembers.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.state = folder / "state"

    def _options(self, variables: Mapping[str, str]) -> dict[str, Any]:
        known = {name: value for name, value in os.environ.items() if "TWISTED_UPLOAD" not in name}
        ours = {"XDG_STATE_HOME": str(self.state), "XDG_CONFIG_HOME": os.devnull}
        return {
            "cwd": self._folder,
            "env": {**known, **ours, "PYTHONUTF8": "1", **variables},
            "text": True,
        }

    def __call__(
        self, *words: str, stdin: bytes | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        options = self._options(variables)
        return subprocess.run(
            [*deadly(), *COMMAND, *words],
            capture_output=True,
            check=False,
            timeout=PATIENCE,
            input=None if stdin is None else stdin.decode(),
            **options,
        )

    @contextlib.contextmanager
    def start(self, *words: str) -> Iterator[subprocess.Popen[str]]:
        """Start it, and end it."""
        process = subprocess.Popen(
            [*deadly(), *COMMAND, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **self._options({}),
        )
        with process:
            try:
                yield process
            finally:
                process.kill()


def url_of(port: int) -> str:
    """Return the URL of a daemon on this machine."""
    return f"http://127.0.0.1:{port}/"
