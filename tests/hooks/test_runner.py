"""
Which program is started when.  ``test_command.py`` tests the programs themselves,
``test_spool.py`` the queue.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, sha256, wait_until
from tests.support.hook_markers import PEER, failed, lines, store_marked, waiting
from tests.support.hook_rig import FAILURE, NAME, NOT_STARTED, Hooks, open_hooks
from tests.support.stores import MILLISECONDS, Rig
from twisted_upload.errors import CannotStart
from twisted_upload.hooks.runner import LOOK_INTERVAL, PAUSES, UNCOUNTED_INTERVAL
from twisted_upload.hooks.spool import FAILED, HOOKS, WAITING
from twisted_upload.hooks.spool_scan import scan
from twisted_upload.interfaces import Arrival, Metadata


def test_started(hooks: Hooks) -> None:
    """For a stored file the program is started, with all its variables."""
    hooks.start()
    hooks.store(metadata=Metadata("photo.jpg", "image/jpeg", "Alice"))
    hooks.threads.work()
    assert hooks.programs.told == [
        {
            "UPLOAD_NAME": NAME,
            "UPLOAD_PATH": str(hooks.path / NAME),
            "UPLOAD_URL": "",
            "UPLOAD_SIZE": "5",
            "UPLOAD_SHA256": sha256(b"hello"),
            "UPLOAD_PEER": PEER,
            "UPLOAD_LISTENER": "front",
            "UPLOAD_ARRIVED": "1795328130.123",
            "UPLOAD_ATTEMPT": "1",
            "UPLOAD_ORIGINAL_NAME": "photo.jpg",
            "UPLOAD_CONTENT_TYPE": "image/jpeg",
            "UPLOAD_LABEL": "Alice",
            "UPLOAD_FOLDER": "",
        }
    ]
    assert waiting(hooks.path) == []
    assert hooks.logged == [f"info: on-upload {NAME}: exit status 0 (100 ms)"]
    assert hooks.programs.started


def test_number_of_programs(hooks: Hooks) -> None:
    """The number of programs is limited, and the next starts when one has ended."""
    hooks.start()
    for serial in range(5):
        hooks.store(serial)
    assert hooks.threads.waiting == 2
    hooks.threads.work(1)
    assert hooks.threads.waiting == 2
    hooks.threads.work()
    assert len(hooks.programs.told) == 5


def test_left_by_an_earlier_daemon(hooks: Hooks) -> None:
    """Files that an earlier daemon left are processed first, in order of arrival."""
    names = [hooks.store(serial, tell=False) for serial in (0, 1, 2)]
    hooks.start()
    assert hooks.programs.names == names
    assert waiting(hooks.path) == []


def test_moved_back(hooks: Hooks) -> None:
    """A marker that an operator moves back is found soon."""
    hooks.start()
    hooks.programs.ends[NAME].extend([FAILURE] * 3)
    hooks.store()
    for _ in range(3):
        hooks.threads.work()
        hooks.pass_time(PAUSES[-1])
    (name,) = failed(hooks.path)
    (hooks.path / HOOKS / FAILED / name).rename(hooks.path / HOOKS / WAITING / name)
    hooks.pass_time(LOOK_INTERVAL)
    assert [told["UPLOAD_ATTEMPT"] for told in hooks.programs.told] == ["1", "2", "3", "1"]
    assert (waiting(hooks.path), failed(hooks.path)) == ([], [])


def test_failure(hooks: Hooks) -> None:
    """A program that fails is restarted after growing pauses; finally its file is set aside."""
    hooks.start()
    hooks.programs.ends[NAME].extend([FAILURE] * 3)
    hooks.store()
    hooks.threads.work()
    for number, pause in enumerate(PAUSES[:2], 1):
        assert len(hooks.programs.told) == number
        hooks.pass_time(pause - 0.01)
        assert len(hooks.programs.told) == number
        hooks.pass_time(0.02)
    assert len(hooks.programs.told) == 3
    (name,) = failed(hooks.path)
    assert waiting(hooks.path) == []
    assert lines(hooks.path / HOOKS / FAILED / name)[1]["attempts"] == 3
    assert hooks.logged == [
        f"warn: on-upload {NAME}: exit status 3 (100 ms), attempt 1 of 3; retrying in 1.0 s",
        f"warn: on-upload {NAME}: exit status 3 (100 ms), attempt 2 of 3; retrying in 5.0 s",
        f"critical: on-upload {NAME}: exit status 3 (100 ms), attempt 3 of 3;"
        f" GIVEN UP, see {hooks.path}/{HOOKS}/{FAILED}",
    ]


@pytest.mark.parametrize(("chance", "pause"), [(0.0, 0.75), (1.0, 1.25)])
def test_pauses_differ(tmp_path: Path, chance: float, pause: float) -> None:
    """Programs that failed at the same time are not restarted at the same time."""
    with open_hooks(tmp_path, chance=lambda: chance) as hooks:
        hooks.start()
        hooks.programs.ends[NAME].append(FAILURE)
        hooks.store()
        hooks.threads.work()
        hooks.pass_time(pause - 0.01)
        assert len(hooks.programs.told) == 1
        hooks.pass_time(0.02)
        assert len(hooks.programs.told) == 2


def test_longest_pause(tmp_path: Path) -> None:
    """With many attempts, no pause exceeds the maximum."""
    with open_hooks(tmp_path, attempts=20) as hooks:
        hooks.start()
        hooks.programs.ends[NAME].extend([FAILURE] * 19)
        hooks.store()
        hooks.threads.work()
        for _ in range(19):
            hooks.pass_time(PAUSES[-1])
        assert len(hooks.programs.told) == 20
        assert failed(hooks.path) == []


def test_failures_do_not_block_others(hooks: Hooks) -> None:
    """Files whose programs fail do not block the programs of others."""
    hooks.start()
    for serial in range(4):
        name = hooks.store(serial)
        hooks.programs.ends[name].append(FAILURE)
    hooks.threads.work()
    name = hooks.store(4)
    hooks.threads.work()
    assert hooks.programs.names[-1] == name
    hooks.pass_time(PAUSES[0])
    assert len(hooks.programs.told) == 9
    assert waiting(hooks.path) == []


def test_file_gone(hooks: Hooks) -> None:
    """A file that was removed before its turn is not a failure."""
    hooks.start()
    hooks.store()
    (hooks.path / NAME).unlink()
    hooks.threads.work()
    assert hooks.programs.told == []
    assert waiting(hooks.path) == []
    assert hooks.logged == [f"info: on-upload {NAME}: nothing to do, the file is gone (0 ms)"]


def test_files_gone_before_the_start(hooks: Hooks) -> None:
    """A file that was removed before the daemon started is not a failure either."""
    hooks.store(tell=False)
    (hooks.path / NAME).unlink()
    hooks.start()
    assert hooks.logged == ["info: on-upload: 1 file removed, or never published"]


def test_marker_gone(hooks: Hooks) -> None:
    """If an operator removes a marker, no program is started for its file."""
    hooks.start()
    hooks.store()
    (name,) = waiting(hooks.path)
    (hooks.path / HOOKS / WAITING / name).unlink()
    hooks.threads.work()
    assert hooks.programs.told == []


def test_found_while_being_reported(hooks: Hooks) -> None:
    """A file that is found on disk while it is being reported gets one program, not two."""
    hooks.start()
    hooks.clock.advance(LOOK_INTERVAL)
    assert hooks.threads.waiting == 1  # the scan
    hooks.store()
    hooks.threads.work()
    hooks.pass_time(LOOK_INTERVAL)
    assert hooks.programs.names == [NAME]


def test_found_after_success(hooks: Hooks) -> None:
    """A file that is found while its program runs and succeeds gets one program, not two."""
    hooks.start()
    _, marker = store_marked(hooks.folder, (MILLISECONDS, 0), b"hello")
    hooks.queue.release(marker)
    found = scan(hooks.queue, 10, ())
    hooks.runner.stored(hooks.queue, marker)
    hooks.threads.work()
    hooks.runner._found((found, None), hooks.queue)
    hooks.threads.work()
    assert hooks.programs.names == [NAME]


def test_unreadable_file(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    As long as a disk error prevents the program from starting, no attempt is used up; the
    pauses grow, and a line a minute says so.
    """
    hooks.start()

    def unreadable(*_: object) -> str:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("twisted_upload.hooks.task.sha256_of", unreadable)
        hooks.store()
        hooks.threads.work()
        for pause in PAUSES:
            hooks.pass_time(pause)
    assert hooks.programs.told == []
    why = f"warn: on-upload {NAME}: not started: Input/output error (0 ms); no attempt used"
    assert hooks.logged == [
        f"{why}, retrying in 1.0 s",
        f"{why}, retrying in 10.0 min; and 3 more times since the last such line",
        f"{why}, retrying in 10.0 min",
    ]
    hooks.pass_time(PAUSES[-1])
    assert [told["UPLOAD_ATTEMPT"] for told in hooks.programs.told] == ["1"]
    assert waiting(hooks.path) == []


def test_program_that_cannot_be_started(hooks: Hooks) -> None:
    """A program that could not be started has used up no attempt; one that ran and failed has."""
    hooks.start()
    hooks.programs.ends[NAME].extend([NOT_STARTED] * 9 + [FAILURE] * 3)
    hooks.store()
    for _ in range(12):
        hooks.threads.work()
        hooks.pass_time(PAUSES[-1])
    attempts = [told["UPLOAD_ATTEMPT"] for told in hooks.programs.told]
    assert attempts == ["1"] * 10 + ["2", "3"]
    assert "attempt 3 of 3; GIVEN UP" in hooks.logged[-1]
    assert len(failed(hooks.path)) == 1


def test_many_that_cannot_be_started(hooks: Hooks) -> None:
    """Of many that cannot be started, one a minute is named in the log, the others are counted."""
    hooks.start()
    for serial in range(20):
        hooks.programs.ends[hooks.store(serial)].extend([NOT_STARTED] * 5)
    hooks.threads.work()
    assert len(hooks.logged) == 1
    hooks.pass_time(UNCOUNTED_INTERVAL)
    assert hooks.logged[1].endswith("; and 19 more times since the last such line")


def test_nul(hooks: Hooks) -> None:
    """A peer's name with a NUL, as of an abstract Unix address, can still be passed."""
    hooks.start()
    _, marker = store_marked(hooks.folder, (MILLISECONDS, 0), b"hello")
    marker.peer = "unix:\0abstract"
    hooks.runner.stored(hooks.queue, marker)
    hooks.threads.work()
    assert hooks.programs.told[0]["UPLOAD_PEER"] == "unix:@abstract"


# -- what an operator sees ----------------------------------------------------


def test_set_aside_by_an_earlier_daemon(hooks: Hooks) -> None:
    """At the start, the log says how many files are set aside."""
    hooks.start()
    hooks.programs.ends[NAME].extend([FAILURE] * 3)
    hooks.store()
    for _ in range(3):
        hooks.threads.work()
        hooks.pass_time(PAUSES[-1])
    hooks.logged.clear()
    hooks.start()
    where = hooks.path / HOOKS / FAILED
    assert hooks.logged == [f"warn: on-upload: the program was given up for 1 file, see {where}"]


def test_unreadable_marker(hooks: Hooks) -> None:
    """A marker that is invalid is set aside, with an error in the log."""
    hooks.store(tell=False)
    (name,) = waiting(hooks.path)
    (hooks.path / HOOKS / WAITING / name).write_text("?\n")
    hooks.start()
    assert hooks.logged[0] == (
        f"error: on-upload: marker {name} is unusable: it does not hold the expected JSON;"
        f" moved to {hooks.path}/{HOOKS}/{FAILED}"
    )


def test_unreadable_queue(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A queue that cannot be read is an error in the log, and is scanned again."""
    hooks.store(tell=False)
    folder = hooks.path / HOOKS / WAITING

    def fails(*_: object) -> Any:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("twisted_upload.hooks.runner.scan", fails)
        hooks.start()
    assert hooks.logged == [f"error: on-upload: cannot read {folder.parent}: Input/output error"]
    hooks.pass_time(LOOK_INTERVAL)
    assert hooks.programs.names == [NAME]


def test_cannot_be_set_aside(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be set aside stays in the queue, with an error, and is retried."""
    hooks.start()
    hooks.programs.ends[NAME].extend([FAILURE] * 3)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("twisted_upload.hooks.spool.HookSpool.set_aside", full)
        hooks.store()
        hooks.threads.work()
        hooks.pass_time(PAUSES[0])
        hooks.pass_time(PAUSES[1])
    assert "cannot be moved" in hooks.logged[-1]
    hooks.pass_time(LOOK_INTERVAL)
    assert len(hooks.programs.told) == 4
    assert waiting(hooks.path) == []


# -- the end ------------------------------------------------------------------


def test_stop(hooks: Hooks) -> None:
    """When the daemon stops, programs may continue for a while, and no more are started."""
    hooks.start()
    names = [hooks.store(serial) for serial in range(4)]
    stopped: list[None] = []
    hooks.runner.stop(5).addCallback(stopped.append)
    assert hooks.logged == ["info: stopping: waiting for 2 programs"]
    hooks.clock.advance(4.9)
    assert not hooks.programs.stopped
    hooks.clock.advance(0.1)
    assert hooks.programs.stopped
    assert not stopped
    assert not hooks.programs.closed
    hooks.threads.work()
    assert stopped == [None]
    assert hooks.programs.closed
    assert hooks.programs.names == names[:2]
    assert len(waiting(hooks.path)) == 2
    assert hooks.clock.getDelayedCalls() == []


def test_stored_while_stopping(hooks: Hooks) -> None:
    """A file that is stored while the daemon stops gets its program after the next start."""
    hooks.start()
    hooks.runner.stop(5)
    hooks.store()
    hooks.threads.work()
    assert hooks.programs.told == []
    assert len(waiting(hooks.path)) == 1


def test_failed_while_stopping(tmp_path: Path) -> None:
    """A program that fails because the daemon stops does not count as failed."""
    with open_hooks(tmp_path, attempts=1) as hooks:
        hooks.start()
        hooks.programs.ends[NAME].append(FAILURE)
        hooks.store()
        hooks.runner.stop(5)
        hooks.threads.work()
        assert (len(waiting(hooks.path)), failed(hooks.path)) == (1, [])
        assert hooks.clock.getDelayedCalls() == []


# -- in the store -------------------------------------------------------------


class Watcher:
    """Records what a store reports."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def check(self) -> None:
        raise CannotStart("--on-upload: no such program")

    def stored(self, spool: object, marker: Any) -> None:
        self.names.append(marker.name)


def test_store_reports_after_the_answer(tmp_path: Path) -> None:
    """A store reports a stored file after its sender was answered, not before."""
    watcher = Watcher()
    watcher.check = lambda: None  # type: ignore[method-assign]
    rig = Rig(tmp_path, hooks=watcher)
    incoming = rig.store.begin(Arrival(PEER, listener="front"), lambda _: None)
    incoming.write(b"hello")
    told: list[tuple[str | None, list[str]]] = []
    incoming.commit().addCallback(lambda receipt: told.append((receipt.name, [*watcher.names])))
    rig.disk.work()
    assert told == [(NAME, [])]
    assert watcher.names == [NAME]
    (name,) = waiting(tmp_path)
    assert lines(tmp_path / HOOKS / WAITING / name)[0]["listener"] == "front"
    rig.close()


def test_store_does_not_open(tmp_path: Path) -> None:
    """A store whose program cannot be started does not open."""
    with pytest.raises(CannotStart, match="no such program"):
        Rig(tmp_path, hooks=Watcher())


# -- the real daemon ----------------------------------------------------------


def test_real_daemon(tmp_path: Path) -> None:
    """The daemon starts the program for each stored file, with correct variables."""
    said = tmp_path / "said"
    command = "sh -c 'echo $UPLOAD_PATH $UPLOAD_SIZE $UPLOAD_SHA256 $UPLOAD_PEER >> \"$0\"' "
    with Daemon(tmp_path, "--on-upload", f"{command}{said}") as daemon:
        with daemon.connect() as peer:
            host, port = peer.getsockname()
            peer.sendall(b"hello")
            peer.shutdown(1)
            assert peer.recv(100)
            daemon.wait_for_line("exit status 0")
        (path,) = daemon.files()
        assert said.read_text() == f"{path} 5 {sha256(b'hello')} {host}:{port}\n"
        wait_until(lambda: waiting(daemon.directory) == [], "an empty queue")


@pytest.mark.parametrize("workers", ["1", "2"])
def test_real_daemon_cannot_start(tmp_path: Path, workers: str) -> None:
    """A program that does not exist is one line and exit status 1."""
    daemon = Daemon(tmp_path, "--on-upload=no-such-program", f"--workers={workers}")
    with pytest.raises(AssertionError, match="the daemon ended with 1"), daemon:
        pass
    (line,) = daemon.errors.read_text().splitlines()
    assert line.startswith("twistd upload: --on-upload: no-such-program was not found on ")


def test_real_daemon_stops(tmp_path: Path) -> None:
    """A program that runs when the daemon stops may continue for --drain; then it is ended."""
    pid = tmp_path / "pid"
    options = [f"--on-upload=sh -c 'echo $$ > {pid}; exec sleep 600'", "--drain=200ms"]
    with Daemon(tmp_path, *options) as daemon:
        daemon.send(b"hello")
        wait_until(lambda: pid.exists() and pid.read_text(), "the program")
        daemon.stop()
        assert daemon.lines("stopped with the daemon")
        assert not Path(f"/proc/{pid.read_text().strip()}").exists()
        assert len(waiting(daemon.directory)) == 1
