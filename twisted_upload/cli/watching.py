"""Watching a folder: from a parsed command line to the exit status of the command."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from twisted_upload.cli.reactor import get_reactor, run_until_done
from twisted_upload.cli.streams import PROGRAM, ExitStatus, Streams
from twisted_upload.cli.watch_options import WatchOptions
from twisted_upload.client.content import CHUNK
from twisted_upload.client.files import ClientFiles
from twisted_upload.client.sending import Upload
from twisted_upload.client.system import SYSTEM, ClientSystem
from twisted_upload.client.upload import start_upload
from twisted_upload.client.watch.after import Delete, IAfter, Keep, Move
from twisted_upload.client.watch.events import FolderEvents, IFolderEvents
from twisted_upload.client.watch.folder import WatchedFolder
from twisted_upload.client.watch.record import SentRecord
from twisted_upload.client.watch.report import WatchReport
from twisted_upload.client.watch.resumption import WatchedUploads
from twisted_upload.client.watch.status import LockedFolder, WatchStatus, write_status
from twisted_upload.client.watch.watcher import Watcher
from twisted_upload.core.text import printable
from twisted_upload.disk.threads import DiskThreads, IDisk
from twisted_upload.receipt import Receipt

__all__ = ["Watching", "run_watch"]


def run_watch(options: WatchOptions, streams: Streams) -> int:
    """
    Watch a folder until a signal arrives.

    :return: the exit status.
    """
    try:
        locked = LockedFolder(options.state)
    except BlockingIOError:
        return _cannot(streams, f"{options.folder} is being watched by another process")
    except OSError as error:
        return _cannot(streams, f"{options.state}: {error.strerror}")
    try:
        reactor = get_reactor()
        threads = DiskThreads(reactor, 1, "watch")
        watching = Watching(options, streams.out.line, reactor, threads)
    except OSError as error:
        return _cannot(streams, f"{options.state}: {error.strerror}")
    try:
        failure = run_until_done(
            watching.reactor, streams.interrupts, watching.run, watching.interrupt
        )
    finally:
        watching.close()
        locked.close()
    if failure is not None:
        streams.err.line(printable(f"{PROGRAM}: internal error: {failure!r}"))
        return ExitStatus.FAILED
    return ExitStatus.OK


def _cannot(streams: Streams, why: str) -> int:
    streams.err.line(printable(f"{PROGRAM}: {why}"))
    return ExitStatus.SOURCE


class Watching:
    """
    Everything that watches one folder.

    :param say: called with each line.
    :param threads: one thread, in which whatever waits for a disk is done.
    :param system: what is asked of the kernel.
    :param events: makes what reports the files that were closed; see `FolderEvents`.
    :raises OSError: the record cannot be used.
    """

    def __init__(
        self,
        options: WatchOptions,
        say: Callable[[str], object],
        reactor: Any,
        threads: IDisk,
        *,
        system: ClientSystem = SYSTEM,
        events: Callable[[Any, str, Callable[[str], object]], IFolderEvents] = FolderEvents,
    ) -> None:
        self.reactor = reactor
        self._options = options
        self._say = say
        self._system = system
        self._files = files = system.files
        self._ended: Deferred[None] = Deferred()
        self._stopping = False
        watched = files.real_path(options.folder)
        status = WatchStatus(watched, str(options.to), system.now())
        self._report = WatchReport(status, say, self._write, reactor, system.now)
        self._folder = WatchedFolder(options.folder, options.settle, self._wanted, files)
        self._record = SentRecord(os.path.join(options.state, "record"), self._exists, files)
        state = os.path.join(options.state, "uploads")
        self._uploads = WatchedUploads(state, now=system.now, system=system)
        self._run = threads.run
        self._watcher = Watcher(
            self._folder,
            self._record,
            self,
            _after(options),
            self._report,
            run=threads.run,
            sha256=functools.partial(_sha256, files),
            clock=reactor,
            now=system.now,
            chance=system.chance,
            jobs=options.jobs,
        )
        self._events = events(reactor, options.folder, self._closed)

    def run(self) -> Deferred[None]:
        """Begin; fires at the end."""
        if not self._stopping:
            self._say(printable(f"watching {self._options.folder}, to {self._options.to}"))
            self._events.start()
            self._watcher.start()
        return self._ended

    def interrupt(self, number: int) -> None:
        """Stop, because of a signal."""
        self._stopping = True
        self._events.stop()
        self._watcher.stop().addBoth(lambda _: self._ended.callback(None))

    def close(self) -> None:
        """Write the status for the last time, and close the record."""
        self._report.close()
        self._record.close()

    def _wanted(self, path: str, *, is_folder: bool) -> bool:
        patterns = self._options.patterns
        if patterns.excludes(path, is_folder=is_folder):
            return False
        return is_folder or patterns.includes(path)

    def _exists(self, path: str) -> bool:
        return self._folder.status(path) is not None

    def _closed(self, name: str) -> None:
        noted = self._run(functools.partial(self._folder.closed, name))
        # What cannot be looked at now is found by a scan.
        noted.addCallbacks(lambda _: self._watcher.look_soon(), lambda _: None)

    def send(self, path: str, name: str) -> Deferred[Receipt]:
        """See `ISender`."""
        arguments = Upload(
            path,
            self._options.to,
            token=self._options.token,
            name=name,
            sha256=True,
            retry=0.0,
            state=self._uploads,
            progress=functools.partial(self._report.progress, name),
            system=self._system,
        )
        return start_upload(arguments, self.reactor)

    def recorded(self, path: str) -> None:
        """See `ISender`."""
        self._uploads.done(self._files.real_path(path))

    def _write(self, status: WatchStatus) -> None:
        with contextlib.suppress(OSError):  # those who read it see that it is old
            write_status(self._options.state, status, self._files)


def _after(options: WatchOptions) -> IAfter:
    if options.move_to is not None:
        return Move(options.move_to)
    return Delete() if options.delete else Keep()


def _sha256(files: ClientFiles, path: str) -> str:
    digest = hashlib.sha256()
    descriptor = files.open(path, os.O_RDONLY)
    try:
        while chunk := files.read(descriptor, CHUNK):
            digest.update(chunk)
    finally:
        files.close(descriptor)
    return digest.hexdigest()
