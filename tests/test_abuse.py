"""
The table of abuse, in short: see ``tests/abuse`` for all of it.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.abuse.rows import ROWS
from tests.daemon import deadly
from tests.durability.rigs import SKIPPED

LONGER = ("one-address", "disk", "link", "places")
"""Rows that are left to the command: they take longer, or others are much like them."""

OPEN = ("urgent", "reserve", "stopped", "stuck")

SHORT = [row.name for row in ROWS if row.name not in LONGER]


@pytest.mark.parametrize("row", SHORT)
def test_abuse(row: str) -> None:
    """
    Whatever is done to the daemon, honest senders are served and lose nothing,
    nothing is left of it afterwards, and the log stays short.
    """
    done = subprocess.run(
        [*deadly(), sys.executable, "-m", "tests.abuse", "--quick", f"--row={row}"],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=50,
    )
    print(done.stdout)
    if done.returncode == SKIPPED or "| skipped: " in done.stdout:
        pytest.skip(done.stdout.strip().splitlines()[-2])
    assert done.returncode == 0, done.stdout
    assert "the promise held" in done.stdout
