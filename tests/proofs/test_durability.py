"""
Short versions of the durability proofs: see ``tests/proofs`` for the full ones.
"""

from __future__ import annotations

import os

import pytest

from tests.proofs.rigs import SKIPPED
from tests.support.daemon import run_module

LONG = bool(os.environ.get("LONG_TESTS"))

SLOWLY = 180
"""Seconds for a proof with an object store: it takes 15, and minutes on a busy machine."""


def prove(name: str, *options: str, holds: bool = True, seconds: float = 55) -> str:
    """Run a proof; return its output."""
    done = run_module(f"tests.proofs.{name}", *options, timeout=seconds)
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip().splitlines()[-1])
    assert done.returncode == (0 if holds else 1), done.stdout
    verdict = "held" if holds else "was broken"
    assert f"the promise {verdict}" in done.stdout, done.stdout
    return done.stdout


def test_kill() -> None:
    """However often the daemon is killed, what was acknowledged is there, whole, once."""
    prove("kill", "--rounds=5")


def test_power_cut() -> None:
    """When the power fails right after a success has been read, that file is on disk, whole."""
    prove("power_cut", "--cuts=6", "--controls=0")


def test_power_cut_hook() -> None:
    """When the power fails, every file that is visible has its marker; unsynced ones are lost."""
    prove("power_cut", "--hook", "--cuts=4", "--controls=2")


def test_hook() -> None:
    """However often the daemon is killed, the program has run for every stored file."""
    prove("hook", "--kills=2", "--only", "succeeds", "hangs")


def test_power_cut_can_fail() -> None:
    """The power cut proof finds the uploads that are lost with --no-fsync."""
    said = prove("power_cut", "--cuts=2", "--controls=0", "--no-fsync", holds=False)
    assert "WRONG: as shipped: lost upload" in said


def test_resume() -> None:
    """Killed or without power: partial uploads continue at, or after, the last offset told."""
    prove("resume", "--kills=3", "--cuts=3", "--controls=0")


def test_resume_can_fail() -> None:
    """That proof finds the bytes that are lost with --no-fsync."""
    said = prove("resume", "--kills=0", "--cuts=2", "--controls=0", "--no-fsync", holds=False)
    assert "WRONG: as shipped: " in said


def test_failing_calls() -> None:
    """If a system call fails, only that upload fails, nothing is left, and uploads continue."""
    prove("faults", "--only=calls", "--quick")


def test_full_disk() -> None:
    """On a full disk, an upload is refused, its space is released, and small ones continue."""
    prove("faults", "--only=small")


@pytest.mark.skipif(not LONG, reason="takes 5 s: with LONG_TESTS=1, or tests.proofs.faults")
def test_broken_device() -> None:
    """If a device reports errors, the store refuses uploads until the device has recovered."""
    prove("faults", "--only=device")


@pytest.mark.parametrize("options", [[], ["--hook"]], ids=["", "hook"])
def test_watch(options: list[str]) -> None:
    """A process that watches the directory sees one event for each file, when it is whole."""
    prove("watch", "--uploads=200", *options)


def test_stall() -> None:
    """A stalled disk delays neither the reactor nor another store."""
    # Other tests may use the machine too; half a second is still less than the stall.
    options = ["--seconds=1.5", "--lag=0.5", "--speed=0.1"]
    prove("stall", *options, "--calls", *(["fsync", "write", "open"] if LONG else ["fsync"]))


def test_group_commit() -> None:
    """Small uploads that end together share the flushes of the disk."""
    prove("group_commit", "--turns=1", "--uploads=300", "--no-rate")


@pytest.mark.parametrize("options", [[], ["--limits"], ["--limits", "--proxy"]])
def test_fuzz(options: list[str]) -> None:
    """Senders that follow no rules leave no trace, with limits and proxies too."""
    prove("fuzz", "--connections=400", *options)


def test_http_fuzz() -> None:
    """
    Whatever HTTP clients send, nothing is stored that was not sent whole, no request is
    smuggled behind another, and nothing is left of them.
    """
    prove("http_fuzz", "--connections=300", "--seed=1")


def test_soak() -> None:
    """After uploads of every kind, all are accounted for, and the daemon has leaked nothing."""
    prove("soak", "--quick")


def test_soak_can_fail() -> None:
    """The soak proof notices if a file was removed before it had been compared."""
    said = prove("soak", "--quick", "--steal", holds=False)
    assert "WRONG: lost upload" in said


def test_balancer() -> None:
    """Behind a load balancer, no sender is affected if one of two daemons is restarted."""
    prove("balancer", "--rounds=2")


def test_fleet() -> None:
    """Behind HAProxy, a node may be restarted, killed or cut off: nothing acknowledged is lost."""
    prove("fleet", "--rounds=2", "--partitions=1", "--seconds=2", "--enough=10")


@pytest.mark.skipif(not LONG, reason="takes 30 s: with LONG_TESTS=1, or tests.proofs.fleet --store")
def test_fleet_store() -> None:
    """The same with an object store, which is killed, stalls, throttles and loses answers."""
    options = ("--rounds=1", "--partitions=0", "--seconds=0.5", "--enough=3")
    prove("fleet", "--store", *options)


def test_fleet_can_fail() -> None:
    """That proof notices if a file is missing."""
    said = prove("fleet", "--rounds=0", "--partitions=0", "--enough=5", "--steal", holds=False)
    assert "WRONG: lost upload" in said


def test_shared_folder() -> None:
    """Two daemons on one directory: one may be killed or restarted, and nothing is lost."""
    prove("shared_folder", "--rounds=4", "--enough=20")


def test_counts() -> None:
    """The metrics page of two workers agrees with their senders' answers and the files on disk."""
    prove("counts", "--uploads=500", "--workers=2")


@pytest.mark.skipif(not LONG, reason="takes a minute: with LONG_TESTS=1, or tests.proofs.forward")
def test_forward() -> None:
    """However often daemon and object store are killed, what was acknowledged is in both."""
    prove("forward", "--rounds=3", seconds=300)


@pytest.mark.timeout(SLOWLY)
def test_object_kills() -> None:
    """However often the daemon or its object store is killed, what was acknowledged is there."""
    prove("object_kills", "--daemons=3", "--engines=1", "--seed=3", seconds=SLOWLY - 5)


@pytest.mark.timeout(SLOWLY)
def test_object_kills_can_fail() -> None:
    """That proof notices an object that has been removed."""
    said = prove(
        "object_kills", "--daemons=1", "--engines=0", "--steal", holds=False, seconds=SLOWLY - 5
    )
    assert "WRONG: lost upload" in said


@pytest.mark.timeout(SLOWLY)
def test_object_load() -> None:
    """If the object store fails in every way under load, what was acknowledged is there."""
    prove("object_load", "--faults=5", seconds=SLOWLY - 5)
