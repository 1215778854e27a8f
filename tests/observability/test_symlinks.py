"""
Which symbolic links are followed, by owner.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from twisted_upload.observability.symlinks import check_links

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """A link to a folder."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    return tmp_path / "link"


def test_ours(link: Path) -> None:
    """Our own links are followed, and so is a path without any."""
    check_links(str(link / "file"))
    check_links(str(link.parent / "missing" / "file"))


@needs_root
def test_of_another_user(link: Path) -> None:
    """Another user's link is not followed, unless the daemon becomes that user."""
    os.lchown(link, 1001, 1001)
    with pytest.raises(PermissionError, match=f"{link} belongs to uid 1001, not to uid 0"):
        check_links(str(link / "file"))
    check_links(str(link / "file"), [1001])


@needs_root
def test_relative(link: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path starts at the current folder."""
    os.lchown(link, 1001, 1001)
    monkeypatch.chdir(link.parent)
    with pytest.raises(PermissionError):
        check_links("folder/../link/file")


def test_of_root_elsewhere() -> None:
    """Root's links, such as /dev/stdout, are followed wherever they lead."""
    check_links("/dev/stdout")


def test_circle(tmp_path: Path) -> None:
    """A link to itself is left for open to refuse."""
    (tmp_path / "link").symlink_to("link")
    check_links(str(tmp_path / "link"))
