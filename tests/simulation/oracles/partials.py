"""
The offsets that senders were told, compared with what is on the disk.
"""

from __future__ import annotations

from typing import Any

from tests.simulation.history import STORED, Attempt, History
from tests.simulation.oracles.files import StoredFiles
from twisted_upload.stores.directory.folder import INCOMING
from twisted_upload.stores.directory.partial_folder import DATA, PARTIAL, RECORD, key_of
from twisted_upload.stores.directory.partial_record import PUBLISHING

__all__ = ["ToldOffsets"]


class ToldOffsets:
    """
    The partial uploads of a drop folder.

    :param files: what is visible, as of its last check.
    """

    def __init__(
        self, history: History, file_system: Any, directory: str, files: StoredFiles
    ) -> None:
        self._history = history
        self._file_system = file_system
        self._folder = f"{directory}/{INCOMING}/{PARTIAL}"
        self._files = files

    def check(self) -> None:
        """The bytes before each offset that was told are on the disk, and are the sender's."""
        visible, now = dict.fromkeys(self._files.visible.values()), self._history.now()
        for attempt in self._history.attempts.values():
            if attempt.url is None or attempt.offset <= 0 or attempt.parts:
                continue
            if attempt.may_be_gone or now >= attempt.lasts_until:
                continue
            if attempt.told != STORED and self._files.key(attempt) not in visible:
                self._check_one(attempt)

    def _check_one(self, attempt: Attempt) -> None:
        assert attempt.url is not None
        path = f"{self._folder}/{key_of(attempt.url.rpartition('/')[2])}{DATA}"
        if not self._file_system.exists(path):
            raise self._history.wrong(f"the data is gone: {attempt!r}, offset {attempt.offset}")
        data = self._file_system.content(path)
        if len(data) < attempt.offset:
            raise self._history.wrong(f"{len(data)} of {attempt.offset} bytes: {attempt!r}")
        if bytes(data[: attempt.offset]) != attempt.piece(0, attempt.offset):
            raise self._history.wrong(f"other bytes than were sent: {attempt!r}")

    def expect_none(self) -> None:
        """
        What was not completed in time is removed.

        To be called when nobody has sent anything for longer than that.  What may have been
        published when its process died is remembered for longer.
        """
        folder, disk = self._folder, self._file_system
        for name in disk.names(folder) if disk.exists(folder) else ():
            key = name.removesuffix(DATA)
            if key != name and PUBLISHING.encode() not in disk.content(f"{folder}/{key}{RECORD}"):
                raise self._history.wrong(f"there long after it has expired: {name}")
