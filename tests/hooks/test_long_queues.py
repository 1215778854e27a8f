"""
Queues of programs that are longer than what is known in memory.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from tests.support.hook_markers import failed, waiting
from tests.support.hook_rig import FAILURE, Hooks
from twisted_upload.hooks.runner import LOOK_INTERVAL, PAUSES
from twisted_upload.hooks.spool import HookSpool
from twisted_upload.hooks.spool_scan import scan


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have only a few files fit in memory."""
    monkeypatch.setattr("twisted_upload.hooks.runner.MOST_KNOWN", 10)
    monkeypatch.setattr("twisted_upload.hooks.runner.BATCH", 4)


@pytest.mark.usefixtures("few")
def test_many_left_by_an_earlier_daemon(hooks: Hooks) -> None:
    """Of many files that an earlier daemon left, a few are in memory, and all get a program."""
    names = [hooks.store(serial, tell=False) for serial in range(50)]
    hooks.runner.start(lambda: hooks.queue)
    while hooks.threads.waiting:
        hooks.threads.work(1)
        assert len(hooks.runner._known) <= 14
    assert hooks.programs.names == names
    assert waiting(hooks.path) == []


@pytest.mark.usefixtures("few")
def test_many_at_once(hooks: Hooks) -> None:
    """Of many files that arrive while programs are busy, a few are in memory; all get one."""
    hooks.start()
    names = [hooks.store(serial) for serial in range(50)]
    assert len(hooks.runner._known) == 10
    hooks.threads.work()
    assert sorted(hooks.programs.names) == sorted(names)
    assert waiting(hooks.path) == []


@pytest.mark.usefixtures("few")
def test_many_that_fail(hooks: Hooks) -> None:
    """Of many that fail, a few are retried at a time, and eventually all are."""
    hooks.start()
    for serial in range(30):
        hooks.programs.ends[hooks.store(serial)].extend([FAILURE] * 3)
    for _ in range(60):
        hooks.pass_time(PAUSES[-1])
        assert len(hooks.runner._known) <= 14
    assert len(failed(hooks.path)) == 30


def test_long_queue(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a long queue, a scan takes more, because each one lists all of it."""
    monkeypatch.setattr("twisted_upload.hooks.runner.BATCH", 4)
    for serial in range(600):
        hooks.store(serial, tell=False)
    asked: list[int] = []

    def noted(spool: HookSpool, most: int, known: Any) -> Any:
        asked.append(most)
        return scan(spool, most, known)

    monkeypatch.setattr("twisted_upload.hooks.runner.scan", noted)
    hooks.start()
    assert asked[:2] == [4, 600 // 50]
    assert waiting(hooks.path) == []


def test_slow_scan(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan that takes long is not repeated soon: it takes a twentieth of the time at most."""
    seen: list[float] = []

    def slow(spool: HookSpool, most: int, known: Any) -> Any:
        seen.append(hooks.clock.seconds())
        hooks.clock.advance(3)
        return scan(spool, most, known)

    monkeypatch.setattr("twisted_upload.hooks.runner.scan", slow)
    hooks.start()
    for _ in range(20):
        hooks.pass_time(LOOK_INTERVAL)
    pauses = [after - before for before, after in pairwise(seen[1:])]
    assert len(pauses) >= 2
    assert min(pauses) >= 60
