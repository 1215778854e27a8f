"""
How the runner of ``--on-upload`` handles the results of programs: their output, the
counts, and programs that other processes have started.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, wait_until
from tests.support.hook_markers import failed, lines, store_marked, waiting
from tests.support.hook_rig import FAILURE, NAME, Hooks, open_hooks
from tests.support.scraping import Scraper
from tests.support.stores import MILLISECONDS
from twisted_upload.hooks.command import HookEnd
from twisted_upload.hooks.runner import BUSY_PAUSE, LOOK_INTERVAL, PAUSES
from twisted_upload.hooks.spool import FAILED, HOOKS, WAITING, HookSpool
from twisted_upload.observability.metrics import (
    PROGRAM_DURATION,
    PROGRAMS,
    PROGRAMS_GIVEN_UP,
    PROGRAMS_RUNNING,
    PROGRAMS_WAITING,
    Samples,
    combine,
)

# -- programs of other processes ----------------------------------------------


def test_waits_for_others(hooks: Hooks) -> None:
    """While a program of another process runs for a file, none is started; it is logged once."""
    hooks.start()
    hooks.store()
    hooks.store(1)
    (first, _) = [hooks.path / HOOKS / WAITING / name for name in waiting(hooks.path)]
    with first.open("r+") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        hooks.threads.work()
        for _ in range(20):
            hooks.pass_time(BUSY_PAUSE)
        assert hooks.programs.names == [f"{MILLISECONDS}-1.bin"]
    hooks.pass_time(BUSY_PAUSE)
    assert hooks.programs.told[-1]["UPLOAD_NAME"] == NAME
    assert hooks.programs.told[-1]["UPLOAD_ATTEMPT"] == "1"
    assert waiting(hooks.path) == []
    assert [line for line in hooks.logged if "waiting" in line] == [
        f"warn: on-upload {NAME}: waiting for the program of a killed daemon to exit"
    ]


def test_marker_is_locked(hooks: Hooks) -> None:
    """While a program runs, its marker is locked; afterwards it is not."""
    hooks.start()
    hooks.store()
    (name,) = waiting(hooks.path)
    path = hooks.path / HOOKS / WAITING / name
    seen: list[bool] = []
    real = hooks.programs.run

    def run(variables: Any, held: int | None = None) -> HookEnd:
        seen.append(locked(path))
        real(variables, held)
        return FAILURE

    hooks.programs.run = run  # type: ignore[method-assign]
    hooks.threads.work()
    assert seen == [True]
    assert not locked(path)


def locked(path: Path) -> bool:
    """Whether a marker is locked."""
    with path.open("r+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def test_removed_while_being_locked(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A marker that is removed while it is being locked counts as gone."""
    hooks.start()
    hooks.store()
    (name,) = waiting(hooks.path)
    real = fcntl.flock

    def flock(descriptor: int, how: int) -> None:
        real(descriptor, how)
        (hooks.path / HOOKS / WAITING / name).unlink()

    monkeypatch.setattr(fcntl, "flock", flock)
    hooks.threads.work()
    assert hooks.programs.told == []
    assert "its marker is gone" in hooks.logged[0]


# -- one program for each file ------------------------------------------------


def test_found_before_it_is_reported(hooks: Hooks) -> None:
    """A file that is found on disk before it is reported gets one program, not two."""
    hooks.start()
    _, marker = store_marked(hooks.folder, (MILLISECONDS, 0), b"hello")
    hooks.queue.release(marker)
    hooks.clock.advance(LOOK_INTERVAL)
    hooks.threads.work(1)  # the scan, which has found it
    assert hooks.threads.waiting == 1
    hooks.runner.stored(hooks.queue, marker)
    assert hooks.threads.waiting == 1
    assert hooks.counts.running == 1


@pytest.mark.parametrize(
    "replace",
    [
        lambda path: path.symlink_to("/etc/passwd"),
        lambda path: path.write_bytes(b"hello"),
        lambda path: os.link("/etc/passwd", path),
        lambda path: path.with_name(f"{MILLISECONDS}-1.bin").rename(path),
    ],
    ids=["link", "same bytes", "hard link", "another upload"],
)
def test_replaced_file(hooks: Hooks, replace: Callable[[Path], object]) -> None:
    """A program is started only for the stored file, not for another one of the same name."""
    hooks.start()
    hooks.store(1)
    hooks.threads.work()
    hooks.store()
    path = hooks.path / NAME
    path.rename(path.with_name("moved"))  # so that its inode stays in use
    try:
        replace(path)
    except OSError:
        pytest.skip("on another file system")
    hooks.threads.work()
    assert NAME not in hooks.programs.names
    assert hooks.logged[-1] == f"info: on-upload {NAME}: nothing to do, the file is gone (0 ms)"


def test_changed_inode(hooks: Hooks) -> None:
    """If a file system changes a file's inode, it is recognized by size and time."""
    hooks.start()
    hooks.store()
    path = hooks.path / NAME
    status = path.stat()
    path.rename(path.with_name("moved"))
    path.write_bytes(b"hello")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    hooks.threads.work()
    assert hooks.programs.names == [NAME]


def test_file_of_another_user(hooks: Hooks) -> None:
    """A file of another user is never accepted, even if its size and time are forged."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give a file to another user")
    hooks.start()
    hooks.store()
    path = hooks.path / NAME
    status = path.stat()
    path.rename(path.with_name("moved"))
    path.write_bytes(b"virus")
    os.chown(path, 12345, 12345)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    hooks.threads.work()
    assert hooks.programs.names == []


def test_unstable_inodes(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system with unstable inodes, a file is recognized by size and time."""
    real = os.fstat
    with monkeypatch.context() as patch:  # when it was written, it had another inode

        def fstat(descriptor: int) -> Any:
            status = real(descriptor)
            numbered = [*status]
            numbered[1] += 1_000_000
            return os.stat_result(numbered, {"st_mtime_ns": status.st_mtime_ns})

        patch.setattr(os, "fstat", fstat)
        _, one = store_marked(hooks.folder, (MILLISECONDS, 0), b"hello")
        _, other = store_marked(hooks.folder, (MILLISECONDS, 1), b"hello")
    (hooks.path / f"{MILLISECONDS}-1.bin").write_bytes(b"foreign")
    hooks.start()
    for marker in one, other:
        hooks.runner.stored(hooks.queue, marker)
    hooks.threads.work()
    assert hooks.programs.names == [NAME]


# -- the queue ----------------------------------------------------------------


def test_scans_continue_after_a_slow_one(hooks: Hooks) -> None:
    """A scan that is slow because of the disk is not the last one."""
    hooks.start()
    hooks.clock.advance(LOOK_INTERVAL)
    assert hooks.threads.waiting == 1
    for _ in range(5):
        hooks.clock.advance(LOOK_INTERVAL)
    assert hooks.threads.waiting == 1, "scans do not pile up"
    hooks.threads.work()
    hooks.store(tell=False)
    hooks.pass_time(LOOK_INTERVAL)
    assert hooks.programs.names == [NAME]


def test_no_scan_without_progress(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """If nothing can be read at the moment, the next scan is at its usual time, not at once."""
    monkeypatch.setattr("twisted_upload.hooks.runner.BATCH", 4)
    for serial in range(9):
        hooks.store(serial, tell=False)

    def unreadable(*_: object) -> bool:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(HookSpool, "read", unreadable)
        hooks.start()
        for _ in range(3):
            hooks.pass_time(LOOK_INTERVAL)
    error = f"error: on-upload: cannot read some of {hooks.path}/{HOOKS}, will retry: Input/output"
    assert [line[: len(error)] for line in hooks.logged] == [error] * 4
    hooks.pass_time(LOOK_INTERVAL)
    assert len(hooks.programs.told) == 9


def test_many_bad_markers(hooks: Hooks) -> None:
    """Of many bad markers, the log names some and counts the others."""
    for serial in range(13):
        hooks.store(serial, tell=False)
    for name in waiting(hooks.path)[:12]:
        (hooks.path / HOOKS / WAITING / name).write_text("?\n")
    hooks.start()
    assert len([line for line in hooks.logged if "is unusable: it does not hold" in line]) == 10
    assert "error: on-upload: 2 more markers cannot be used" in hooks.logged
    assert len(failed(hooks.path)) == 12
    assert len(hooks.programs.told) == 1


def test_marker_cannot_be_moved(hooks: Hooks) -> None:
    """A marker that can neither be used nor moved is logged once, with its path."""
    hooks.store(tell=False)
    (name,) = waiting(hooks.path)
    path = hooks.path / HOOKS / WAITING / name
    path.unlink()
    path.mkdir()
    (hooks.path / HOOKS / FAILED / name / "x").mkdir(parents=True)  # blocks the name
    hooks.start()
    hooks.pass_time(LOOK_INTERVAL)
    told = [line for line in hooks.logged if "error" in line]
    assert told == [
        f"error: on-upload: marker {name} is unusable and cannot be moved: it is not a file;"
        f" Directory not empty; left in {path.parent}"
    ]


def test_success_cannot_be_recorded(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    If the marker of a file cannot be removed, that is retried, and its program, which has
    succeeded, is not started again.
    """
    hooks.start()

    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(HookSpool, "remove", read_only)
        hooks.store()
        hooks.threads.work()
        for pause in PAUSES:
            hooks.pass_time(pause)
    assert hooks.logged[0] == (
        f"warn: on-upload {NAME}: exit status 0, but its marker cannot be removed:"
        " Read-only file system (100 ms); no attempt used, retrying in 1.0 s"
    )
    hooks.pass_time(PAUSES[-1])
    assert len(hooks.programs.told) == 1
    assert waiting(hooks.path) == []
    assert hooks.logged[-1] == f"info: on-upload {NAME}: exit status 0 (100 ms)"


# -- output of programs -------------------------------------------------------

LOUD = HookEnd("exit status 3", succeeded=False, seconds=0.1, said=r"no table\x1b[2J {name}\n")


def test_output_of_failures(hooks: Hooks) -> None:
    """The output of a failing program is in each log line, and in the marker."""
    hooks.start()
    hooks.programs.ends[NAME].extend([LOUD] * 3)
    hooks.store()
    hooks.threads.work()
    for pause in PAUSES[:2]:
        hooks.pass_time(pause)
    assert len(hooks.logged) == 3
    assert all(line.endswith(rf"; output: {LOUD.said}") for line in hooks.logged)
    (name,) = failed(hooks.path)
    assert lines(hooks.path / HOOKS / FAILED / name)[1]["said"] == LOUD.said


def test_no_output_of_successes(hooks: Hooks) -> None:
    """The output of a successful program is not logged."""
    hooks.start()
    hooks.programs.ends[NAME].append(
        HookEnd("exit status 0", succeeded=True, seconds=0.1, said="done")
    )
    hooks.store()
    hooks.threads.work()
    assert "done" not in hooks.logged[0]


def test_real_program(tmp_path: Path) -> None:
    """The last 4 KiB of a real program's output are one escaped log line."""
    script = tmp_path / "program"
    script.write_text(
        "#!/bin/sh\nhead -c 1M /dev/zero | tr '\\0' a\n"
        "printf 'no table\\n\\033[2J \\303\\251\\377' >&2\nexit 3\n"
    )
    script.chmod(0o755)
    with Daemon(tmp_path, f"--on-upload={script}", "--on-upload-attempts=1") as daemon:
        daemon.send(b"hello")
        line = daemon.wait_for_line("GIVEN UP")
        said = line.rstrip("\n").partition("; output: ")[2]
        assert said.endswith("aaa" + r"no table\n\x1b[2J é\xff")
        assert re.fullmatch(r"a{4000,4096}no table.+", said)
        assert (
            len(said.encode().partition(b"no")[0]) + len(b"no table\n\x1b[2J \xc3\xa9\xff") == 4096
        )
        (name,) = wait_until(lambda: failed(daemon.directory), "its note")
        text = (daemon.directory / HOOKS / FAILED / name).read_text()
        assert json.loads(text.splitlines()[1])["said"] == said


# -- counts -------------------------------------------------------------------


def test_counts(hooks: Hooks) -> None:
    """Files that wait, run, have succeeded, have failed and are set aside are counted."""

    def counts() -> dict[str, Any]:
        samples = hooks.counts.samples("/in")
        return {
            "waiting": samples[PROGRAMS_WAITING.name]["/in",],
            "running": samples[PROGRAMS_RUNNING.name]["/in",],
            "succeeded": samples[PROGRAMS.name]["/in", "succeeded"],
            "failed": samples[PROGRAMS.name]["/in", "failed"],
            "aside": samples[PROGRAMS_GIVEN_UP.name]["/in",],
        }

    assert set(counts().values()) == {0}
    for serial in range(3):
        hooks.programs.ends[hooks.store(serial, tell=False)].append(FAILURE)
    hooks.programs.ends[NAME].extend([FAILURE] * 2)
    hooks.runner.start(lambda: hooks.queue)
    hooks.threads.work(1)  # the scan
    assert counts() == {"waiting": 3, "running": 2, "succeeded": 0, "failed": 0, "aside": 0}
    hooks.threads.work()
    assert counts() == {"waiting": 3, "running": 0, "succeeded": 0, "failed": 3, "aside": 0}
    hooks.pass_time(PAUSES[0])
    hooks.pass_time(PAUSES[1])
    assert counts() == {"waiting": 3, "running": 0, "succeeded": 2, "failed": 5, "aside": 1}
    hooks.pass_time(LOOK_INTERVAL)
    assert counts()["waiting"] == 0
    *durations, seconds = hooks.counts.samples("/in")[PROGRAM_DURATION.name]["/in",]
    assert (sum(durations), round(seconds, 6)) == (7, 0.7)
    (name,) = failed(hooks.path)
    (hooks.path / HOOKS / FAILED / name).unlink()
    hooks.pass_time(LOOK_INTERVAL)
    assert counts()["aside"] == 0


def test_removed_file_is_not_counted(hooks: Hooks) -> None:
    """A file that is gone is neither a success nor a failure."""
    hooks.start()
    hooks.store()
    (hooks.path / NAME).unlink()
    hooks.threads.work()
    assert hooks.counts.samples("/in")[PROGRAMS.name] == {
        ("/in", "succeeded"): 0,
        ("/in", "failed"): 0,
    }


def test_counted_beyond_the_memory_limit(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that do not fit in memory are counted too."""
    monkeypatch.setattr("twisted_upload.hooks.runner.MOST_KNOWN", 5)
    hooks.start()
    for serial in range(20):
        hooks.store(serial)
    hooks.clock.advance(LOOK_INTERVAL)
    while hooks.counts.waiting == 0:
        hooks.threads.work(1)
    assert hooks.counts.waiting >= 15
    hooks.threads.work()
    assert len(hooks.programs.told) == 20


def test_counts_of_processes(tmp_path: Path) -> None:
    """Among several processes, waiting files are counted once, and the rest is summed."""

    def seen() -> Samples:
        with open_hooks(tmp_path) as hooks:
            hooks.start()
            hooks.pass_time(LOOK_INTERVAL)
            return hooks.counts.samples("/in")

    with open_hooks(tmp_path) as other:
        for serial in range(3):
            other.store(serial, tell=False)
        whole = combine([seen(), seen()])
    assert whole[PROGRAMS_WAITING.name]["/in",] == 3


@pytest.mark.parametrize("workers", ["1", "2"])
def test_real_metrics(tmp_path: Path, workers: str) -> None:
    """The real daemon exports the counts, with and without workers."""
    go = tmp_path / "go"
    options = [
        f"--on-upload=sh -c 'until [ -e {go} ]; do sleep 0.05; done; exit $(($UPLOAD_SIZE - 1))'",
        *("--on-upload-attempts=1", "--metrics=0", f"--workers={workers}"),
    ]
    with Daemon(tmp_path, *options) as daemon:
        scraper = Scraper(daemon)
        daemon.send(b"1")
        daemon.send(b"22")
        directory = str(daemon.directory)
        scraper.wait_for(2, "programs_running", directory=directory)
        go.touch()
        scraper.wait_for(1, "programs_total", directory=directory, outcome="succeeded")
        scraper.wait_for(1, "programs_given_up", directory=directory)
        page = scraper.wait_for(2, "program_duration_seconds_count", directory=directory)
        assert page.sum("programs_total", outcome="failed") == 1
        assert page.sum("programs_running") == 0
