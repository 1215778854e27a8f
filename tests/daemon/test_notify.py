"""
When a daemon notifies its service manager.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock

from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.daemon.notify import (
    DISK_FACTOR,
    EXTENSION,
    STATUS_INTERVAL,
    Counts,
    Notifications,
    StoredCount,
    total,
)
from twisted_upload.disk.threads import PoolStopped

WATCHDOG = 30.0


class Disk:
    """
    Disk threads under the control of the test.

    :ivar stuck: whether jobs never finish.
    :ivar done: how many jobs have finished.
    """

    def __init__(self) -> None:
        self.stuck = self.stopped = False
        self.done = 0
        self.waiting: list[Callable[[], None]] = []

    def run(self, job: Callable[[], Any]) -> Deferred[Any]:
        if self.stopped:
            return fail(PoolStopped())
        if not self.stuck:
            self.done += 1
            return succeed(job())
        later: Deferred[Any] = Deferred()
        self.waiting.append(lambda: later.callback(job()))
        return later

    run_in_background = run

    def yield_reactor(self, seconds: float) -> bool:
        return False

    def resume_reactor(self) -> None:
        pass

    def heal(self) -> None:
        self.stuck = False
        for finish in self.waiting:
            finish()
        self.waiting.clear()


class Manager:
    """A manager that records messages with their times, and may ignore them."""

    def __init__(self, clock: Clock) -> None:
        self.received: list[str] = []
        self.deaf = False
        self.clock = clock

    def __call__(self, message: str) -> bool:
        if not self.deaf:
            self.received.append(message)
        return not self.deaf

    def count(self, message: str) -> int:
        return self.received.count(message)


class Rig:
    def __init__(self, *disks: Disk, watchdog: float = 0.0) -> None:
        self.clock = Clock()
        self.manager = Manager(self.clock)
        self.status = "STATUS=fine"
        self.notifications = Notifications(
            self.manager, self.clock, lambda: self.status, disks, watchdog=watchdog
        )

    def passes(self, seconds: float) -> None:
        """Let time pass, in steps as small as a reactor's."""
        for _ in range(round(seconds)):
            self.clock.advance(1)


def test_ready() -> None:
    """READY comes first, then the status; without a watchdog there is no sign of life."""
    rig = Rig(Disk())
    rig.notifications.ready()
    assert rig.manager.received == ["READY=1", "STATUS=fine"]
    rig.passes(1000)
    assert rig.manager.received == ["READY=1", "STATUS=fine"]


def test_status() -> None:
    """The status is sent when it has changed, but not more often than every few seconds."""
    rig = Rig()
    rig.notifications.ready()
    for number in range(30):
        rig.status = f"STATUS={number}"
        rig.clock.advance(0.5)
    assert len([it for it in rig.manager.received if "STATUS" in it]) == 1 + 15 // STATUS_INTERVAL


def test_sent_again() -> None:
    """An important message is sent again if the manager did not accept it."""
    rig = Rig()
    rig.manager.deaf = True
    rig.notifications.ready()
    rig.passes(12)
    rig.manager.deaf = False
    rig.passes(6)
    assert rig.manager.received == ["READY=1", "STATUS=fine"]


def test_stopping() -> None:
    """While it stops, it keeps asking for more time before the time is over."""
    rig = Rig()
    rig.notifications.ready()
    rig.notifications.stopping()
    rig.passes(60)
    more = f"EXTEND_TIMEOUT_USEC={EXTENSION * 1e6:.0f}"
    assert rig.manager.received[2] == "STOPPING=1"
    assert rig.manager.count(more) == 1 + 60 // STATUS_INTERVAL
    assert EXTENSION > 2 * STATUS_INTERVAL
    rig.notifications.over()
    assert rig.clock.getDelayedCalls() == []


def test_reloading() -> None:
    """A reload is announced with the monotonic time that systemd expects, and ends with READY."""
    rig = Rig()
    rig.notifications.ready()
    rig.notifications.reloading()
    rig.notifications.reloaded()
    assert rig.manager.received[2].startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert rig.manager.received[3] == "READY=1"


def test_reloading_while_stopping() -> None:
    """A stopping daemon does not become ready again."""
    rig = Rig()
    rig.notifications.ready()
    rig.notifications.stopping()
    rig.notifications.reloaded()
    assert rig.manager.count("READY=1") == 1


def test_watchdog() -> None:
    """Two signs of life are sent per watchdog time, each after a job on each disk."""
    one, two = Disk(), Disk()
    rig = Rig(one, two, watchdog=WATCHDOG)
    rig.notifications.ready()
    rig.passes(WATCHDOG * 3)
    assert rig.manager.count("WATCHDOG=1") == 1 + 6
    assert one.done == two.done == 1 + 6


def test_disk_stalls_briefly() -> None:
    """A stalled disk is at first no reason to be killed."""
    disk = Disk()
    rig = Rig(disk, watchdog=WATCHDOG)
    disk.stuck = True
    rig.notifications.ready()
    rig.passes(WATCHDOG * (DISK_FACTOR - 1))
    disk.heal()
    rig.passes(WATCHDOG * DISK_FACTOR)
    assert rig.manager.count("WATCHDOG=trigger") == 0
    assert rig.manager.count("WATCHDOG=1") == 1 + 2 * (2 * DISK_FACTOR - 1)


def test_dead_disk_threads() -> None:
    """If the threads of one disk do nothing for far too long, systemd is told to act."""
    good, dead = Disk(), Disk()
    dead.stuck = True
    rig = Rig(good, dead, watchdog=WATCHDOG)
    rig.notifications.ready()
    rig.passes(WATCHDOG * DISK_FACTOR * 2)
    assert rig.manager.count("WATCHDOG=trigger") == 1
    assert rig.manager.count("WATCHDOG=1") == 2 * DISK_FACTOR
    assert len(dead.waiting) == 1


def test_stalled_process_does_not_blame_disk_threads() -> None:
    """Time during which the whole process was stalled does not count against disk threads."""
    disk = Disk()
    rig = Rig(disk, watchdog=WATCHDOG)
    disk.stuck = True
    rig.notifications.ready()
    rig.clock.advance(WATCHDOG * DISK_FACTOR * 2)
    assert rig.manager.count("WATCHDOG=trigger") == 0
    disk.heal()
    rig.passes(WATCHDOG * 2)
    disk.stuck = True
    rig.passes(WATCHDOG * DISK_FACTOR * 2)
    assert rig.manager.count("WATCHDOG=trigger") == 1


def test_ended_disk_threads() -> None:
    """At the end, when the threads accept no more jobs, a running reactor is enough."""
    disk = Disk()
    rig = Rig(disk, watchdog=WATCHDOG)
    rig.notifications.ready()
    disk.stopped = True
    rig.notifications.stopping()
    rig.passes(WATCHDOG * DISK_FACTOR * 2)
    assert rig.manager.count("WATCHDOG=trigger") == 0


@pytest.mark.parametrize("end", ["stored", "refused", "aborted"])
def test_stored_count(end: str) -> None:
    """Stored uploads are counted, others are not."""
    count = StoredCount()
    count(UploadOutcome(end, "upload", "192.0.2.7:1", 10, 0.1))
    assert count.number == (end == "stored")


def test_sum() -> None:
    """Counts can be added."""
    assert total([Counts(1, 2), Counts(3, 4)]) == Counts(4, 6)
    assert str(Counts(1, 6)) == "1 upload in flight, 6 stored since the start"
    assert str(Counts(4, 6)) == "4 uploads in flight, 6 stored since the start"
