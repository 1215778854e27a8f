"""
Rows in which something stalls or jumps: the process, the reader of its log, the time of
day.
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
"""Seconds by which the time of day is set forward or back, in turn."""

STOPPED = 2.5
"""Seconds for which it is stopped."""


def steady(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Send a whole upload in small pieces, with short pauses; an honest act."""
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
    """The process is stopped and continued, and senders that have not paused are not ended."""
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
    """Check that no upload was refused or ended: these senders are honest too."""
    for how in run.did.keys() - {"stored", "cut off"}:
        run.wrong.append(f"{run.did[how]} other senders: {how}")


@contextlib.contextmanager
def a_clock(work: Path, scale: Scale) -> Iterator[Place]:
    """Make it possible to set the daemon's time of day."""
    clock = SteppingClock(work / "clock")
    path = [clock.environment["PYTHONPATH"], *filter(None, [os.environ.get("PYTHONPATH")])]
    yield Place(["env", f"PYTHONPATH={os.pathsep.join(path)}"], link=clock)


def clock(run: Run) -> None:
    """The clock is set repeatedly, and no upload is refused or ended because of that."""
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
    """Make the daemon's standard output a pipe, with a reader that can be stopped."""
    reader = work / "reader"
    command = [sys.executable, str(Path(__file__).with_name("reader.py")), str(reader)]
    yield Place(command, link=reader)


def whole(crowd: Crowd, peer: Peer, number: int) -> Act:
    """Send a whole upload; an honest act, which causes a log line."""
    yield from peer.connect(crowd.address, crowd.source(number))
    yield from peer.send(acts.CONTENTS[number])
    peer.half_close()
    how = outcome((yield from peer.hear()))
    if how == "stored":
        crowd.report.promised.append(number)
    return how


def stuck(run: Run) -> None:
    """
    The reader of the log stalls, for more lines than the pipe holds; continues; and stalls
    again until the daemon has ended.
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
