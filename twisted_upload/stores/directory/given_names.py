"""
The names that a store has given out, and those that it gives out next: none twice.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from twisted_upload.core.names import UniqueTimestamps
from twisted_upload.core.text import format_duration
from twisted_upload.disk.files import Files
from twisted_upload.errors import CannotStart
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.name_record import RECORD, NameRecord

__all__ = ["GivenNames"]


class GivenNames:
    """
    Gives out the moments that names are made of.

    It goes on after what is recorded in the folder, and after what it has given out itself,
    whatever the clock says.

    :param path: path of the drop folder, for messages.
    :param now: returns the time in seconds since the epoch.
    :param durable: see `NameRecord`.
    :ivar record: where names are recorded before they are published; `None` while no folder
        is open.
    """

    def __init__(self, path: str, files: Files, now: Callable[[], float], *, durable: bool) -> None:
        self.record: NameRecord | None = None
        self._path = path
        self._files = files
        self._now = now
        self._durable = durable
        self._moments = UniqueTimestamps()
        self._warned = False  # a start opens twice, and warns once

    def use(self, incoming: int) -> None:
        """
        Use the record in a folder.  Waits for the disk.

        :param incoming: file descriptor of its ``.incoming/``.
        :raises CannotStart: it cannot be used.
        """
        try:
            record = NameRecord(self._files, incoming, durable=self._durable)
        except OSError as error:
            raise CannotStart(
                f"cannot use {self._path}/{INCOMING}/{RECORD}: {error.strerror or error}"
            ) from error
        if record.damaged and not self._warned:
            self._warned = True
            _log.warn(
                "{path}: {record} is damaged: new names start after the time it was last written",
                path=self._path,
                record=f"{INCOMING}/{RECORD}",
            )
        floor = max(record.floor, self._moments.latest)
        told = self._moments.told  # if it was opened before, as at each start
        self._moments = UniqueTimestamps(floor, record.number, self._clock_is_behind, told=told)
        if record.floor:
            self._moments.tell(self._now())
        self.record = record

    def _clock_is_behind(self, by: int, latest: int) -> None:
        _log.warn(
            "{path}: the clock is {by} behind the latest file name here: names continue from"
            " {latest}",
            path=self._path,
            by=format_duration(by / 1000),
            latest=latest,
        )

    def next(self, now: float) -> tuple[int, int]:
        """
        Return the next moment: see `UniqueTimestamps.next`.

        :param now: the time of the upload: seconds since the epoch.
        """
        return self._moments.next(now)

    def forget(self) -> None:
        """Use no record any more: its folder is closed."""
        self.record = None

    def close(self) -> None:
        """Record the last name exactly, and use no record any more."""
        if self.record is not None:
            self.record.close(self._moments.latest)
        self.record = None


_log = Logger()
