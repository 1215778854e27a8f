"""
Helpers for tests of an upload's lifecycle: no sockets, files or clocks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import alsoProvides

from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import Arrival, IIncomingUpload, IMayBeVisible, Receipt
from twisted_upload.stores.memory import MemoryStore

__all__ = ["BriefStore", "RecordingSender", "UnsureStore", "stored_in"]


class RecordingSender:
    """
    A sender without a connection.

    :ivar told: each answer that the sender was given.
    :ivar reported: the outcomes.
    :ivar events: both, in order.
    """

    def __init__(self) -> None:
        self.told: list[Receipt | UploadRefused] = []
        self.reported: list[str] = []
        self.events: list[str] = []
        self.incoming: IIncomingUpload | None = None
        self.ended_by_idle: bool | None = None
        self.answered: bool | None = None
        self.connected = True

    def arrival(self) -> Arrival:
        return Arrival("192.0.2.7:50123")

    def began(self, incoming: IIncomingUpload) -> None:
        assert self.incoming is None, "began twice"
        self.incoming = incoming

    def tell_stored(self, receipt: Receipt) -> None:
        self.told.append(receipt)
        self.events.append("tell")

    def tell_refused(self, refusal: UploadRefused) -> None:
        self.told.append(refusal)
        self.events.append("tell")

    def tell_nothing(self) -> None:
        self.events.append("hang up")

    def report_stored(self, receipt: Receipt, *, ended_by_idle: bool, answered: bool) -> None:
        self._report("stored")
        self.ended_by_idle, self.answered = ended_by_idle, answered

    def report_refused(self, refusal: UploadRefused) -> None:
        self._report("refused")

    def report_aborted(self) -> None:
        self._report("aborted")

    def report_unused(self) -> None:
        self._report("unused")

    def broke(self) -> None:
        self.events.append("broke")

    def _report(self, end: str) -> None:
        self.reported.append(end)
        self.events.append("report")

    @property
    def codes(self) -> list[str]:
        """Each answer, in one word."""
        return [one.code if isinstance(one, UploadRefused) else "stored" for one in self.told]


def stored_in(store: MemoryStore) -> list[bytes]:
    """Return the contents of the files in a store."""
    return [*store.files.values()]


class BriefStore(MemoryStore):
    """A memory store whose incoming uploads can also commit without a Deferred (`ICommitsTo`)."""

    def begin(self, arrival: Arrival, failed: Callable[[UploadRefused], None]) -> IIncomingUpload:
        incoming: Any = super().begin(arrival, failed)
        commit = incoming.commit

        def commit_to(
            stored: Callable[[Receipt], object], failed: Callable[[UploadRefused], object]
        ) -> Callable[[], None]:
            done: Deferred[Receipt] = commit()
            given_up: list[bool] = []
            done.addCallbacks(stored, lambda failure: given_up or failed(failure.value))

            def give_up() -> None:
                given_up.append(True)
                done.cancel()

            return give_up

        incoming.commit_to = commit_to
        incoming.commit = None
        return incoming  # type: ignore[no-any-return]


class UnsureStore(MemoryStore):
    """A memory store that never knows whether what was abandoned is visible."""

    def begin(self, arrival: Arrival, failed: Callable[[UploadRefused], None]) -> IIncomingUpload:
        incoming: Any = super().begin(arrival, failed)
        incoming.may_be_visible = lambda: True
        alsoProvides(incoming, IMayBeVisible)
        return incoming  # type: ignore[no-any-return]
