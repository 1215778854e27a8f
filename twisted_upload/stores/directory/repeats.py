"""
Requests for the same concatenation: it is done once.

A client that has had no response asks again, because it cannot know whether the file has
been stored, or is being copied.  It gets the file that its first request has made.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from twisted_upload.errors import NotFound
from twisted_upload.interfaces import PartialTerms, PartialUpload

__all__ = ["REMEMBERED_FOR", "ConcatenationRepeats"]

REMEMBERED_FOR = 3600.0
"""Seconds for which a finished concatenation is remembered."""

MOST_REMEMBERED = 1000
"""Maximum number of finished concatenations that are remembered."""


class ConcatenationRepeats:
    """
    The concatenations that are running, or have finished lately.

    :param now: returns the time in seconds since the epoch.
    :param find: returns the state of an upload.
    """

    def __init__(
        self, now: Callable[[], float], find: Callable[[str], Deferred[PartialUpload]]
    ) -> None:
        self._now = now
        self._find = find
        self._running: dict[bytes, list[Deferred[PartialUpload]]] = {}
        self._finished: OrderedDict[bytes, tuple[float, str]] = OrderedDict()

    def once(
        self,
        terms: PartialTerms,
        identities: Sequence[str],
        concatenate: Callable[[], Deferred[PartialUpload]],
    ) -> Deferred[PartialUpload]:
        """
        Concatenate, or wait for the same concatenation: of the same parts, for the same
        owner, with the same metadata.

        :param concatenate: does it; the result must not be cancelled.
        :return: fires as that does.  Cancel it to stop waiting.
        """
        key = _key(terms, identities)
        is_first = key not in self._running
        waiting = self._running.setdefault(key, [])
        done: Deferred[PartialUpload] = Deferred(waiting.remove)
        waiting.append(done)
        if is_first:
            self._earlier(key).addErrback(_if_gone(concatenate)).addBoth(self._ended, key)
        return done

    def _earlier(self, key: bytes) -> Deferred[PartialUpload]:
        finished = self._finished.get(key)
        if finished is None or finished[0] + REMEMBERED_FOR <= self._now():
            return fail(NotFound())
        return self._find(finished[1])

    def _ended(self, result: PartialUpload | Failure, key: bytes) -> None:
        waiting = self._running.pop(key)
        known = self._finished.pop(key, None)
        if not isinstance(result, Failure):
            if known is None or known[1] != result.identity:
                known = self._now(), result.identity
            self._finished[key] = known
            while len(self._finished) > MOST_REMEMBERED:
                self._finished.popitem(last=False)
        for done in [*waiting]:
            if done.called:  # who has been told has cancelled it
                continue
            if isinstance(result, Failure):
                done.errback(result.value)
            else:
                done.callback(result)


def _if_gone(
    concatenate: Callable[[], Deferred[PartialUpload]],
) -> Callable[[Failure], Deferred[PartialUpload]]:
    def do(failure: Failure) -> Deferred[PartialUpload]:
        return concatenate() if failure.check(NotFound) else fail(failure)

    return do


def _key(terms: PartialTerms, identities: Sequence[str]) -> bytes:
    """Return what is the same for each repeat of a request."""
    # Not the note, in which a front end may have the time of the request.
    what = terms.owner, terms.arrival.metadata, terms.arrival.digest, [*identities]
    return hashlib.sha256(repr(what).encode("utf-8", "backslashreplace")).digest()
