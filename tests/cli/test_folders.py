"""
What is found in the folders on a command line.
"""

from __future__ import annotations

import inspect
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from twisted_upload.cli.folders import Found, Skipped, entries
from twisted_upload.cli.patterns import Patterns, parse_pattern


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files, folders, and what is neither."""
    folder = tmp_path / "photos"
    for name in ("b.jpg", "a/z.jpg", "a/c.txt", "drafts/d.jpg", ".hidden"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "empty").mkdir()
    (folder / "link.jpg").symlink_to("b.jpg")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/socket")
    return folder


def found(
    folder: Path, *, include: str = "", exclude: str = "", everything: bool = False
) -> tuple[list[str], dict[str, str]]:
    """Return the names that are found, and what is skipped, with the reason."""
    patterns = Patterns(*(tuple(map(parse_pattern, it.split())) for it in (include, exclude)))
    seen = [*entries(str(folder), patterns, everything=everything)]
    names = [one.name for one in seen if isinstance(one, Found)]
    skipped = [one for one in seen if isinstance(one, Skipped)]
    assert all(one.path == os.path.join(folder, one.name) or one.name == "" for one in seen
               if isinstance(one, Found))  # fmt: skip
    return names, {os.path.relpath(one.path, folder): one.why for one in skipped}


def test_files(folder: Path) -> None:
    """Files are found in all folders, in the order of their names; nothing else is silent."""
    names, skipped = found(folder)
    assert names == [".hidden", "a/c.txt", "a/z.jpg", "b.jpg", "drafts/d.jpg"]
    assert skipped == {
        "link.jpg": "skipped: a symbolic link, not followed",
        "loop": "skipped: a symbolic link, not followed",
        "pipe": "skipped: a named pipe",
        "socket": "skipped: a socket",
    }


def test_everything(folder: Path) -> None:
    """For an archive, folders and symbolic links are found too."""
    names, skipped = found(folder, everything=True)
    assert names == [
        *("", ".hidden", "a", "a/c.txt", "a/z.jpg", "b.jpg", "drafts", "drafts/d.jpg", "empty"),
        *("link.jpg", "loop"),
    ]
    assert {*skipped} == {"pipe", "socket"}
    link = [it for it in entries(str(folder), Patterns(), everything=True) if "loop" in it.path]
    assert [it.target for it in link if isinstance(it, Found)] == ["."]


def test_patterns(folder: Path) -> None:
    """What is excluded, or not included, is neither found nor reported."""
    assert found(folder, include="*.jpg", exclude="drafts/ link*") == (["a/z.jpg", "b.jpg"], {})
    assert found(folder, include="a/")[0] == ["a/c.txt", "a/z.jpg"]
    assert found(folder, include="*.jpg", exclude="drafts", everything=True)[0] == [
        *("", "a/z.jpg", "b.jpg", "link.jpg"),
    ]


def test_link_to_a_folder(folder: Path, tmp_path: Path) -> None:
    """A folder on the command line may be a symbolic link."""
    (tmp_path / "shortcut").symlink_to(folder)
    assert found(tmp_path / "shortcut") == found(folder)


@pytest.mark.parametrize("vanished", [False, True])
def test_unreadable(folder: Path, monkeypatch: pytest.MonkeyPatch, vanished: bool) -> None:
    """A folder or a file that cannot be read is an error, and the rest is still found."""
    true: dict[str, Callable[..., object]] = {"listdir": os.listdir, "lstat": os.lstat}
    name, path = ("lstat", f"{folder}/b.jpg") if vanished else ("listdir", f"{folder}/a")

    def fails(it: str) -> object:
        if it == path:
            raise PermissionError(13, os.strerror(13))
        return true[name](it)

    monkeypatch.setattr(os, name, fails)
    errors = [
        it
        for it in entries(str(folder), Patterns(), everything=False)
        if isinstance(it, Skipped) and it.is_error
    ]
    assert errors == [Skipped(path, "Permission denied", is_error=True)]
    assert "drafts/d.jpg" in found(folder)[0]


def test_deep(tmp_path: Path) -> None:
    """Folders may be nested deeper than Python's calls."""
    (tmp_path / "d/" / "/".join("d" * 200)).mkdir(parents=True)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        assert found(tmp_path) == ([], {})
    finally:
        sys.setrecursionlimit(limit)
