"""
Removes objects whose senders were refused: until it works.

Such an object is whole.  It may be there if the object store has not answered, or if its
sender has given up while it was stored.  Nobody waits for its removal.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.disk.threads import IDisk, PoolStopped

__all__ = ["INTERVAL", "MOST_LEFT", "Cleanup", "IDiscarded"]

INTERVAL = 60.0
"""Seconds between attempts."""

MOST_LEFT = 10_000
"""Uploads that are remembered; the oldest are forgotten."""


class IDiscarded(Protocol):
    """An upload that was not stored."""

    def discard(self) -> None:
        """Remove what is left of it.  Waits for the network."""


class Cleanup:
    """
    What could not be removed from an object store yet.

    :param what: name of the store, for the log.
    :param threads: those that wait for it.
    :ivar left: uploads of which something is left.
    """

    def __init__(self, what: str, threads: IDisk, clock: IReactorTime) -> None:
        self.left: deque[IDiscarded] = deque(maxlen=MOST_LEFT)
        self._what = what
        self._threads = threads
        self._clock = clock
        self._timer: IDelayedCall | None = None
        self._working = False
        self._stopped = False

    def discard(self, upload: IDiscarded) -> None:
        """Remove what is left of an upload."""
        self._threads.run(upload.discard).addErrback(self._could_not, upload)

    def stop(self) -> None:
        """Begin no further attempt."""
        self._stopped = True
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _could_not(self, failure: Failure, upload: IDiscarded) -> None:
        if failure.check(PoolStopped):
            return
        if not self.left:
            _log.error(
                "{what}: cannot remove the object of a refused upload; trying again: {error}",
                what=self._what,
                error=failure.getErrorMessage(),
            )
        self.left.append(upload)
        self._later()

    def _later(self) -> None:
        if self._timer is None and not self._working and not self._stopped:
            self._timer = self._clock.callLater(INTERVAL, self._try_again)

    def _try_again(self) -> None:
        self._timer = None
        self._working = True
        self._threads.run(self._work).addBoth(self._worked)

    def _work(self) -> None:
        """Remove one after the other, in a thread, until one cannot be removed: it is now last."""
        for _ in range(len(self.left)):
            upload = self.left.popleft()
            try:
                upload.discard()
            except BaseException:
                self.left.append(upload)
                raise

    def _worked(self, result: Failure | None) -> None:
        self._working = False
        if self.left:
            self._later()
        else:
            _log.info("{what}: removed the objects of refused uploads", what=self._what)


_log = Logger()
