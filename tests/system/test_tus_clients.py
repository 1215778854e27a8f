"""
Clients that others have made, against the daemon: whole uploads, and uploads that are
interrupted by killing the client or the daemon.

tuspy and aiotus are in the extra ``test``; ``npm install --no-package-lock`` in ``tests``
installs tus-js-client.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.daemon import PATIENCE, deadly, wait_until
from tests.support.tools import tool
from tests.support.tus_daemon import TusDaemon, installed, make_file, partial_size

CLIENTS = Path(__file__).parents[1] / "support" / "tus_clients"

SIZE = 3_333_333
MIDDLE = 1_500_000
LARGE = 40_000_001

SMALL_CHUNKS = '{"chunkSize": 262144}'


def command(client: str) -> list[str]:
    """The command of a client, without its arguments; skip the test if it is not installed."""
    if client == "tus-js-client":
        installed(client)
        return [tool("node"), str(CLIENTS / "with_tus_js.cjs")]
    module = {"tuspy": "tusclient"}.get(client, client)
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {client}")
    return [sys.executable, str(CLIENTS / f"with_{client}.py")]


def start(client: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*deadly(), *command(client), *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(client: str, *arguments: str) -> tuple[int, str]:
    """Run a client to its end; return its exit status and what it has printed."""
    process = start(client, *arguments)
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    print(output)
    return process.returncode, output


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[TusDaemon]:
    with TusDaemon(tmp_path) as running:
        yield running


ALL = pytest.mark.parametrize("client", ["tuspy", "aiotus", "tus-js-client"])


@ALL
def test_whole_upload(daemon: TusDaemon, tmp_path: Path, client: str) -> None:
    """An upload that nothing interrupts is stored once, unchanged."""
    path, digest = make_file(tmp_path, SIZE)
    status, _ = run(client, daemon.url, path, str(tmp_path / "state"), "0")
    assert status == 0
    assert daemon.digests() == [digest]
    (line,) = daemon.lines("stored ")
    assert f"({SIZE} bytes)" in line
    assert '"照片.jpg"' in line


@ALL
def test_killed_client(daemon: TusDaemon, tmp_path: Path, client: str) -> None:
    """A client that is killed continues where it was; nothing is visible in the meantime."""
    path, digest = make_file(tmp_path, SIZE)
    arguments = daemon.url, path, str(tmp_path / "state")
    status, _ = run(client, *arguments, str(MIDDLE))
    assert status == -signal.SIGKILL
    assert not daemon.files()
    status, output = run(client, *arguments, "0")
    assert status == 0
    assert daemon.digests() == [digest]
    assert "from 0" not in output
    if client == "tus-js-client":
        assert "POST" not in output


def test_workers(tmp_path: Path) -> None:
    """With several workers, each request may be served by another process."""
    path, digest = make_file(tmp_path, SIZE)
    with TusDaemon(tmp_path, "--workers=2") as daemon:
        daemon.wait_for_workers()
        arguments = daemon.url, path, str(tmp_path / "state")
        status, _ = run("tuspy", *arguments, str(MIDDLE))
        assert status == -signal.SIGKILL
        status, output = run("tus-js-client", daemon.url, path, str(tmp_path / "other"), "0",
                             SMALL_CHUNKS)  # fmt: skip
        assert status == 0
        status, output = run("tuspy", *arguments, "0")
        assert status == 0
        assert "from 0" not in output
        assert daemon.digests() == [digest] * 2


@ALL
def test_killed_daemon(tmp_path: Path, client: str) -> None:
    """A client completes its upload after the daemon was killed, without our help."""
    path, digest = make_file(tmp_path, LARGE)
    more = [SMALL_CHUNKS] if client == "tus-js-client" else []
    with TusDaemon(tmp_path) as daemon:
        port = daemon.http_port
        process = start(client, daemon.url, path, str(tmp_path / "state"), "0", *more)
        try:
            wait_until(lambda: partial_size(daemon) > MIDDLE, "bytes of the upload")
            daemon.signal(signal.SIGKILL)
            daemon.wait_for_end()
            assert process.poll() is None
            assert not daemon.files()
            with TusDaemon(tmp_path, port=port) as again:
                output, _ = process.communicate(timeout=PATIENCE)
                print(output)
                assert process.returncode == 0
                assert again.digests() == [digest]
        finally:
            process.kill()
            process.communicate()


OPTIONS = [
    '{"parallelUploads": 3}',
    '{"uploadDataDuringCreation": true}',
    '{"uploadDataDuringCreation": true, "chunkSize": 1000000}',
    '{"uploadLengthDeferred": true, "chunkSize": 1000000, "asStream": true}',
    '{"overridePatchMethod": true}',
]


@pytest.mark.parametrize("options", OPTIONS)
def test_options_of_tus_js_client(daemon: TusDaemon, tmp_path: Path, options: str) -> None:
    """Parallel parts, a body with the creation, a deferred length, a replaced method."""
    path, digest = make_file(tmp_path, SIZE)
    status, _ = run("tus-js-client", daemon.url, path, str(tmp_path / "state"), "0", options)
    assert status == 0
    assert daemon.digests() == [digest]


def test_parts_of_aiotus(daemon: TusDaemon, tmp_path: Path) -> None:
    """Parts that are uploaded in parallel become one file."""
    path, digest = make_file(tmp_path, SIZE)
    status, _ = run("aiotus", daemon.url, path, "parts", "0")
    assert status == 0
    assert daemon.digests() == [digest]


def curl(*arguments: str, data: bytes = b"") -> dict[str, str]:
    """Run curl with these arguments; return the status and the fields of the response."""
    done = subprocess.run(
        [*deadly(), tool("curl"), "-sS", "-D", "-", "-o", os.devnull, "--max-time", "20",
         "-H", "Tus-Resumable: 1.0.0", *arguments],
        input=data,
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )  # fmt: skip
    line, *fields = done.stdout.decode().split("\r\n\r\n")[-2].split("\r\n")
    pairs = (field.partition(": ") for field in fields)
    return {"status": line.split()[1], **{name.lower(): value for name, _, value in pairs}}


PATCH: Sequence[str] = ("-X", "PATCH", "-H", "Content-Type: application/offset+octet-stream")


def test_curl(daemon: TusDaemon, tmp_path: Path) -> None:
    """An upload by hand: curl is killed in the middle, and another one sends the rest."""
    path, digest = make_file(tmp_path, SIZE)
    content = Path(path).read_bytes()
    made = curl("-X", "POST", "-H", f"Upload-Length: {SIZE}", daemon.url)
    assert made["status"] == "201"
    url = made["location"]
    first = subprocess.Popen(
        [tool("curl"), "-sS", *PATCH, "-H", "Tus-Resumable: 1.0.0", "-H", "Upload-Offset: 0",
         "-T", "-", url],
        stdin=subprocess.PIPE,
    )  # fmt: skip
    assert first.stdin is not None
    first.stdin.write(content[:MIDDLE])
    first.stdin.flush()
    wait_until(lambda: partial_size(daemon) > MIDDLE // 2, "bytes of the upload")
    first.kill()
    first.wait()
    first.stdin.close()
    told = curl("-I", url)
    at = int(told["upload-offset"])
    assert MIDDLE // 2 < at <= MIDDLE
    last = curl(*PATCH, "-H", f"Upload-Offset: {at}", "--data-binary", "@-", url, data=content[at:])
    assert (last["status"], last["upload-offset"]) == ("204", str(SIZE))
    assert daemon.digests() == [digest]
    assert last["stored-as"] == daemon.files()[0].name
    assert curl("-X", "DELETE", url)["status"] == "204"
    assert curl("-I", url)["status"] == "404"
