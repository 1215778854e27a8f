"""
Fixtures of the tests of the directory store.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.partial_files import WRITE_BACK, OrderedFiles, open_faulty
from tests.support.processes import open_descriptors
from tests.support.stores import Rig
from twisted_upload.stores.directory.folder import INCOMING, Folder


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path / "inbox")
    yield rig
    rig.close()
    assert (rig.store.memory.held, rig.store.memory.given_up) == (0, 0)


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make write-back begin early, so that small files show it."""
    monkeypatch.setattr("twisted_upload.stores.directory.partial_file.WRITE_BACK", WRITE_BACK)


@pytest.fixture
def files() -> OrderedFiles:
    return OrderedFiles()


@pytest.fixture
def folder(tmp_path: Path, files: OrderedFiles) -> Iterator[Folder]:
    folder = open_faulty(tmp_path, files)
    files.order.clear()
    files.synced.clear()
    before = open_descriptors(tmp_path)
    yield folder
    assert open_descriptors(tmp_path) == before


@pytest.fixture
def linking(tmp_path: Path, files: OrderedFiles) -> Folder:
    folder = open_faulty(tmp_path, files, by_rename=False)
    files.order.clear()
    return folder


@pytest.fixture
def incoming(inbox: Path) -> Path:
    """The ``.incoming/`` of a dead daemon."""
    (inbox / INCOMING).mkdir(parents=True, mode=0o700)
    return inbox / INCOMING
