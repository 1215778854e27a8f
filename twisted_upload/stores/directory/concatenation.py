"""
Makes one file of complete parts.

Inside the kernel, and on file systems that can, without copying a byte.  The parts are
not locked, as complete ones do not change; meanwhile, they are pinned: nothing in this
process removes them.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from twisted_upload.errors import Conflict, NotFound
from twisted_upload.interfaces import PartialTerms, PartialUpload
from twisted_upload.stores.directory.partial_folder import key_of
from twisted_upload.stores.directory.partials import DirectoryPartials, uncancelled
from twisted_upload.stores.directory.resumable_file import ResumableFile
from twisted_upload.stores.directory.resumable_open import open_part
from twisted_upload.stores.partial_uploads import checked_identity, new_identity, with_length

__all__ = ["concatenate"]

STEP = 64 * 1024 * 1024
"""Bytes that a disk thread copies at a time."""


def concatenate(
    partials: DirectoryPartials, terms: PartialTerms, identities: Sequence[str]
) -> Deferred[PartialUpload]:
    """See `IResumableStore.concatenate`."""

    def begin() -> Deferred[PartialUpload]:
        return uncancelled(_pinned(partials, terms, [checked_identity(it) for it in identities]))

    return partials.repeats.once(terms, identities, begin)


async def _pinned(
    partials: DirectoryPartials, terms: PartialTerms, identities: Sequence[str]
) -> PartialUpload:
    pinned = partials.index.pinned
    keys = [*dict.fromkeys(map(key_of, identities))]  # each once
    pinned.update(keys)
    try:
        return await _concatenate(partials, terms, identities)
    finally:
        for key in keys:
            pinned[key] -= 1
            if not pinned[key]:
                del pinned[key]


async def _concatenate(
    partials: DirectoryPartials, terms: PartialTerms, identities: Sequence[str]
) -> PartialUpload:
    partials.check_refusal()
    copier = _Copier(partials, terms.owner, identities)
    try:
        length = await partials.uses.run(copier.measure)
    except NotFound:
        partials.misrouted.missed(identities[copier.at])
        raise
    terms = with_length(terms, length)._replace(is_part=False)
    identity = new_identity(partials.random, partials.node)
    part = await partials.begin_new(identity, terms, copying=True)
    try:
        while part.size < length:
            await partials.uses.run(lambda: copier.copy(part), background=True)
        await partials.uses.run(copier.close)
    except Exception:
        part.gone = True
        try:
            await partials.uses.run(copier.close)
        finally:
            await partials.uses.release(part)
        raise
    return await partials.store_new(part, identity)


class _Copier:
    """
    Copies parts one after the other; each method runs in a disk thread.

    :ivar at: the number of the part that is open, or could not be opened.
    """

    def __init__(self, partials: DirectoryPartials, owner: str, identities: Sequence[str]) -> None:
        self._partials = partials
        self._owner = owner
        self._began = partials.now()  # a part that expires later can still be copied
        self._keys = [key_of(identity) for identity in identities]
        self.at = -1
        self._source: int | None = None
        self._left = 0

    def measure(self) -> int:
        """Check all parts, and return the sum of their lengths."""
        total = 0
        for _ in self._keys:
            self._open_next()
            total += self._left
            self.close()
        self.at = -1
        return total

    def copy(self, part: ResumableFile) -> None:
        """Copy at most `STEP` bytes of one part."""
        while not self._left:
            self._open_next()
        assert self._source is not None
        copied = part.copy_from(self._source, min(STEP, self._left))
        if not copied:
            raise OSError("a part has become shorter")
        self._left -= copied

    def close(self) -> None:
        """Close the part that is open."""
        source, self._source, self._left = self._source, None, 0
        if source is not None:
            self._partials.uses.at().files.close(source)

    def _open_next(self) -> None:
        self.close()
        self.at += 1
        at, key = self._partials.uses.at(), self._keys[self.at]
        try:
            self._source, self._left = open_part(at, key, self._owner, self._began)
        except ValueError:
            raise Conflict from None
