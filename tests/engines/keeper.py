"""
One engine for all processes of a test run.

The first process that needs it starts ``python -m tests.engines.keeper FOLDER``, which runs
the engine.  Every user holds a FIFO open for writing; when nobody does any more, however they
have ended, the keeper ends the engine and itself.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from tests.engines.engine import Engine
from tests.engines.seaweedfs import SeaweedFS
from tests.support import ROOT

__all__ = ["locked", "shared"]


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock that all processes of the test run share."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def shared(folder: Path) -> Iterator[Engine]:
    """
    Use the SeaweedFS of a test run; it is started if there is none.

    :param folder: the same for all processes of the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "engine.json"
    with locked(folder / "lock"):
        users = _join(folder) if state.exists() else None
        if users is None:
            users = _start(folder)
        engine = Engine(**json.loads(state.read_text()))
    try:
        yield engine
    finally:
        os.close(users)


def _join(folder: Path) -> int | None:
    """Become a user; return `None` if the keeper has been killed."""
    try:
        return os.open(folder / "users", os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno not in {errno.ENXIO, errno.ENOENT}:
            raise
        return None


def _start(folder: Path) -> int:
    """Start a keeper, wait until its engine serves, and become its first user."""
    with (folder / "keeper.log").open("ab") as log:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "tests.engines.keeper", str(folder)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for its users, which may still need it
        )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    with keeper.stdin, keeper.stdout:
        ready = keeper.stdout.readline()
        assert ready == b"ready\n", (folder / "keeper.log").read_text(errors="replace")[-3000:]
        users = _join(folder)
    keeper.returncode = 0  # it ends after us, and is not ours to wait for
    assert users is not None, "the keeper has ended"
    return users


def main(folder: Path) -> None:
    """Run the engine as long as it has users."""
    fifo = folder / "users"
    fifo.unlink(missing_ok=True)
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    first = os.open(fifo, os.O_WRONLY)
    state = folder / "engine.json"
    with SeaweedFS(folder / f"weed-{os.getpid()}") as server:
        new = state.with_suffix(".new")
        new.write_text(json.dumps(asdict(server.engine)))
        new.rename(state)
        sys.stdout.buffer.write(b"ready\n")
        sys.stdout.flush()
        sys.stdin.read()  # until the first user has come, or has ended
        os.close(first)
        poll = select.poll()
        poll.register(reader, 0)  # that nobody writes any more is always told
        while True:
            poll.poll()
            with locked(folder / "lock"):
                if poll.poll(0):  # still nobody, and nobody can come now
                    state.unlink()
                    return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
