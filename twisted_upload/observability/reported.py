"""
What a report needs of front ends and stores, which this room does not know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from typing import Protocol

from twisted.internet.defer import Deferred

from twisted_upload.disk.file_calls import Space
from twisted_upload.errors import UploadRefused
from twisted_upload.observability.counters import DiskTimes, ProgramCounts
from twisted_upload.observability.metrics import Samples

__all__ = [
    "IReportedFrontend",
    "IReportedGate",
    "IReportedHealth",
    "IReportedObjectStore",
    "IReportedObjects",
    "IReportedSpace",
    "IReportedStorage",
    "IReportedStore",
    "ISampled",
]


class IReportedGate(Protocol):
    """The part of a front end's gate that is reported."""

    @property
    def rejected(self) -> Mapping[str, int]:
        """The number of rejected connections by the code that was sent to them."""

    @property
    def handshake_failures(self) -> Mapping[str, int]:
        """The number of failed TLS handshakes by kind."""


class IReportedFrontend(Protocol):
    """The part of a front end that is reported."""

    @property
    def name(self) -> str:
        """The name of its listener."""

    @property
    def stopping(self) -> bool:
        """Whether it accepts no more uploads."""

    @property
    def uploads_in_flight(self) -> int:
        """The number of uploads that have begun and have not ended."""

    @property
    def protocols(self) -> Sized:
        """Its connections."""

    @property
    def gate(self) -> IReportedGate:
        """The gate, which rejects connections."""


class IReportedHealth(Protocol):
    """The part of a store's health that is reported."""

    @property
    def well(self) -> bool:
        """Whether it can take uploads."""


class IReportedSpace(Protocol):
    """The part of a store's free space that is reported."""

    @property
    def space(self) -> Space:
        """The free space as of the last check."""

    @property
    def reserve(self) -> float:
        """Bytes that must stay free."""

    @property
    def trouble(self) -> str | None:
        """What is running out, in one line; None if nothing is."""

    def known(self) -> Deferred[None]:
        """Check the space unless that was done recently; fires when ``space`` is up to date."""


class IReportedStore(Protocol):
    """The part of a store that is reported."""

    @property
    def path(self) -> str:
        """The path of its directory."""

    @property
    def health(self) -> IReportedHealth:
        """Whether it works."""

    @property
    def free_space(self) -> IReportedSpace:
        """Its free space."""

    @property
    def partial_uploads(self) -> tuple[int, int] | None:
        """Number and committed bytes of its partial uploads; None if it cannot have any."""

    def refusal(self) -> UploadRefused | None:
        """Return why it would refuse a new upload now; None if it would not."""


class IReportedObjectStore(Protocol):
    """The part of a store that stores objects that is reported."""

    @property
    def path(self) -> str:
        """Where its objects go: ``s3://BUCKET/PREFIX``."""

    @property
    def health(self) -> IReportedHealth:
        """Whether it works."""

    def refusal(self) -> UploadRefused | None:
        """Return why it would refuse a new upload now; None if it would not."""


class ISampled(Protocol):
    """Counts of what is done with one place."""

    def samples(self, where: str, /) -> Samples:
        """Return all samples."""


class IReportedObjects(Protocol):
    """The part of the object store behind a directory that is reported."""

    @property
    def path(self) -> str:
        """Where objects go: ``s3://BUCKET/PREFIX``."""

    @property
    def stores(self) -> Sequence[IReportedObjectStore]:
        """The stores that store objects there."""

    @property
    def counts(self) -> Sequence[ISampled]:
        """The counts of its requests."""

    @property
    def forwards(self) -> Sequence[ISampled]:
        """The counts of each store that forwards files there."""


class IReportedStorage(Protocol):
    """The part of a directory's storage that is reported."""

    @property
    def path(self) -> str:
        """The path of the directory."""

    @property
    def stores(self) -> Sequence[IReportedStore]:
        """The stores that use the directory, each with different settings."""

    @property
    def times(self) -> DiskTimes | None:
        """How long they wait for the disk, if that is measured."""

    @property
    def programs(self) -> Sequence[ProgramCounts]:
        """The program counters of each store that starts programs."""

    @property
    def objects(self) -> IReportedObjects | None:
        """The object store behind the directory, if there is one."""
