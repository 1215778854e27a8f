"""
Rows in which something stands still, or jumps: the process, the reader of its
log, the time of day.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.proofs.abuse import acts
from tests.proofs.abuse.crowd import Crowd, Task
from tests.proofs.abuse.peers import READ, Act, Peer, Wait, outcome
from tests.proofs.abuse.row import Place, Run, Scale
from tests.support.stepping import SteppingClock

__all__ = ["a_clock", "a_reader", "clock", "stopped", "stuck"]

SILENCE = 1.0
"""Seconds of silence that end an upload, in the row with a stopped process."""

STEPS = (61.0, -3600.0, 86_400.0, -86_400.0, 3600.0)
"""Seconds by which the time of day is set forward or back, one after the other."""

STOPPED = 2.5
"""Seconds for which it is stopped."""


def steady(crowd: Crowd, peer: Peer, number: int) -> Act:
    """A whole upload in small pieces, one soon after the other; it is honest."""
    data, began = acts.CONTENTS[number], 0
    yield from peer.connect(crowd.address, crowd.source(number))
    while began < len(data):
        yield from peer.send(data[began : began + 64])
        began += 64
        if (yield Wait(READ, 0.05)):
            break
    else:
        peer.half_close()
    how = outcome((yield from peer.hear()))
    if how == "stored":
        crowd.report.promised.append(number)
    return how


def stopped(run: Run) -> None:
    """The process stands still and goes on, and those who have not paused are not ended."""
    task = Task(steady, at_a_time=30, rate=100, sources=acts.addresses(4))
    with run.gang(task) as gang:
        start = time.monotonic()
        for _ in range(1 if run.scale.quick else 3):
            run.watch.until(lambda: False, 1)
            run.honest.say("rest")
            run.watch.until(lambda: False, 0.2)
            run.daemon.signal(signal.SIGSTOP)
            try:
                run.watch.until(lambda: False, STOPPED)
            finally:
                run.daemon.signal(signal.SIGCONT)
            run.honest.say("abuse")
        run.watch.until(lambda: False, 1.5)
        gang.say("stop")
        run.count(gang.report())
        run.seconds += time.monotonic() - start
    run.settle()
    all_kept(run)


def all_kept(run: Run) -> None:
    """Those who came beside the honest are as honest: nobody was refused or ended."""
    for how in run.did.keys() - {"stored", "cut off"}:
        run.wrong.append(f"{run.did[how]} other senders: {how}")


@contextlib.contextmanager
def a_clock(work: Path, scale: Scale) -> Iterator[Place]:
    """The daemon's time of day can be set."""
    clock = SteppingClock(work / "clock")
    path = [clock.environment["PYTHONPATH"], *filter(None, [os.environ.get("PYTHONPATH")])]
    yield Place(["env", f"PYTHONPATH={os.pathsep.join(path)}"], link=clock)


def clock(run: Run) -> None:
    """It is set, again and again, and nobody is refused or ended for that."""
    clock: SteppingClock = run.place.link
    task = Task(steady, at_a_time=30, rate=100, sources=acts.addresses(4))
    with run.gang(task) as gang:
        start = time.monotonic()
        for step in STEPS:
            run.watch.until(lambda: False, 0.3 if run.scale.quick else 2)
            clock.step(step)
        run.watch.until(lambda: False, 2.5)
        gang.say("stop")
        run.count(gang.report())
        run.seconds += time.monotonic() - start
    run.settle()
    all_kept(run)


@contextlib.contextmanager
def a_reader(work: Path, scale: Scale) -> Iterator[Place]:
    """The daemon's standard output is a pipe, with a reader that can be stopped."""
    reader = work / "reader"
    command = [sys.executable, str(Path(__file__).with_name("reader.py")), str(reader)]
    yield Place(command, link=reader)


def whole(crowd: Crowd, peer: Peer, number: int) -> Act:
    """A whole upload; it is honest, and makes a line in the log."""
    yield from peer.connect(crowd.address, crowd.source(number))
    yield from peer.send(acts.CONTENTS[number])
    peer.half_close()
    how = outcome((yield from peer.hear()))
    if how == "stored":
        crowd.report.promised.append(number)
    return how


def stuck(run: Run) -> None:
    """
    The reader of the log stands still, for more lines than the pipe holds; goes on;
    and stands still again, to the end of the daemon.
    """
    reader = int(run.place.link.read_text())
    task = Task(whole, at_a_time=8, rate=300, sources=acts.addresses(4))
    os.kill(reader, signal.SIGSTOP)
    try:
        run.waves(task, 6)
    finally:
        os.kill(reader, signal.SIGCONT)
    os.kill(reader, signal.SIGSTOP)
    run.waves(task, 6)
    all_kept(run)
