"""
Uploads that are stored after their clients were told to ask again.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred

from tests.support.tus import TusRig, reply
from twisted_upload.errors import StoreFailed
from twisted_upload.interfaces import IAppend, PartialUpload
from twisted_upload.stores.memory import MemoryStore


class Postponing(MemoryStore):
    """A store that stores an upload after it has told that it could not."""

    def __init__(self) -> None:
        super().__init__(lambda: 0.0)
        self.postponed: list[tuple[Deferred[PartialUpload], PartialUpload]] = []

    def _postpone(self, upload: PartialUpload) -> PartialUpload:
        if upload.receipt is None:
            return upload
        error = StoreFailed()
        error.later = Deferred()
        self.postponed.append((error.later, upload))
        raise error

    def create(self, *arguments: Any) -> Deferred[PartialUpload]:
        return super().create(*arguments).addCallback(self._postpone)

    def append(self, *arguments: Any, **more: Any) -> Deferred[IAppend]:
        def opened(append: Any) -> IAppend:
            real = append.commit
            append.commit = lambda: real().addCallback(self._postpone)
            return append  # type: ignore[no-any-return]

        return super().append(*arguments, **more).addCallback(opened)


@pytest.mark.parametrize("way", ["create", "patch", "both"])
def test_upload_that_is_stored_after_all(way: str) -> None:
    """An upload that is stored after its request was refused is reported as stored, once."""
    store = Postponing()
    rig = TusRig(store=store)
    body = {"content-type": "application/offset+octet-stream"}
    if way == "create":
        exchange = rig.begin("POST", fields={"upload-length": "0"})
    elif way == "both":
        exchange = rig.begin("POST", fields={"upload-length": "5", **body}, length=5)
        exchange.send(b"12345")
    else:
        exchange = rig.begin_patch(rig.create(5), 0, 5).send(b"12345")
    assert reply(exchange).status == 503
    assert rig.kinds == ["store-error"]
    ((later, upload),) = store.postponed
    later.callback(upload)
    assert rig.kinds == ["store-error", "stored"]
    assert not rig.outcomes[1].answered
