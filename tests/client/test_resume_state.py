"""
What a client remembers of interrupted uploads.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from twisted_upload.client.content import open_content
from twisted_upload.client.resume_state import (
    KEPT_FOR,
    ResumeState,
    SavedUpload,
    default_folder,
)
from twisted_upload.client.targets import parse_target
from twisted_upload.receipt import NO_METADATA, Metadata

SERVER = parse_target("http://server/")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file to send."""
    found = tmp_path / "file"
    found.write_bytes(b"content")
    os.utime(found, (1_000_000_000, 1_000_000_000))
    return found


def remember(
    folder: Path, path: Path, server: str = "http://server/", metadata: Metadata = NO_METADATA
) -> SavedUpload | None:
    content = open_content(path)
    try:
        return ResumeState(folder).remember(content, parse_target(server), metadata)
    finally:
        content.close()


def test_remembered(tmp_path: Path, path: Path) -> None:
    """What one process saves, the next finds; what has ended is forgotten."""
    first = remember(tmp_path / "state", path)
    assert first is not None
    assert (first.path, first.finishing) == (None, False)
    first.save("/files/1")
    first.close()
    second = remember(tmp_path / "state", path)
    assert second is not None
    assert (second.path, second.finishing) == ("/files/1", False)
    second.mark_finishing()
    second.close()
    third = remember(tmp_path / "state", path)
    assert third is not None
    assert (third.path, third.finishing) == ("/files/1", True)
    third.forget()
    third.close()
    assert os.listdir(tmp_path / "state") == []


def test_private(tmp_path: Path, path: Path) -> None:
    """No other user can read it: with the URL they could add to the upload."""
    saved = remember(tmp_path / "state", path)
    assert saved is not None
    saved.save("/files/secret")
    modes = {stat.S_IMODE(it.stat().st_mode) for it in (tmp_path / "state").iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    saved.close()


def grow(path: Path) -> None:
    path.write_bytes(b"content and more")
    os.utime(path, (1_000_000_000, 1_000_000_000))


def touch(path: Path) -> None:
    os.utime(path, (1_000_000_001, 1_000_000_001))


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"CONTENT")
    os.utime(other, (1_000_000_000, 1_000_000_000))
    other.replace(path)


@pytest.mark.parametrize("change", [grow, touch, replace])
def test_changed_file(tmp_path: Path, path: Path, change: Callable[[Path], None]) -> None:
    """A file with another size, time or inode is another upload."""
    first = remember(tmp_path / "state", path)
    assert first is not None
    first.save("/files/1")
    first.close()
    change(path)
    second = remember(tmp_path / "state", path)
    assert second is not None
    assert second.path is None
    second.close()


def test_other_server_or_name(tmp_path: Path, path: Path) -> None:
    """So is the same file for another server, or with another name."""
    first = remember(tmp_path / "state", path)
    assert first is not None
    first.save("/files/1")
    for other in (
        remember(tmp_path / "state", path, "http://server:8080/"),
        remember(tmp_path / "state", path, metadata=Metadata("other.txt")),
    ):
        assert other is not None
        assert other.path is None
        other.close()
    first.close()


def test_in_use(tmp_path: Path, path: Path) -> None:
    """While one sends a file, another does not use what is remembered of it."""
    first = remember(tmp_path / "state", path)
    assert first is not None
    assert remember(tmp_path / "state", path) is None
    first.close()
    second = remember(tmp_path / "state", path)
    assert second is not None
    second.close()


def test_not_a_file(tmp_path: Path, path: Path) -> None:
    """Bytes, pipes and open files are not remembered."""
    state = ResumeState(tmp_path / "state")
    with path.open("rb") as file:
        for source in (b"content", file):
            content = open_content(source)
            assert state.remember(content, SERVER, NO_METADATA) is None
            content.close()


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", '{"version": 2, "path": "/files/1"}', '{"version": 1}'),
        *('{"version": 1, "path": 5}', '{"version": 1, "path": "http://other/"}'),
        *('{"version": 1, "path": "/a\\r\\nb"}', "[" * 100_000, "\xff"),
    ],
)
def test_damaged(tmp_path: Path, path: Path, text: str) -> None:
    """What cannot be understood is as if there were nothing."""
    first = remember(tmp_path / "state", path)
    assert first is not None
    first.save("/files/1")
    first.close()
    (file,) = (tmp_path / "state").iterdir()
    file.write_bytes(text.encode("iso-8859-1"))
    second = remember(tmp_path / "state", path)
    assert second is not None
    assert second.path is None
    second.close()


def test_in_doubt(tmp_path: Path, path: Path) -> None:
    """Without a clear word, all of it may have been sent."""
    first = remember(tmp_path / "state", path)
    assert first is not None
    first.save("/files/1")
    first.close()
    (file,) = (tmp_path / "state").iterdir()
    file.write_text(json.dumps({"version": 1, "path": "/files/1"}))
    second = remember(tmp_path / "state", path)
    assert second is not None
    assert second.finishing
    second.close()


def test_expires(tmp_path: Path, path: Path) -> None:
    """What no server remembers any more is removed."""
    folder = tmp_path / "state"
    first = remember(folder, path)
    assert first is not None
    first.save("/files/1")
    first.close()
    later = os.path.getmtime(next(folder.iterdir())) + KEPT_FOR + 1
    content = open_content(path)
    other = ResumeState(folder, now=lambda: later).remember(
        content, parse_target("http://other/"), NO_METADATA
    )
    content.close()
    assert other is not None
    other.close()
    assert os.listdir(folder) == []


def test_unusable_folder(tmp_path: Path, path: Path) -> None:
    """If nothing can be remembered, uploads go on without."""
    (tmp_path / "state").write_text("not a folder")
    assert remember(tmp_path / "state", path) is None


def test_cannot_be_written(tmp_path: Path, path: Path) -> None:
    """What cannot be written is remembered as long as the process runs."""
    saved = remember(tmp_path / "state", path)
    assert saved is not None
    for file in (tmp_path / "state").iterdir():
        file.unlink()
    (tmp_path / "state").rmdir()
    saved.save("/files/1")
    saved.mark_finishing()
    assert (saved.path, saved.finishing) == ("/files/1", True)
    saved.forget()
    saved.close()


def test_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is in the user's state directory; a relative XDG_STATE_HOME does not count."""
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert default_folder() == "/var/state/twisted-upload/uploads"
    monkeypatch.setenv("HOME", "/home/alice")
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_STATE_HOME", value)
        assert default_folder() == "/home/alice/.local/state/twisted-upload/uploads"
