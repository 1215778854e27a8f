"""
The simulated file system does what real ones do: the same scripts on both, with and without
power cuts.  The modules that these tests run have longer versions.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.proofs.rigs import SKIPPED
from tests.simulation.filesystem import SimulatedFiles
from tests.simulation.filesystem.comparison import MAKE, compare, links_are_protected
from tests.support.daemon import run_module
from twisted_upload.disk.mounts import MOUNTS, mount_of

LONG = 20 if os.environ.get("LONG_TESTS") else 1
KINDS = pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])


def run(name: str, *options: str) -> str:
    """Run a comparison; return its output."""
    module = f"tests.simulation.filesystem.{name}"
    done = run_module(module, *options, timeout=55 * LONG)
    if done.returncode == SKIPPED:
        pytest.skip(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_same_results_here(tmp_path: Path) -> None:
    """All calls return the same as on the file system of this machine's temporary files."""
    mount = mount_of(str(tmp_path), Path(MOUNTS).read_text("utf-8"))
    if mount is None or mount.kind not in MAKE or not links_are_protected():
        pytest.skip(f"not on one of {', '.join(MAKE)}, or hard links are not protected")
    for seed in range(1, 1 + 20 * LONG):
        assert compare(mount.kind, tmp_path, seed, os.geteuid()) == []


@KINDS
@pytest.mark.timeout(60 * LONG)
def test_same_results(kind: str) -> None:
    """All calls return the same as on real ext4, xfs and btrfs, for root and for other users."""
    assert f"| {kind} | 0 |" in run("comparison", f"--scripts={40 * LONG}", kind)


@KINDS
@pytest.mark.timeout(60 * LONG)
def test_power_cuts(kind: str) -> None:
    """What a power cut leaves of real ext4, xfs and btrfs is among what the simulation allows."""
    assert f"| {kind} | " in run("cuts", f"--scripts={8 * LONG}", kind)


def test_differences_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that the simulation gets wrong is found."""
    monkeypatch.setattr(SimulatedFiles, "_check_target", lambda *_: None)
    wrong = [
        line for seed in range(1, 60) for line in compare("ext4", tmp_path, seed, os.geteuid())
    ]
    assert any("EISDIR" in line or "ENOTDIR" in line for line in wrong)
