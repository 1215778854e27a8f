"""
What was sent, and what the senders were told: the account that everything else is compared
with.

The content of an attempt can be recognised: its first bytes are its number, and the rest
follows from that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from tests.simulation.choices import Choices

__all__ = [
    "ABORTED",
    "LOST",
    "NOTHING",
    "REFUSED",
    "SMALLEST",
    "STORED",
    "Attempt",
    "History",
    "Violation",
    "content_of",
    "content_piece",
    "number_in",
]

NOTHING = ""
"""The sender has been told nothing yet."""

STORED = "stored"
"""The sender has been told that the file is stored."""

REFUSED = "refused"
"""The sender has been told that it is not."""

LOST = "lost"
"""The connection ended without an answer."""

ABORTED = "aborted"
"""The sender has broken it off itself, before its end."""

SMALLEST = 8
"""Bytes of the smallest content that can be recognised."""

_MARKS = (b"TU", b"tu")  # bytes, text
_POOL_SIZE = 1 << 20


class Violation(AssertionError):
    """A promise is broken."""


def _pools() -> tuple[memoryview, memoryview]:
    letters = bytes(range(97, 123)) + b"     \n"
    data = Choices("content").bytes(_POOL_SIZE)
    text = data.translate(bytes(letters[it % 32] for it in range(256)))
    return memoryview(data * 2), memoryview(text * 2)


_POOLS = _pools()


def content_piece(number: int, size: int, start: int, end: int) -> bytes:
    """
    Return a piece of a content.

    :param number: of the attempt that it was made for, less than 2**24.
    :param size: of all of it, in bytes.
    :param start: of the piece, in bytes from the beginning of the content.
    """
    end = min(end, size)
    if size < SMALLEST:
        return b"a" * max(0, end - start)
    kind = number & 1
    pieces: list[bytes | memoryview] = []
    if start < SMALLEST:
        pieces.append((b"%s%06x" % (_MARKS[kind], number))[start:end])
        start = SMALLEST
    shift, pool = number * 7919 % _POOL_SIZE, _POOLS[kind]
    while start < end:
        at = (start + shift) % _POOL_SIZE
        piece = pool[at : at + min(end - start, _POOL_SIZE)]
        pieces.append(piece)
        start += len(piece)
    return bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)


def content_of(number: int, size: int) -> bytes:
    """Return the whole content of an attempt."""
    return content_piece(number, size, 0, size)


def number_in(data: bytes) -> int | None:
    """Return the number of the attempt whose content begins so; `None` if there is none."""
    if len(data) < SMALLEST or data[:2] not in _MARKS:
        return None
    try:
        return int(data[2:SMALLEST], 16)
    except ValueError:
        return None


class Attempt:
    """
    One upload, as its sender saw it.

    :ivar number: unique in a world, and the same if other senders are left out.
    :ivar kind: of its sender.
    :ivar content: the number that its content was made for; that of an earlier attempt if
        it sends the same content again.
    :ivar parts: the contents that a concatenated upload consists of; empty otherwise.
    :ivar size: of its content, in bytes.
    :ivar sent: how many bytes of it, from its beginning, have been handed to the network.
    :ivar complete: whether its end was sent.
    :ivar told: `NOTHING`, `STORED`, `REFUSED`, `LOST` or `ABORTED`.
    :ivar name: of the stored file, if that was told.
    :ivar code: why it was refused.
    :ivar url: of a resumable upload, once it is known.
    :ivar offset: the highest offset that was told of it.
    :ivar may_be_gone: whether it was to be removed, so that it may be unknown.
    :ivar lasts_until: when it may have been removed because it was left alone, in virtual
        seconds.
    :ivar partial: whether it is stored only as a part of others.
    :ivar honest: whether its sender does nothing that should keep it from being stored.
    :ivar began: when, in virtual seconds.
    :ivar told_at: when it was first told that it is stored, in virtual seconds.
    :ivar ended: when its sender stopped caring; `None` before.
    :ivar peers: the addresses it was sent from, as the daemon calls them.
    :ivar connection: the last one that it was sent on.
    :ivar given_up: whether the daemon has reported that it is not stored.
    """

    __slots__ = (
        "began",
        "code",
        "complete",
        "connection",
        "content",
        "ended",
        "given_up",
        "honest",
        "kind",
        "lasts_until",
        "may_be_gone",
        "name",
        "number",
        "offset",
        "partial",
        "parts",
        "peers",
        "sent",
        "sha256",
        "size",
        "told",
        "told_at",
        "url",
    )

    def __init__(self, number: int, kind: str, size: int, began: float) -> None:
        self.number = number
        self.kind = kind
        self.content = number
        self.parts: tuple[Attempt, ...] = ()
        self.size = size
        self.sent = 0
        self.complete = False
        self.told = NOTHING
        self.name: str | None = None
        self.code: str | None = None
        self.sha256: str | None = None
        self.url: str | None = None
        self.offset = -1
        self.may_be_gone = False
        self.lasts_until = float("inf")
        self.partial = False
        self.honest = True
        self.began = began
        self.told_at = float("inf")
        self.ended: float | None = None
        self.peers: list[str] = []
        self.connection: Any = None
        self.given_up = False

    def __repr__(self) -> str:
        told = f"{self.told or 'nothing told'} {self.name or self.code or ''}".strip()
        end = "complete" if self.complete else f"{self.sent} sent"
        return f"<attempt {self.number} {self.kind}, {self.size} bytes, {end}, {told}>"

    def data(self) -> bytes:
        """Return its content."""
        if self.parts:
            return b"".join(part.data() for part in self.parts)
        return content_of(self.content, self.size)

    def piece(self, start: int, end: int) -> bytes:
        """Return a piece of its content."""
        return content_piece(self.content, self.size, start, end)

    @property
    def resumes(self) -> bool:
        """Whether it can be continued: the real clients know its URL, and do not tell."""
        return self.url is not None or self.kind in ("tus-client", "watch")

    def may_be_stored(self) -> bool:
        """Return whether a file with its content may be visible."""
        return self.complete and self.told != REFUSED and not self.partial

    def digest(self, size: int | None = None) -> str:
        """
        Return the SHA-256 of its content: 64 lower-case hexadecimal digits.

        :param size: of the beginning of it, if it is not that of all.
        """
        if size is not None and size != self.size:
            return hashlib.sha256(self.piece(0, size)).hexdigest()
        if self.sha256 is None:
            self.sha256 = hashlib.sha256(self.data()).hexdigest()
        return self.sha256


class History:
    """
    All attempts, and what was told of them.

    :param now: returns the virtual time in seconds.
    :ivar attempts: by number, in the order in which they began.
    :ivar names: the attempt of each name that was told.
    :ivar contents: the attempts of each content.
    :ivar finals: the concatenated uploads, by the content of their first part.
    :ivar violations: those found so far: raising is not enough, because an exception may be
        caught on its way.
    :ivar disturbances: when processes were killed or the power was cut: what is cut off at
        such a moment is no violation.  Noted by the world.
    :ivar stops: when daemons were told to stop: what one gives up then, because a disk does
        not respond, may be done all the same.  Noted by the world.
    :ivar repeats_once: whether a concatenation that is asked for again is stored once: for a
        daemon that is alone, and goes on.
    :ivar ends_by_idle: whether the daemon ends uploads that fall silent
        (``--finish-after-idle``): then what was sent so far may be a file.
    :ivar on_stored: called when a sender is told a name under which its file is stored; set
        by the world.
    :ivar senders: the latest attempt from each address, as the daemon names it.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.attempts: dict[int, Attempt] = {}
        self.names: dict[str, Attempt] = {}
        self.contents: dict[int, list[Attempt]] = {}
        self.finals: dict[int, list[Attempt]] = {}
        self.violations: list[str] = []
        self.disturbances: list[float] = []
        self.stops: list[float] = []
        self.ends_by_idle = self.repeats_once = False
        self.on_stored: Callable[[Attempt, str], None] | None = None
        self.senders: dict[str, Attempt] = {}
        self.counts = {NOTHING: 0, STORED: 0, REFUSED: 0, LOST: 0, ABORTED: 0}

    @property
    def disturbed(self) -> float:
        """When the last disturbance was; -1 if there was none."""
        return self.disturbances[-1] if self.disturbances else -1.0

    @property
    def stopped(self) -> float:
        """When a daemon was told to stop last; -1 if none was."""
        return self.stops[-1] if self.stops else -1.0

    def wrong(self, text: str) -> Violation:
        """Note a violation, and return it, to be raised."""
        self.violations.append(text)
        return Violation(text)

    def begin(
        self,
        number: int,
        kind: str,
        size: int,
        *,
        again: Attempt | None = None,
        honest: bool = True,
    ) -> Attempt:
        """
        Note that an attempt begins.

        :param again: the attempt whose content it sends again.
        """
        assert number not in self.attempts, number
        attempt = Attempt(number, kind, size if again is None else again.size, self.now())
        attempt.honest = honest
        if again is not None:
            attempt.content = again.content
            if again.parts:
                self.concatenate(attempt, again.parts)
        self.attempts[number] = attempt
        self.contents.setdefault(attempt.content, []).append(attempt)
        self.counts[NOTHING] += 1
        return attempt

    def concatenate(self, attempt: Attempt, parts: Sequence[Attempt]) -> None:
        """Note that an attempt, which has no content yet, consists of others."""
        attempt.parts = tuple(parts)
        attempt.size = sum(part.size for part in parts)
        self.finals.setdefault(parts[0].content, []).append(attempt)

    def _tell(self, attempt: Attempt, told: str) -> None:
        self.counts[attempt.told] -= 1
        self.counts[told] += 1
        attempt.told = told

    def stored(
        self, attempt: Attempt, name: str | None, size: int | None = None, sha256: str | None = None
    ) -> None:
        """
        Note that a sender was told that its file is stored, perhaps once more.

        :param name: of the file, if that was told; size and SHA-256 likewise.
        :raises Violation: that cannot be true.
        """
        idle = self.ends_by_idle and attempt.kind.startswith("raw")
        if not (attempt.complete or idle):
            raise self.wrong(f"{attempt!r} was told that it is stored, before its end was sent")
        if attempt.told == REFUSED:
            raise self.wrong(f"{attempt!r} was told that it is refused, and then stored as {name}")
        if size is not None and size != attempt.size and not (idle and size <= attempt.sent):
            raise self.wrong(f"{attempt!r} was told a size of {size}")
        if sha256 is not None and sha256 != attempt.digest(size):
            raise self.wrong(f"{attempt!r} was told a wrong SHA-256: {sha256}")
        if name is not None:
            if attempt.name not in (None, name):
                raise self.wrong(f"{attempt!r} was told another name: {name}")
            other = self.names.setdefault(name, attempt)
            # A concatenation that is asked for again is stored once.
            if other is not attempt and not (attempt.parts and other.parts == attempt.parts):
                raise self.wrong(f"{name} was told to both {other!r} and {attempt!r}")
            attempt.name = name
            if self.on_stored is not None:
                self.on_stored(attempt, name)
        attempt.told_at = min(attempt.told_at, self.now())
        self._tell(attempt, STORED)

    def refused(self, attempt: Attempt, code: str) -> None:
        """
        Note that a sender was told that its file is not stored.

        :raises Violation: it was told the contrary before.
        """
        if attempt.told == STORED:
            raise self.wrong(f"{attempt!r} was told that it is refused: {code}")
        attempt.code = code
        self._tell(attempt, REFUSED)

    def lost(self, attempt: Attempt) -> None:
        """Note that the connection of an attempt ended before an answer."""
        if attempt.told == NOTHING:
            self._tell(attempt, LOST)

    def aborted(self, attempt: Attempt) -> None:
        """Note that its sender has broken it off, or goes away without waiting."""
        if attempt.told == NOTHING:
            self._tell(attempt, ABORTED)

    def offset(self, attempt: Attempt, offset: int, floor: int) -> None:
        """
        Note an offset that was told.

        :param floor: the offset that had been told when it was asked for.
        :raises Violation: it has gone back, or is that of bytes that were never sent.
        """
        if offset < floor:
            raise self.wrong(f"{attempt!r}: offset {offset}, after {floor} had been told")
        if offset > attempt.sent:
            raise self.wrong(f"{attempt!r}: offset {offset}, but fewer bytes were sent")
        attempt.offset = max(attempt.offset, offset)

    def end(self, attempt: Attempt) -> None:
        """Note that its sender does nothing more about it."""
        if attempt.ended is None:
            attempt.ended = self.now()

    def tiny(self, size: int) -> list[Attempt]:
        """Return the attempts whose content is so small that it has no number."""
        return [it for it in self.attempts.values() if it.size == size]
