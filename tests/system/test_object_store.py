"""
``twistd upload --store`` and ``--forward`` with a real object store.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.engine import Engine, Place
from tests.support.daemon import (
    SUCCESS,
    Configured,
    addresses_in,
    connect,
    finish,
    run_twistd,
    wait_until,
)
from tests.support.fault_proxy import FaultProxy, Rule
from tests.support.faults import refused, stalled
from tests.support.object_daemon import ObjectDaemon
from tests.support.processes import gone
from tests.support.senders import read_all
from tests.support.tools import free_port
from tests.support.twistd import FAILURE, finish_with, stops

SMALL = b"hello\n"
LARGE = os.urandom(1 << 20) * 11
"""More than two parts."""


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_each_way(tmp_path: Path, engine: Engine, place: Place) -> None:
    """Whatever way a file comes, it becomes an object, with its receipt, log line and journal."""
    journal = tmp_path / "journal"
    with ObjectDaemon(tmp_path, engine, place, "--receipts", f"--journal={journal}") as daemon:
        answers = [daemon.send(content).decode().split() for content in (SMALL, LARGE)]
        names = [name for _, name, _, _ in answers]
        for (_, _, size, digest), content in zip(answers, (SMALL, LARGE), strict=True):
            assert (int(size), digest) == (len(content), sha256(content))
        answer = daemon.ask("PUT", "/photo.jpg", LARGE)
        assert answer.status == 201
        names.append(answer.body.split()[1])
        names += [daemon.create_and_send(it).fields["stored-as"] for it in (SMALL, LARGE)]
        contents = [SMALL, LARGE, LARGE, SMALL, LARGE]
        assert daemon.objects() == {
            name: len(content) for name, content in zip(names, contents, strict=True)
        }
        assert [daemon.content(name) for name in names] == contents
        assert all(re.fullmatch(r"[0-9]{13}-one-[0-9a-f]{16}\.\w+", name) for name in names)
        told = place.witness.head(place.prefix + names[2])
        assert told is not None
        assert told["x-amz-meta-original-name"] == "photo.jpg"
        assert [line for name in names for line in daemon.lines(f" stored {name}: ")]
        assert len(daemon.lines(f"to {place.url})")) == 1
        assert daemon.files() == []
        page = daemon.scraper.page()
        assert page.sum("uploads_total", outcome="stored") == 5
        assert page.sum("store_requests_total", store=place.url, operation="put", outcome="ok") == 2
        assert page.sum("store_requests_total", operation="complete", outcome="ok") == 3
        assert page.sum("store_request_seconds_count", operation="put") == 2
        assert page.sum("store_retries_total") == page.sum("pending_multiparts") == 0
        assert page.sum("store_healthy", directory=place.url) == 1
        daemon.scraper.wait_until_ready()
        stops_cleanly(daemon)
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert [(line["event"], line["name"]) for line in lines] == [("stored", it) for it in names]
    assert [line["sha256"] for line in lines] == [*map(sha256, contents)]
    assert place.witness.pending(place.prefix) == []


def stops_cleanly(daemon: ObjectDaemon) -> None:
    """Stop it, and check that nothing has gone wrong."""
    daemon.signal(signal.SIGTERM)
    assert daemon.wait_for_end() == -signal.SIGTERM
    assert daemon.lines("Server Shut Down")
    assert daemon.errors.read_text() == ""
    assert not daemon.lines("Traceback")


def test_workers(tmp_path: Path, seaweedfs: Engine) -> None:
    """Each worker stores objects, and the metrics are those of all of them."""
    place = seaweedfs.place()
    with ObjectDaemon(tmp_path, seaweedfs, place, "--workers=2", "--receipts") as daemon:
        daemon.wait_for_workers()
        names = set()
        for _ in daemon.each_worker():
            for content in SMALL, LARGE:
                name = daemon.send(content).decode().split()[1]
                assert daemon.content(name) == content
                names.add(name)
            names.add(daemon.create_and_send(SMALL).fields["stored-as"])
        assert {*daemon.objects()} == names
        assert len(names) == 6
        daemon.scraper.wait_for(6, "uploads_total", outcome="stored")
        assert daemon.scraper.page().sum("store_requests_total", operation="complete") == 2
        assert daemon.scraper.page().sum("store_healthy", directory=place.url) == 1
        stops_cleanly(daemon)


def test_in_the_background(tmp_path: Path, seaweedfs: Engine) -> None:
    """Without -n, twistd forks; what is needed for the object store is made after that."""
    place = seaweedfs.place()
    pidfile, log = tmp_path / "pid", tmp_path / "log"
    result = run_twistd(
        tmp_path,
        *(f"--pidfile={pidfile}", f"--logfile={log}", "upload", "--directory=inbox"),
        *("--port=0", "--interface=127.0.0.1", f"--store={place.url}", "--node=one"),
        environment=seaweedfs.environment(),
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.endswith(f"; files go to {place.url}\n")
    pid = int(wait_until(lambda: pidfile.exists() and pidfile.read_text(), "a pidfile"))
    try:
        ((family, address),) = addresses_in(result.stdout)
        for content in SMALL, LARGE:
            with connect(family, address) as peer:
                assert finish_with(peer, content) == SUCCESS
        assert sorted(place.witness.objects(place.prefix).values()) == [len(SMALL), len(LARGE)]
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: gone(pid), "the daemon's end")
        assert "Server Shut Down" in log.read_text()
        assert "Traceback" not in log.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def credentials(folder: Path, engine: Engine) -> dict[str, str]:
    """Write the keys into a file, and return the variables that name only that."""
    path = folder / "credentials"
    path.write_text(
        f"[default]\naws_access_key_id = {engine.access_key}\n"
        f"aws_secret_access_key = {engine.secret_key}\n"
    )
    path.chmod(0o600)
    return {
        "AWS_SHARED_CREDENTIALS_FILE": str(path),
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
    }


def test_keys_in_a_file(tmp_path: Path, seaweedfs: Engine) -> None:
    """The keys may be in a file, as systemd passes a credential."""
    place = seaweedfs.place()
    environment = credentials(tmp_path, seaweedfs)
    with ObjectDaemon(tmp_path, seaweedfs, place, environment=environment) as daemon:
        assert daemon.send(SMALL) == SUCCESS
        assert [*daemon.objects().values()] == [len(SMALL)]


def other_users_have_python() -> bool:
    """Return whether a daemon can run as another user: the Python of the tests may be root's."""
    script = "import os; os.setgid(65534); os.setuid(65534); import numbers"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    return done.returncode == 0


def test_another_user(open_folder: Path, seaweedfs: Engine) -> None:
    """With --uid, the object store is used as that user, who alone can read the keys."""
    if os.geteuid() or not other_users_have_python():
        pytest.skip("needs root, and a Python that other users can read")
    place = seaweedfs.place()
    environment = credentials(open_folder, seaweedfs)
    os.chown(open_folder / "credentials", 65534, 65534)
    (open_folder / "inbox").mkdir()
    os.chown(open_folder / "inbox", 65534, 65534)
    general = ("--uid=65534", "--gid=65534")
    with ObjectDaemon(
        open_folder, seaweedfs, place, general=general, environment=environment
    ) as daemon:
        assert daemon.send(SMALL) == SUCCESS
        assert daemon.send(LARGE) == SUCCESS
        assert daemon.create_and_send(SMALL).status == 204
        owners = {it.stat().st_uid for it in (daemon.directory / ".incoming").iterdir()}
        assert owners == {65534}


def test_stop_during_uploads(tmp_path: Path, seaweedfs: Engine) -> None:
    """When the daemon stops, an upload in flight may finish; its object is stored."""
    place = seaweedfs.place()
    with ObjectDaemon(tmp_path, seaweedfs, place) as daemon:
        with daemon.connect() as peer:
            peer.sendall(LARGE)
            wait_until(lambda: place.witness.pending(place.prefix), "a multipart upload")
            daemon.signal(signal.SIGTERM)
            daemon.wait_for_line("stopping: 1 upload in flight")
            peer.sendall(SMALL)
            assert finish(peer) == SUCCESS
        stops(daemon, signal.SIGTERM)
        assert [*daemon.objects().values()] == [len(LARGE) + len(SMALL)]


def test_stop_at_once(tmp_path: Path, seaweedfs: Engine) -> None:
    """An upload that is not complete in time is refused, and nothing of it is left."""
    place = seaweedfs.place()
    with ObjectDaemon(tmp_path, seaweedfs, place, "--drain=0") as daemon:
        with daemon.connect() as peer:
            peer.sendall(LARGE)
            wait_until(lambda: place.witness.pending(place.prefix), "a multipart upload")
            daemon.signal(signal.SIGTERM)
            assert finish(peer).decode().startswith(f"{FAILURE}shutting-down")
        assert daemon.wait_for_end() == -signal.SIGTERM
    assert place.witness.objects(place.prefix) == {}
    assert place.witness.pending(place.prefix) == []


def test_stop_while_it_stalls(tmp_path: Path, seaweedfs: Engine) -> None:
    """An object store that stalls delays the stop by some seconds; nobody is told success."""
    place = seaweedfs.place()
    with (
        FaultProxy(seaweedfs.port) as proxy,
        ObjectDaemon(tmp_path, seaweedfs, place, "--drain=1s", endpoint=proxy.endpoint) as daemon,
        proxy.failing(Rule("put", stalled, times=1000)),
        daemon.connect() as peer,
    ):
        peer.sendall(SMALL)
        peer.shutdown(socket.SHUT_WR)
        wait_until(lambda: any(it.step == "put" for it in proxy.seen), "the request")
        daemon.signal(signal.SIGTERM)
        assert read_all(peer).decode().startswith(f"{FAILURE}shutting-down")
        assert daemon.wait_for_end() == -signal.SIGTERM
        assert daemon.lines("the object store is not responding; abandoning its pending")


def test_away_at_the_start(tmp_path: Path, seaweedfs: Engine) -> None:
    """A daemon starts without its object store, refuses uploads, and says why; then it recovers."""
    place = seaweedfs.place()
    with FaultProxy(seaweedfs.port) as proxy:
        proxy.script(Rule("", refused(503, "ServiceUnavailable"), times=1000))
        with ObjectDaemon(tmp_path, seaweedfs, place, endpoint=proxy.endpoint) as daemon:
            daemon.wait_for_line(f"{place.url}: UNHEALTHY, refusing uploads")
            assert daemon.send(SMALL).decode().startswith(f"{FAILURE}store-error")
            assert daemon.scraper.get("/readyz") == (503, f"the store is unhealthy: {place.url}\n")
            assert daemon.scraper.page().sum("store_healthy", directory=place.url) == 0
            proxy.script()
            daemon.wait_for_line(f"{place.url}: healthy again")
            daemon.scraper.wait_until_ready()
            assert daemon.send(SMALL) == SUCCESS


@pytest.mark.parametrize(("after", "left"), [("keep", 3), ("remove", 0)])
def test_forward(tmp_path: Path, engine: Engine, place: Place, after: str, left: int) -> None:
    """With --forward, files are stored here, then there; they are kept here, or not."""
    options = (f"--after-forward={after}", "--receipts")
    with ObjectDaemon(tmp_path, engine, place, *options, option="forward") as daemon:
        names = [daemon.send(content).decode().split()[1] for content in (SMALL, LARGE)]
        names.append(daemon.create_and_send(SMALL).fields["stored-as"])
        daemon.scraper.wait_for(3, "forwarded_total")
        assert [daemon.content(name) for name in names] == [SMALL, LARGE, SMALL]
        assert len(daemon.objects()) == 3
        assert len(daemon.files()) == left
        daemon.scraper.wait_for(0, "forward_waiting")
        stops_cleanly(daemon)


def test_forward_to_nowhere(tmp_path: Path, seaweedfs: Engine) -> None:
    """While the object store is away, files are stored here; they are forwarded when it is back."""
    place = seaweedfs.place()
    nowhere = f"http://127.0.0.1:{free_port()}"
    with ObjectDaemon(tmp_path, seaweedfs, place, option="forward", endpoint=nowhere) as daemon:
        assert daemon.send(SMALL) == SUCCESS
        daemon.scraper.wait_until_ready()
        wait_until(lambda: daemon.scraper.page().sum("store_retries_total"), "an attempt")
    with ObjectDaemon(tmp_path, seaweedfs, place, option="forward") as daemon:
        daemon.wait_for_objects(1)
        assert len(daemon.files()) == 1


def test_reload(tmp_path: Path, seaweedfs: Engine) -> None:
    """Where files go changes with a restart, not with a reload."""
    place, other = seaweedfs.place(), seaweedfs.place()
    text = "port = 0\ninterface = '127.0.0.1'\ndirectory = 'inbox'\nstore = '{}'\n"
    daemon = Configured(tmp_path, text.format(place.url), environment=seaweedfs.environment())
    with daemon:
        (tmp_path / "upload.toml").write_text(text.format(other.url))
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_line("needs a restart: store")
        assert daemon.send(SMALL) == SUCCESS
    assert len(place.witness.objects(place.prefix)) == 1
    assert place.witness.objects(other.prefix) == {}
