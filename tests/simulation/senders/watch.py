"""
The real watcher among the senders: programs put files into its folder, and it sends them.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any, ClassVar

from tests.simulation.choices import Choices
from tests.simulation.filesystem.inodes import Folder
from tests.simulation.history import STORED, Attempt
from tests.simulation.oracles.clients import WatchedFiles
from tests.simulation.senders.client import machine_for
from tests.simulation.senders.scene import Scene
from tests.simulation.senders.sender import Script, Sender
from tests.simulation.watchers import DROP, FolderEvents, RunningWatch, Writer, watch_options
from twisted_upload.receipt import Receipt

__all__ = ["WATCH", "WatchSender", "WatchedFile"]

PATIENCE = 500.0
"""Seconds, after the last fault, in which all files must have been stored."""

SETTLE = 2.0

_CALLS = (
    *("open", "names", "status_of", "read_at", "write", "fsync", "replace", "unlink", "lock"),
    *("connect", "send", "recv", "poll", "close", "make_folder", "truncate", "turn"),
)
_DISK = ("open", "names", "status_of", "read_at", "write", "fsync", "replace", "unlink", "lock")


class WatchedFile:
    """
    A file that a program puts into the folder.

    :ivar attempt: its content.
    :ivar path: relative to the folder.
    :ivar is_there: whether it is there durably, and nobody but the watcher takes it away.
    """

    def __init__(self, attempt: Attempt, path: str) -> None:
        self.attempt = attempt
        self.path = path
        self.is_there = False


class WatchSender(Sender):
    """A machine with a watched folder, whose watcher is killed, and whose power is cut."""

    kind = "watch"
    honest: ClassVar[bool] = False  # it may take its time
    needs_http = True

    def __init__(self, scene: Scene, choices: Choices, number: int) -> None:
        super().__init__(scene, choices, number)
        self._machine = machine_for(self, "watch")
        self._machine.disk.plant_folder(DROP)
        self._cuts = choices.chance(0.4)
        self._fails = choices.chance(0.4)  # the disk
        self._oracle = WatchedFiles(scene.history)
        self._events = FolderEvents()
        self._files: list[WatchedFile] = []
        self._options = watch_options(
            f"http://{self.target.host}:{self.target.port}/",
            token=scene.facts.token or None,
            then=choices.pick(("delete", "move", "keep", "keep")),
            settle=SETTLE,
            jobs=choices.pick((1, 1, 3)),
        )
        self._watch: RunningWatch | None = None
        self._ending = False

    def script(self) -> Script:
        """Put files there, disturb the watcher, and wait until all has been sent."""
        choices, scheduler = self.choices, self.scene.scheduler
        busy = choices.pick((2.0, 20.0, 60.0))
        for number in range(1 + choices.below(5)):
            scheduler.call_later(busy * choices.random(), self._put, number)
        for _ in range(choices.below(5)):
            scheduler.call_later(1.3 * busy * choices.random(), self._disturb)
        self._start()
        yield from self.pause(1.3 * busy + 5.0)
        self._machine.disk.faults.none()
        end = max(self.scene.facts.calm, scheduler.now) + PATIENCE
        while scheduler.now < end and not self._all_are_sent():
            yield 5.0
        self._check()
        self._oracle.check_sent(self._files, self._excused())
        if self._cuts:
            self._machine.cut()
            yield from self.pause(30.0)  # whatever is sent now is sent twice
            self._check()
        self._ending = True
        watch = self._watch
        if watch is not None and not watch.is_over:
            watch.stop()
            yield from self.pause(5.0)
            if not watch.is_over:
                raise self.scene.history.wrong(f"{self._machine.name} does not stop")

    # The files

    def _put(self, number: int) -> None:
        """Let a program put a file there."""
        choices = self.choices.fork(f"file {number}")
        attempt = self.begin()
        path = f"{choices.pick(('', '', '', 'sub/'))}{number}.pdf"
        file = WatchedFile(attempt, path)
        self._files.append(file)
        data, cuts = attempt.data(), sorted(choices.below(attempt.size + 1) for _ in range(3))
        pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True) if a < b]

        def whole() -> None:
            attempt.complete, attempt.sent = True, attempt.size

        def done() -> None:
            file.is_there = True

        Writer(
            self._machine,
            self._events if choices.chance(0.7) else None,
            path,
            pieces,
            pause=choices.pick((0.0, 0.1, SETTLE / 2)),
            # After a power cut, a file that was growing would be taken for a whole one.
            moves=self._cuts or self._fails or choices.chance(0.5),
            whole=whole,
            done=done,
        )

    def _received(self, path: str, receipt: Receipt) -> None:
        """The watcher has a receipt: it is that of the file."""
        history = self.scene.history
        for file in self._files:
            attempt = file.attempt
            if file.path == path and receipt.sha256 == attempt.digest():
                history.stored(attempt, receipt.name, receipt.size, receipt.sha256)
                return
        raise history.wrong(f"{path}: a receipt for something else: {receipt!r}")

    def _is_unknown(self, path: str) -> None:
        """
        The server does not know any more whether a file is stored: it is sent again.

        That happens only if it was asked too late, or had to forget it.
        """
        facts, history = self.scene.facts, self.scene.history
        for file in self._files:
            if file.path == path:
                if not (facts.forgets or facts.resume_for < 3600):
                    raise history.wrong(f"the server does not know {file.attempt!r} any more")
                history.end(file.attempt)
                again = self.begin(again=file.attempt)
                again.complete, again.sent = True, again.size
                file.attempt = again

    def _all_are_sent(self) -> bool:
        excused = self._excused()
        return all(
            it.attempt.told == STORED or it.path in excused for it in self._files if it.is_there
        )

    def _excused(self) -> list[str]:
        """Return the paths of files that the server does not take."""
        facts, watch = self.scene.facts, self._watch
        code = "" if watch is None else watch.trouble.partition(":")[0]
        if code in ("busy", "no-space") and code in (facts.allowed or ()):
            return [it.path for it in self._files]  # it does what it can
        return [it.path for it in self._files if 0 < facts.max_size < it.attempt.size]

    def _check(self) -> None:
        self._oracle.check_kept(self._files, self._names())

    def _names(self) -> Iterator[str]:
        for path, inode in self._machine.disk.walk(DROP):
            if type(inode) is not Folder:
                yield path.removeprefix(f"{DROP}/")

    # The watcher

    def _start(self) -> None:
        self._watch = RunningWatch(
            self._machine,
            self._options,
            self._events,
            self._received,
            self._is_unknown,
            ended=self._restart,
        )

    def _restart(self) -> None:
        self._check()
        if not self._ending and self._watch is not None and self._watch.is_over:
            down = self.choices.pick((0.0, 0.5, 10.0)) * self.choices.random()
            self.scene.scheduler.call_later(down, self._start_again)

    def _start_again(self) -> None:
        if not self._ending and self._watch is not None and self._watch.is_over:
            self._start()

    def _disturb(self) -> None:
        choices, watch = self.choices, self._watch
        if watch is None or watch.is_over or self._ending:
            return
        what = ["kill", "at", "before", "before", "stop", "break"]
        what += ["disk"] * self._fails + ["cut", "cut"] * self._cuts
        match choices.pick(what):
            case "kill":
                watch.process.kill()
            case "at":
                watch.process.kill_at = watch.process.calls + choices.below(300)
            case "before":
                watch.process.kill_before[choices.pick(_CALLS)] = choices.below(8)
            case "stop":
                watch.stop()
            case "break":
                self._machine.break_connections()
            case "disk":
                number = choices.pick((errno.EIO, errno.ENOSPC))
                times: Any = choices.pick((1, 1, 5, 1_000_000))
                call, after = choices.pick(_DISK), choices.below(8)
                self._machine.disk.faults.fail(call, number, times=times, after=after)
                self.scene.scheduler.call_later(20.0, self._machine.disk.faults.none)
            case "cut":
                self._machine.cut()

    def finish(self) -> None:
        """Go away."""
        self._ending = True
        for process in self._machine.processes:
            process.kill()
        for file in self._files:
            self.scene.history.lost(file.attempt)
            self.scene.history.end(file.attempt)
        super().finish()


WATCH: tuple[type[Sender], ...] = (WatchSender,)
