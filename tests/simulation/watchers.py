"""
The real watcher in a simulated process, and the programs that put files into its folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tests.simulation.clients import ClientMachine
from tests.simulation.process import Process
from tests.simulation.threads import SimulatedThreads
from twisted_upload.cli.patterns import Patterns
from twisted_upload.cli.watch_options import WatchOptions
from twisted_upload.cli.watching import Watching
from twisted_upload.client.targets import parse_target
from twisted_upload.client.watch.status import LockedFolder, WatchStatus
from twisted_upload.disk.threads import DiskThreads
from twisted_upload.errors import OutcomeUnknown
from twisted_upload.receipt import Receipt

__all__ = ["DONE", "DROP", "FolderEvents", "RunningWatch", "Writer", "watch_options"]

DROP, DONE, STATE = "/home/drop", "/home/done", "/home/watch"
"""What is watched, where files are moved, and where the watcher keeps its state."""

Closed = Callable[[str], object]


def watch_options(
    target: str,
    *,
    token: str | None = None,
    then: str = "delete",
    settle: float = 2.0,
    jobs: int = 1,
) -> WatchOptions:
    """
    Return options.

    :param then: ``delete``, ``move`` or ``keep``: what becomes of a file that was stored.
    """
    return WatchOptions(
        folder=DROP,
        to=parse_target(target),
        token=token,
        delete=then == "delete",
        move_to=DONE if then == "move" else None,
        settle=settle,
        patterns=Patterns(),
        jobs=jobs,
        state=STATE,
    )


class FolderEvents:
    """
    What inotify is for a simulated machine: programs say which files they have closed.

    :ivar listeners: who is told.
    """

    def __init__(self) -> None:
        self.listeners: dict[_Listener, None] = {}

    def listener(self, reactor: Any, path: str, closed: Closed) -> _Listener:
        """Make what reports to a watcher."""
        return _Listener(self, reactor, closed)

    def tell(self, name: str) -> None:
        """Tell all that a file was closed, or moved there."""
        for listener in self.listeners:
            listener.tell(name)


class _Listener:
    def __init__(self, events: FolderEvents, reactor: Any, closed: Closed) -> None:
        self._events = events
        self._reactor = reactor
        self._closed = closed

    def start(self) -> None:
        """Begin."""
        self._events.listeners[self] = None

    def stop(self) -> None:
        """End."""
        self._events.listeners.pop(self, None)

    def tell(self, name: str) -> None:
        """Tell the watcher, soon."""
        if self._reactor.process.alive:
            self._reactor.callFromThread(self._closed, name)


class _NotedWatching(Watching):
    """Tells which receipts there are."""

    on_receipt: Callable[[str, Receipt], object]
    on_unknown: Callable[[str], object]
    status: WatchStatus | None = None

    def send(self, path: str, name: str) -> Deferred[Receipt]:
        """See `ISender`."""

        def note(receipt: Receipt) -> Receipt:
            self.on_receipt(name, receipt)
            return receipt

        def note_failure(failure: Failure) -> Failure:
            if failure.check(OutcomeUnknown) and "no longer knows" in str(failure.value):
                self.on_unknown(name)
            return failure

        return super().send(path, name).addCallbacks(note, note_failure)

    def _write(self, status: WatchStatus) -> None:
        self.status = status
        super()._write(status)


class RunningWatch:
    """
    A process that watches a folder, as ``twisted-upload watch`` does.

    :param on_receipt: called with the path of a file, relative to the folder, and its receipt.
    :param on_unknown: called with the path of a file if the server does not know any more
        whether it is stored.
    :param ended: called a moment after it has ended, in whatever way.
    :ivar process: the process.
    :ivar said: its lines.
    :ivar refused: why it could not start.
    """

    def __init__(
        self,
        machine: ClientMachine,
        options: WatchOptions,
        events: FolderEvents,
        on_receipt: Callable[[str, Receipt], object],
        on_unknown: Callable[[str], object] = lambda _: None,
        *,
        ended: Callable[[], object] = lambda: None,
    ) -> None:
        self.process: Process = machine.start()
        self.said: list[str] = []
        self.refused: OSError | None = None
        self._machine = machine
        self._options = options
        self._events = events
        self._on_receipt = on_receipt
        self._on_unknown = on_unknown
        self._reactor = machine.network.reactor(self.process)
        self._watching: _NotedWatching | None = None
        self._locked: LockedFolder | None = None
        self.process.on_death.append(lambda: machine.scheduler.call_soon(ended))
        machine.scheduler.spawn(self._main, self.process, "main")

    @property
    def is_over(self) -> bool:
        """Whether it has ended, or is dead."""
        return not self.process.alive

    @property
    def trouble(self) -> str:
        """What it says is in its way; empty if nothing is."""
        watching = self._watching
        return "" if watching is None or watching.status is None else watching.status.trouble

    def _main(self) -> None:
        process, reactor = self.process, self._reactor
        system = self._machine.system(process)
        threads = DiskThreads(reactor, 1, "watch", SimulatedThreads(process))
        try:
            self._locked = LockedFolder(self._options.state, system)
            self._watching = watching = _NotedWatching(
                self._options,
                self._say,
                reactor,
                threads,
                system=system,
                events=self._events.listener,
            )
        except OSError as error:
            self.refused = error
            process.kill()
            return
        watching.on_receipt, watching.on_unknown = self._on_receipt, self._on_unknown
        reactor.addSystemEventTrigger("after", "shutdown", self._close)
        reactor.callWhenRunning(lambda: watching.run().addBoth(lambda _: reactor.stop()))
        reactor.run()

    def _say(self, line: str) -> None:
        self.said.append(line)
        scheduler = self._machine.scheduler
        scheduler.trace.add(scheduler.now, self.process.name, "says", line)

    def _close(self) -> None:
        assert self._watching is not None
        assert self._locked is not None
        try:
            self._watching.close()
            self._locked.close()
        finally:
            self.process.kill()

    def stop(self) -> None:
        """Stop it in order (SIGTERM)."""
        if self._watching is None:
            self.process.kill()
        else:
            self._reactor.callFromThread(self._watching.interrupt, 15)


class Writer:
    """
    A process that puts a file into the watched folder, and syncs it; it tries again until that
    succeeds.

    :param path: relative to the folder.
    :param pieces: its content.
    :param pause: seconds between two pieces; less than the watcher waits for a file to settle.
    :param moves: whether it is written under a hidden name, and then moved; otherwise it grows
        in the folder.
    :param whole: called before its whole content is visible.
    :param done: called when it is there, durably.
    """

    def __init__(
        self,
        machine: ClientMachine,
        events: FolderEvents | None,
        path: str,
        pieces: list[bytes],
        *,
        pause: float = 0.0,
        moves: bool = True,
        whole: Callable[[], object] = lambda: None,
        done: Callable[[], object] = lambda: None,
    ) -> None:
        self.process = machine.start()
        self._scheduler = machine.scheduler
        self._files = machine.system(self.process).files
        self._events = events
        self._path = path
        self._pieces = pieces
        self._pause = pause
        self._moves = moves
        self._whole = whole
        self._done = done
        machine.scheduler.spawn(self._main, self.process, "main")

    def _main(self) -> None:
        self._until_done(self._write)
        self._until_done(self._sync)
        self._done()
        if self._events is not None and "/" not in self._path:
            self._events.tell(self._path)
        self.process.kill()

    def _until_done(self, function: Callable[[], object]) -> None:
        while True:
            try:
                function()
            except OSError:
                self._scheduler.pause(3.0)
            else:
                return

    def _write(self) -> None:
        files, target = self._files, f"{DROP}/{self._path}"
        folder, name = os.path.split(target)
        files.make_folders(folder)
        path = f"{folder}/.{name}.part" if self._moves else target
        descriptor = files.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        last = len(self._pieces) - 1
        for number, piece in enumerate(self._pieces):
            if number == last:
                self._whole()
            left = memoryview(piece)
            while left:
                left = left[files.write(descriptor, left) :]
            if self._pause and number < last:
                self._scheduler.pause(self._pause)
        files.fsync(descriptor)
        files.close(descriptor)
        if self._moves:
            files.replace(path, target)

    def _sync(self) -> None:
        self._files.sync_folder(os.path.dirname(f"{DROP}/{self._path}"))
        if "/" in self._path:
            self._files.sync_folder(DROP)
