"""
What real clients say, compared with the truth: a receipt is right, a failure has a type and
means what it says, and everyone comes to an end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from tests.simulation.history import STORED, Attempt, History
from twisted_upload.errors import OutcomeUnknown, SourceFailed, UploadError, UploadRefused
from twisted_upload.receipt import Receipt

__all__ = ["ClientWords", "IWatchedFile", "WatchedFiles"]


class ClientWords:
    """What a client says of its upload: a receipt, or an error."""

    def __init__(self, history: History) -> None:
        self._history = history

    def check_receipt(self, attempt: Attempt, receipt: Receipt) -> None:
        """
        Who has a receipt has one for its file; and the file is there under its name.

        That it is there is compared with the disk whenever that is.

        :raises Violation: it says something else.
        """
        if receipt.size != attempt.size:
            raise self._history.wrong(f"the receipt of {attempt!r} says {receipt.size} bytes")
        self._history.stored(attempt, receipt.name or None, receipt.size, receipt.sha256)

    def check_error(self, attempt: Attempt, error: Exception, *, finishing: bool = False) -> None:
        """
        Who has an error has one of the documented ones; it says that nothing was stored,
        unless it is `OutcomeUnknown`.

        From then on, the attempt counts as not complete: its file must not become visible.

        :param finishing: whether it is still remembered that a former process may have sent
            all of it: one that cannot even open its file says nothing of that.
        """
        if not isinstance(error, UploadError):
            raise self._history.wrong(f"{attempt!r} ended with {error!r}")
        if attempt.told == STORED:
            raise self._history.wrong(f"{attempt!r} had a receipt, and then {error!r}")
        if isinstance(error, UploadRefused):
            self._history.refused(attempt, error.code)
        else:
            says_nothing = finishing and isinstance(error, SourceFailed)
            if not (says_nothing or isinstance(error, OutcomeUnknown)):
                attempt.complete = False
            self._history.lost(attempt)

    def check_ends(self, attempt: Attempt, *, since: float, within: float) -> None:
        """
        A client ends in time when nothing is in its way any more.

        :param since: when it had begun, and nothing was in its way.
        :param within: seconds.
        """
        took = self._history.now() - since
        if took > within:
            raise self._history.wrong(f"the client of {attempt!r} has not ended in {took:.0f} s")


class IWatchedFile(Protocol):
    """
    A file of a watched folder.

    :ivar attempt: its content.
    :ivar path: where it was put.
    :ivar is_there: whether its writer has put it there, durably, and has not removed it.
    """

    attempt: Attempt
    path: str
    is_there: bool


class WatchedFiles:
    """The files of a watched folder."""

    def __init__(self, history: History) -> None:
        self._history = history

    def check_kept(self, files: Iterable[IWatchedFile], names: Iterable[str]) -> None:
        """
        A file leaves the folder only after a receipt for it.

        :param names: paths that are in the folder, whatever their content.
        """
        there = {*names}
        for file in files:
            if file.is_there and file.path not in there and file.attempt.told != STORED:
                raise self._history.wrong(f"{file.path} left without a receipt: {file.attempt!r}")

    def check_sent(self, files: Iterable[IWatchedFile], excused: Iterable[str]) -> None:
        """
        Each file that was put into the folder has been stored in the end.

        :param excused: paths of files that are refused.
        """
        known = {*excused}
        for file in files:
            if file.is_there and file.attempt.told != STORED and file.path not in known:
                raise self._history.wrong(f"{file.path} was never stored: {file.attempt!r}")
