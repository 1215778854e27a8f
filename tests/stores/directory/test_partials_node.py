"""
Partial uploads of a store that is one of several nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from twisted.logger import capturedLogs, formatEvent

from tests.support.partials import ManualRig
from twisted_upload.core.nodes import node_of
from twisted_upload.errors import NotFound
from twisted_upload.interfaces import Arrival, PartialTerms

TOKEN = "0123456789abcdef" * 2


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[ManualRig]:
    rig = ManualRig(tmp_path / "inbox", node="one")
    yield rig
    rig.close()


def terms(length: int, *, is_part: bool = False) -> PartialTerms:
    return PartialTerms(Arrival("p", digest=False, listener="", length=length), is_part=is_part)


def test_ids(rig: ManualRig) -> None:
    """The ids of new uploads name the node, and those of concatenations too."""
    store = rig.store
    part = rig.do(store.create(terms(0, is_part=True)))
    whole = rig.do(store.concatenate(terms(0), [part.identity]))
    assert [node_of(it.identity) for it in (part, whole)] == ["one", "one"]
    assert rig.do(store.find(part.identity)) == part


def test_another_node(tmp_path: Path) -> None:
    """A node that is renamed, or shares the directory, has the uploads that are there."""
    rig = ManualRig(tmp_path / "inbox", node="one")
    upload = rig.do(rig.store.create(terms(5)))
    rig.close()
    for node in "two", "":
        other = ManualRig(tmp_path / "inbox", node=node)
        with capturedLogs() as events:
            assert other.do(other.store.find(upload.identity)) == upload
        assert not events
        other.close()


def test_missing(rig: ManualRig) -> None:
    """An upload of another node that is not here does not exist; the log says which node."""
    rig.do(rig.store.create(terms(5)))
    with capturedLogs() as events:
        assert isinstance(rig.do(rig.store.find(f"two-{TOKEN}")), NotFound)
    (line,) = map(formatEvent, events)
    assert "node two, but this is one" in line


def test_missing_part(rig: ManualRig) -> None:
    """The same for a part of a concatenation."""
    part = rig.do(rig.store.create(terms(0, is_part=True)))
    with capturedLogs() as events:
        joined = rig.do(rig.store.concatenate(terms(0), [part.identity, f"two-{TOKEN}"]))
    assert isinstance(joined, NotFound)
    (line,) = map(formatEvent, events)
    assert "node two, but this is one" in line
