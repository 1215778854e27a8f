"""
Folders of ours inside a drop folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from twisted_upload.private import open_private
from twisted_upload.testing import FaultyFiles


@pytest.fixture
def above(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_created_durably(above: int, tmp_path: Path) -> None:
    """It is created once, for us alone, and the folder above is synced then."""
    files = FaultyFiles()
    for _ in range(2):
        os.close(open_private(above, ".ours", files))
    assert stat.S_IMODE((tmp_path / ".ours").stat().st_mode) == 0o700
    assert files.calls["fsync"] == 1


def test_closed_to_others(above: int, tmp_path: Path) -> None:
    """One that others can look into is closed to them."""
    (tmp_path / ".ours").mkdir(mode=0o755)
    os.close(open_private(above, ".ours", FaultyFiles()))
    assert stat.S_IMODE((tmp_path / ".ours").stat().st_mode) == 0o700


def test_no_link(above: int, tmp_path: Path) -> None:
    """A symbolic link, or a file, is not taken for it."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".ours").symlink_to("elsewhere")
    (tmp_path / ".file").touch()
    for name in ".ours", ".file":
        with pytest.raises(OSError, match=r"directory|symbolic"):
            open_private(above, name, FaultyFiles())
