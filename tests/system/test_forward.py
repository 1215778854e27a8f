"""
``--forward``: the real daemon, and a real object store.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.engines.engine import Engine, Place
from tests.engines.seaweedfs import SeaweedFS
from tests.support.daemon import SUCCESS, Daemon, photo, sha256, wait_until
from tests.support.fault_proxy import FaultProxy, Rule
from tests.support.faults import FAULTS
from tests.support.hook_markers import waiting
from twisted_upload.hooks.folders import FORWARD

LARGE = photo(12_000_000)


class Forwards:
    """
    A daemon that forwards, and the place to which it does.

    :ivar sent: the contents that were acknowledged.
    """

    def __init__(
        self, folder: Path, place: Place, environment: Mapping[str, str], *options: str
    ) -> None:
        self.place = place
        self.folder = folder
        self.sent: list[bytes] = []
        self._options = (f"--forward={place.url}", "--node=one", *options)
        self._environment = environment

    @contextlib.contextmanager
    def daemon(self, *more: str) -> Iterator[Daemon]:
        with Daemon(self.folder, *self._options, *more, environment=self._environment) as daemon:
            yield daemon

    def send(self, daemon: Daemon, content: bytes) -> None:
        """Send a file, which has to be acknowledged."""
        assert daemon.send(content) == SUCCESS
        self.sent.append(content)

    @property
    def waiting(self) -> list[str]:
        return waiting(self.folder / "inbox", FORWARD)

    def objects(self) -> dict[str, bytes]:
        """Return the objects by name."""
        witness, prefix = self.place.witness, self.place.prefix
        return {key.removeprefix(prefix): witness.get(key) for key in witness.objects(prefix)}

    def wait(self) -> None:
        """Wait until no file waits to be forwarded."""
        wait_until(lambda: not self.waiting, "all files to be forwarded")

    def compare(self) -> dict[str, bytes]:
        """Check that what was acknowledged is there, each once, and nothing else."""
        objects = self.objects()
        assert sorted(map(sha256, objects.values())) == sorted(map(sha256, self.sent))
        return objects

    def pending(self) -> int:
        """Return the number of pending multipart uploads."""
        return len(self.place.witness.pending(self.place.prefix))


def forwards(folder: Path, engine: Engine, *options: str) -> Forwards:
    """Return a daemon that is not started yet."""
    return Forwards(folder, engine.place(), engine.environment(), *options)


def test_forwarded(tmp_path: Path, engine: Engine, place: Place) -> None:
    """Each file becomes an object of the same name, small or large, and stays here."""
    it = Forwards(tmp_path, place, engine.environment())
    with it.daemon() as daemon:
        for content in b"hello", photo(50_000), LARGE:
            it.send(daemon, content)
        it.wait()
        objects = it.compare()
        assert it.pending() == 0
        files = {path.name: path.read_bytes() for path in daemon.files()}
        assert files == objects
        fields = place.witness.head(place.prefix + next(iter(files)))
    assert fields is not None
    assert fields["x-amz-meta-node"] == "one"
    assert fields["x-amz-meta-sha256"] == sha256(next(iter(files.values())))
    assert unquote(fields["x-amz-meta-sender"]).startswith("127.0.0.1:")
    assert daemon.lines("forward 1") == []


def test_removed(tmp_path: Path, seaweedfs: Engine) -> None:
    """With --after-forward remove, nothing stays here."""
    it = forwards(tmp_path, seaweedfs, "--after-forward=remove")
    with it.daemon() as daemon:
        for content in b"hello", LARGE:
            it.send(daemon, content)
        it.wait()
        assert daemon.files() == []
        it.compare()


def test_program_too(tmp_path: Path, seaweedfs: Engine) -> None:
    """With --on-upload, each file is forwarded and gets its program."""
    it = forwards(
        tmp_path, seaweedfs, "--on-upload=sh -c 'cp $UPLOAD_PATH \"$0\"' " + str(tmp_path)
    )
    with it.daemon() as daemon:
        it.send(daemon, b"hello")
        (file,) = daemon.files()
        wait_until((tmp_path / file.name).exists, "the program")
        it.wait()
        wait_until(lambda: waiting(daemon.directory) == [], "the end of the program")
    it.compare()


def test_workers(tmp_path: Path, seaweedfs: Engine) -> None:
    """Several workers forward each file once."""
    it = forwards(tmp_path, seaweedfs, "--workers=2")
    with it.daemon() as daemon:
        daemon.wait_for_workers()
        for number in range(20):
            it.send(daemon, b"%d" % number)
        it.wait()
    it.compare()


def test_away_and_back(tmp_path: Path, own_seaweedfs: SeaweedFS) -> None:
    """
    While the object store is away, files are acknowledged and wait; when it is back, all
    are forwarded.
    """
    it = forwards(tmp_path, own_seaweedfs.engine)
    with it.daemon() as daemon:
        it.send(daemon, b"before")
        it.wait()
        own_seaweedfs.kill()
        for number in range(30):
            it.send(daemon, b"%d" % number)
        line = daemon.wait_for_line("files wait in")
        assert "no connection" in line
        assert len(it.waiting) == 30
        assert len(daemon.lines("forward ")) == 1
        own_seaweedfs.start()
        it.wait()
        daemon.wait_for_line("the object store works again")
        it.compare()


def test_hangs(tmp_path: Path, own_seaweedfs: SeaweedFS) -> None:
    """No sender waits for an object store that hangs, and a stop does not wait for long."""
    it = forwards(tmp_path, own_seaweedfs.engine, "--drain=100ms")
    with it.daemon() as daemon:
        own_seaweedfs.pause()
        try:
            slowest = 0.0
            for number in range(100):
                began = time.monotonic()
                it.send(daemon, b"%d" % number)
                slowest = max(slowest, time.monotonic() - began)
            assert slowest < 5  # a request has 20 s
            began = time.monotonic()
            daemon.stop()
            assert time.monotonic() - began < 15
        finally:
            own_seaweedfs.resume()
    with it.daemon():
        it.wait()
        it.compare()


@pytest.mark.parametrize("remove", ["keep", "remove"])
def test_killed(tmp_path: Path, seaweedfs: Engine, remove: str) -> None:
    """However often a daemon is killed, each acknowledged file is forwarded, as one object."""
    it = forwards(tmp_path, seaweedfs, f"--after-forward={remove}")
    for life in range(6):
        with it.daemon() as daemon:
            for number in range(10):
                it.send(daemon, b"%d %d" % (life, number))
            if life % 2:
                it.send(daemon, LARGE[: 8_000_000 + life])
            time.sleep(0.02 * life)  # somewhere between all and nothing
            daemon.signal(signal.SIGKILL)
            daemon.wait_for_end()
    with it.daemon():
        it.wait()
    # One whose name is in use, because its file is being sent again, is aborted after that.
    with it.daemon() as daemon:
        wait_until(lambda: it.pending() == 0, "pending uploads to be aborted")
        it.compare()
        assert len(daemon.files()) == (0 if remove == "remove" else len(it.sent))


def test_started_while_away(tmp_path: Path, seaweedfs: Engine) -> None:
    """A daemon starts, and acknowledges files, while its object store cannot be reached."""
    place = seaweedfs.place()
    with FaultProxy(seaweedfs.port) as proxy:
        away = Forwards(tmp_path, place, seaweedfs.environment("http://127.0.0.1:9"))
        with away.daemon() as daemon:
            away.send(daemon, b"hello")
            daemon.wait_for_line("files wait in")
        back = Forwards(tmp_path, place, seaweedfs.environment(proxy.endpoint))
        back.sent = away.sent
        with back.daemon():
            back.wait()
            back.compare()
        assert [seen.step for seen in proxy.seen].count("put") == 1


def test_faults(tmp_path: Path, seaweedfs: Engine) -> None:
    """Whatever fails once at whatever step, each file becomes one object, whole."""
    once = [
        *(("put", fault) for fault in ("reset-after", "503", "truncated", "flipped")),
        *(("begin", fault) for fault in ("reset-after", "500")),
        *(("part", fault) for fault in ("500-after", "flipped")),
        *(("complete", fault) for fault in ("reset-after", "error-in-200-after", "garbage")),
        ("head", "reset-before"),
    ]
    with FaultProxy(seaweedfs.port) as proxy:
        rules = [Rule(step, FAULTS[fault]) for step, fault in once]
        proxy.script(*rules)
        it = Forwards(tmp_path, seaweedfs.place(), seaweedfs.environment(proxy.endpoint))
        with it.daemon() as daemon:
            for number in range(5):
                it.send(daemon, b"%d" % number)
                it.send(daemon, LARGE[: 6_000_000 + number])
            it.wait()
            it.compare()
            assert "Traceback" not in daemon.log.read_text()
        assert [rule.happened for rule in rules] == [1] * len(rules)


def test_wrong_key(tmp_path: Path, seaweedfs: Engine) -> None:
    """Wrong credentials are named in the log; nothing is set aside for them."""
    place, right = seaweedfs.place(), seaweedfs.environment()
    it = Forwards(tmp_path, place, {**right, "AWS_SECRET_ACCESS_KEY": "wrong"})
    with it.daemon() as daemon:
        it.send(daemon, b"hello")
        assert "AWS_SECRET_ACCESS_KEY" in daemon.wait_for_line("files wait in")
    assert os.listdir(tmp_path / "inbox" / FORWARD / "failed") == []
    fixed = Forwards(tmp_path, place, right)
    fixed.sent = it.sent
    with fixed.daemon():
        fixed.wait()
        fixed.compare()
