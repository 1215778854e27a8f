"""
The table of abuse, in short: see ``tests/abuse`` for all of it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.abuse.rows import ROWS
from tests.daemon import deadly

LONGER = ("one-address", "disk", "link", "places")
"""Rows that are left to the command: they take longer, or others are much like them."""

SHORT = [row.name for row in ROWS if row.name not in LONGER]


def test_abuse() -> None:
    """
    Whatever is done to the daemon, honest senders are served and lose nothing,
    nothing is left of it afterwards, and the log stays short.
    """
    root = Path(__file__).parents[1]
    command = [*deadly(), sys.executable, "-m", "tests.abuse", "--quick"]
    running = [
        subprocess.Popen(
            [*command, *(f"--row={name}" for name in SHORT[half::2])],
            cwd=root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for half in range(2)
    ]
    try:
        for process in running:
            said, _ = process.communicate(timeout=50)
            print(said)
            assert process.returncode == 0, said
            assert "the promise held" in said
    finally:
        for process in running:
            process.kill()
            process.communicate()
