"""
A short version of the abuse proof: see ``tests/proofs/abuse`` for the full table.
"""

from __future__ import annotations

import pytest

from tests.proofs.abuse.rows import ROWS
from tests.proofs.rigs import SKIPPED
from tests.support.daemon import run_module

LONGER = ("one-address", "disk", "link", "places", "http-idle")
"""Rows that only the command runs: they take longer, or are much like others."""

SHORT = [row.name for row in ROWS if row.name not in LONGER]


@pytest.mark.parametrize("row", SHORT)
def test_abuse(row: str) -> None:
    """
    Whatever abuse there is, honest senders are served and lose nothing, nothing is left of
    it afterwards, and the log stays short.
    """
    done = run_module("tests.proofs.abuse", "--quick", f"--row={row}", timeout=50)
    if done.returncode == SKIPPED or "| skipped: " in done.stdout:
        pytest.skip(done.stdout.strip().splitlines()[-2])
    assert done.returncode == 0, done.stdout
    assert "the promise held" in done.stdout
