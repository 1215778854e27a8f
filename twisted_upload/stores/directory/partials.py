"""
The partial uploads of a directory store: the half in the reactor's thread.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from twisted_upload.errors import Busy, Conflict, NoSpace, UploadRefused
from twisted_upload.interfaces import IAppend, PartialTerms, PartialUpload
from twisted_upload.stores.directory.partial_append import CompleteAppend, PartialAppend
from twisted_upload.stores.directory.partial_folder import PartialFolder, key_of
from twisted_upload.stores.directory.partial_index import PartialIndex, PartialLimits
from twisted_upload.stores.directory.partial_scan import Entry
from twisted_upload.stores.directory.partial_uses import IPartialsStore, PartialUses, Use
from twisted_upload.stores.directory.repeats import ConcatenationRepeats
from twisted_upload.stores.directory.resumable_file import ResumableFile
from twisted_upload.stores.directory.resumable_open import create_resumable
from twisted_upload.stores.directory.stored_file import StoredFile
from twisted_upload.stores.misrouted import MisroutedLog
from twisted_upload.stores.partial_uploads import new_identity, put_off
from twisted_upload.stores.turns import Turn

__all__ = ["DirectoryPartials", "uncancelled"]

T = TypeVar("T")


class DirectoryPartials:
    """
    The partial uploads of a store; see `IResumableStore`.

    :param clock: times takeovers.
    :param misrouted: told of ids for which there is no upload.
    :param node: the node in their ids; see `new_identity`.
    :ivar random: returns so many random bytes.
    :ivar index: what is known of all of them.
    :ivar uses: opens them.
    :ivar repeats: has each concatenation done once.
    """

    def __init__(
        self,
        store: IPartialsStore,
        clock: IReactorTime,
        limits: PartialLimits,
        misrouted: MisroutedLog,
        node: str = "",
    ) -> None:
        self.index = PartialIndex(limits)
        self.node = node
        self.random = store.files.random
        self.misrouted = misrouted
        self.limits = limits
        self.uses = PartialUses(store, clock, self.index, misrouted.missed)
        self.repeats = ConcatenationRepeats(store.now, self.find)
        self._store = store
        # While those that have found an upload are told.
        self._found: dict[str, Use] = {}

    # IResumableStore

    def create(self, terms: PartialTerms) -> Deferred[PartialUpload]:
        """See `IResumableStore.create`."""
        return uncancelled(self._create(terms))

    async def _create(self, terms: PartialTerms) -> PartialUpload:
        identity = new_identity(self.random, self.node)
        part = await self.begin_new(identity, terms)
        if wants_storing(part):
            return await self.store_new(part, identity)
        await self.uses.release(part)
        return part.upload(identity)

    async def begin_new(
        self, identity: str, terms: PartialTerms, *, copying: bool = False
    ) -> ResumableFile:
        """
        Create an upload, and leave it open.

        :param copying: see `create_resumable`.
        """
        self.check_refusal()
        key, now, length = key_of(identity), self._store.now(), terms.arrival.length or 0
        self.index.admit(terms.group)
        if length > self.index.room(terms.group):
            raise NoSpace
        budget = self._store.free_space.budget
        until = put_off(terms.expires, self._store.now)

        def create() -> ResumableFile:
            at = self.uses.at(create=True)
            self._check_fits(at, length)
            return create_resumable(
                at, key, terms, now, until=until, copying=copying, budget=budget
            )

        self.index.put(key, Entry(terms.group, 0, terms.expires, stored=False))
        if copying:
            self.index.grow(key, terms.group, length)
        try:
            return await self.uses.run(create)
        except Exception:
            self.index.drop(key)
            raise

    def _check_fits(self, at: PartialFolder, size: int) -> None:
        """Refuse an upload that will not fit, before it is sent.  Waits for the disk."""
        space = at.files.free(at.folder.final)
        if space.total and size > space.free - self._store.free_space.reserve:
            raise NoSpace

    def find(self, identity: str) -> Deferred[PartialUpload]:
        """
        See `IResumableStore.find`.

        Most that find an upload then append to it at once: it is still open for them,
        which saves a disk job for each request of a client that sends small pieces.
        """
        kept = self.uses.kept(identity)
        if kept is not None:
            return succeed(kept.upload(identity))
        done: Deferred[PartialUpload] = Deferred()

        async def find() -> None:
            used = await self.uses.use(identity, wants_bytes, waits=False)
            turn, part, _ = used
            if part.is_complete:
                done.callback(await self._settle(used, identity))
                return
            if turn.wanted:
                self.uses.end(part, turn)
                done.callback(part.upload(identity))
                return
            self._found[part.key] = used
            done.callback(part.upload(identity))
            if self._found.pop(part.key, None) is not None:
                self.uses.end(part, turn)

        Deferred.fromCoroutine(find()).addErrback(done.errback)
        return done

    async def _settle(self, used: Use, identity: str) -> PartialUpload:
        """End the use of an upload; one that is still open is to be stored first."""
        turn, part, is_open = used
        if is_open:
            return await self.store_and_release(part, identity, turn)
        turn.end()
        return part.upload(identity)

    def set_length(self, identity: str, length: int) -> Deferred[PartialUpload]:
        """See `IResumableStore.set_length`."""

        def note(part: ResumableFile) -> bool:
            known = part.log.state.length
            if known is None and length >= part.committed:
                self._check_fits(part.at, length - part.committed)
                part.write_state(part.log.state._replace(length=length))
            elif known != length:
                raise Conflict
            return wants_storing(part)

        async def set_length() -> PartialUpload:
            return await self._settle(await self.uses.use(identity, note), identity)

        return uncancelled(set_length())

    def remove(self, identity: str) -> Deferred[None]:
        """See `IResumableStore.remove`."""

        async def remove() -> None:
            turn, part, _ = await self.uses.use(identity, self._remove)
            self.index.drop(part.key)
            turn.end()

        return uncancelled(remove())

    def _remove(self, part: ResumableFile) -> bool:
        if part.key in self.index.pinned:
            raise Busy("this upload is being concatenated; try again later")
        part.at.remove(part.key)
        part.at.sync()
        return False

    def append(
        self,
        identity: str,
        failed: Callable[[UploadRefused], None],
        ask_to_end: Callable[[], None],
        *,
        whole: bool,
        expires: float | None,
    ) -> Deferred[IAppend]:
        """See `IResumableStore.append`."""
        done: Deferred[IAppend] = Deferred()

        async def append() -> None:
            used = self._found.pop(key_of(identity), None) if self._found else None
            if used is None:
                used = await self.uses.use(identity, wants_bytes, waits=False)
            turn, part, _ = used
            if part.is_complete:
                done.callback(CompleteAppend(await self._settle(used, identity), failed))
                return
            try:
                self._check_writer(part)
            except UploadRefused:
                self.uses.end(part, turn)
                raise
            part.whole = whole
            part.log.until = put_off(expires, self.now)
            writer = PartialAppend(self._store, self, part, identity, turn, failed=failed)
            if done.called:  # cancelled
                writer.abort()
                return
            self.uses.writes(part.key)
            turn.hold(ask_to_end, writer.cut_off)
            done.callback(writer)
            turn.begun()

        try:
            self.check_refusal()
        except UploadRefused as refusal:
            done.errback(refusal)
        else:
            Deferred.fromCoroutine(append()).addErrback(done.errback)
        return done

    def _check_writer(self, part: ResumableFile) -> None:
        if self.uses.writers >= self.limits.most_writers:
            raise Busy
        self.index.room(part.log.origin.terms.group)

    # Using an upload

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return self._store.now()

    def check_refusal(self) -> None:
        """
        :raises UploadRefused: the store accepts no bytes at the moment.
        """
        refusal = self._store.refusal()
        if refusal is not None:
            raise refusal

    def store_complete(
        self, part: ResumableFile, identity: str, pieces: list[bytes], size: int
    ) -> Deferred[PartialUpload]:
        """See `IPartials.store_complete`."""

        def compute() -> None:
            try:
                part.compute_digest(pieces)
            except BaseException:
                part.discard()
                raise

        def publish(_: object) -> Deferred[StoredFile]:
            self._store.prepare(part)
            done: Deferred[StoredFile] = Deferred()
            self._store.commit(part, pieces, size, done.callback, alone=True)
            return done

        def stored(stored: StoredFile) -> PartialUpload:
            part.stored = stored
            now = self._store.now()
            for spool, marker in part.marks:
                marker.stored_as(stored.name)
                self._store.tell_stored(spool, marker)
            upload = part.upload(identity)
            return upload._replace(offset=stored.size, receipt=part.receipt(stored, now))

        needs_digest = part.log.origin.terms.arrival.digest
        ready = self._store.run_in_background(compute) if needs_digest else succeed(None)
        return ready.addCallback(publish).addCallback(stored)

    async def store_new(self, part: ResumableFile, identity: str) -> PartialUpload:
        """Store a complete upload whose id nobody knows; if that fails, remove it."""
        turn = await self.uses.take_turn(part.key)
        return await self.store_and_release(part, identity, turn, new=True)

    async def store_and_release(
        self, part: ResumableFile, identity: str, turn: Turn, *, new: bool = False
    ) -> PartialUpload:
        """
        Store a complete upload; then close it, and end the turn.

        :param new: remove it if that fails.
        """
        try:
            return await self.store_complete(part, identity, [], 0)
        except Exception:
            part.gone = new
            raise self._store.refusal_after(Failure()) from None
        finally:
            self.uses.end(part, turn)


def wants_storing(part: ResumableFile) -> bool:
    """Return whether all of an upload is there, and it is to be stored."""
    return part.is_complete and not part.is_stored and not part.is_part


def wants_bytes(part: ResumableFile) -> bool:
    """Return whether an upload is not complete, or is to be stored."""
    return not part.is_complete or wants_storing(part)


def uncancelled(coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    """Run a coroutine; cancelling the result only stops waiting for it."""
    done: Deferred[T] = Deferred()
    Deferred.fromCoroutine(coroutine).addCallbacks(done.callback, done.errback)
    return done
