"""
The durability proofs, in short: see ``tests/proofs`` for the long ones.
"""

from __future__ import annotations

import os

import pytest

from tests.proofs.rigs import SKIPPED
from tests.support.daemon import run_module

LONG = bool(os.environ.get("LONG_TESTS"))


def prove(name: str, *options: str, holds: bool = True) -> str:
    """Run a proof; what it says."""
    done = run_module(f"tests.proofs.{name}", *options)
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
    """However often the daemon is killed, the program has run for every kept file."""
    prove("hook", "--kills=2", "--only", "succeeds", "hangs")


def test_power_cut_can_fail() -> None:
    """The same rig finds what is lost with --no-fsync."""
    said = prove("power_cut", "--cuts=2", "--controls=0", "--no-fsync", holds=False)
    assert "WRONG: as shipped: lost upload" in said


def test_failing_calls() -> None:
    """A failing system call loses that upload alone, leaves nothing, and uploads go on."""
    prove("faults", "--only=calls", "--quick")


def test_full_disk() -> None:
    """On a full disk, an upload is refused, its space is given back, and small ones go on."""
    prove("faults", "--only=small")


@pytest.mark.skipif(not LONG, reason="takes 5 s: with LONG_TESTS=1, or tests.proofs.faults")
def test_broken_device() -> None:
    """A device that reports errors makes the store refuse, until it has healed."""
    prove("faults", "--only=device")


@pytest.mark.parametrize("options", [[], ["--hook"]], ids=["", "hook"])
def test_watch(options: list[str]) -> None:
    """A program that watches the directory sees one event for each file, when it is whole."""
    prove("watch", "--uploads=200", *options)


def test_stall() -> None:
    """A disk that stands still holds up neither the reactor nor another store."""
    # Other tests may share the machine: less than the two seconds of the stall.
    options = ["--seconds=1.5", "--lag=0.5", "--speed=0.1"]
    prove("stall", *options, "--calls", *(["fsync", "write", "open"] if LONG else ["fsync"]))


def test_group_commit() -> None:
    """Small uploads that end together share the flushes of the disk."""
    prove("group_commit", "--turns=1", "--uploads=300", "--no-rate")


@pytest.mark.parametrize("options", [[], ["--limits"], ["--limits", "--proxy"]])
def test_fuzz(options: list[str]) -> None:
    """Senders that keep to no rule leave no trace, whatever stands in their way."""
    prove("fuzz", "--connections=400", *options)


def test_soak() -> None:
    """After uploads of every kind all is accounted for, and the daemon has what it had before."""
    prove("soak", "--quick")


def test_soak_can_fail() -> None:
    """The same rig misses a file that was taken away before it had been compared."""
    said = prove("soak", "--quick", "--steal", holds=False)
    assert "WRONG: lost upload" in said


def test_balancer() -> None:
    """Behind a load balancer, no sender feels that one daemon of two stops and starts."""
    prove("balancer", "--rounds=2")


def test_counts() -> None:
    """The metrics page of two workers says what their senders have heard, and what is on disk."""
    prove("counts", "--uploads=500", "--workers=2")
