"""
One behaviour, whichever way a program uploads: with the real daemon.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from tests.support.daemon import Daemon
from tests.support.flavours import Flavour
from tests.support.processes import open_descriptors
from tests.support.tls_peers import files
from tests.support.unreliable import Break, Unreliable
from twisted_upload import Attempt, ResumeState
from twisted_upload.errors import (
    CouldNotConnect,
    OutcomeUnknown,
    SourceChanged,
    SourceFailed,
    TooLarge,
    UploadInterrupted,
    UploadTimedOut,
)
from twisted_upload.interfaces import Metadata

MIB = 1024 * 1024

pytestmark = pytest.mark.parametrize("flavour", Flavour, ids=lambda flavour: flavour.value)


class Server(Daemon):
    """
    The daemon with a raw and an HTTP port.

    :ivar raw: the raw port.
    :ivar http: the other one.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        super().__init__(folder, "--port=0", "--http=0", "--interface=127.0.0.1", *options)

    @property
    def raw(self) -> int:
        return int(self.addresses[0][1][1])

    @property
    def http(self) -> int:
        return int(self.addresses[1][1][1])

    def target(self, scheme: str) -> str:
        """Return where to send."""
        return f"http://127.0.0.1:{self.http}/" if scheme == "http" else f"127.0.0.1:{self.raw}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The daemon."""
    with Server(tmp_path_factory.mktemp("daemon"), "--max-size=64M", "--receipts") as daemon:
        yield daemon


class Before:
    """What the daemon has stored before a test."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._names = {path.name for path in server.files()}

    def added(self) -> list[bytes]:
        """Return what it has stored since then."""
        return [path.read_bytes() for path in self._server.files() if path.name not in self._names]


@pytest.fixture
def before(server: Server) -> Before:
    """What the daemon has stored before the test."""
    return Before(server)


@pytest.fixture(params=["raw", "http"])
def target(request: pytest.FixtureRequest, server: Server) -> str:
    """Where to send: by each protocol."""
    return server.target(request.param)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", [1, 100_000, 5 * MIB + 1])
async def test_path(
    flavour: Flavour, target: str, before: Before, tmp_path: Path, size: int
) -> None:
    """A file is stored as it is, and the receipt has its name, size and SHA-256."""
    content = os.urandom(size)
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    receipt = await flavour.upload(path, target)
    assert before.added() == [content]
    assert (receipt.size, receipt.sha256) == (size, sha256(content))
    assert receipt.name
    assert receipt.arrived <= receipt.stored
    assert receipt.peer in (target, target.removeprefix("http://").rstrip("/"))
    assert open_descriptors(tmp_path) == []


async def test_bytes(flavour: Flavour, target: str, before: Before) -> None:
    """Bytes are stored."""
    await flavour.upload(b"hello", target)
    assert before.added() == [b"hello"]


async def test_file_object(flavour: Flavour, target: str, before: Before, tmp_path: Path) -> None:
    """A file object is read from its current position, and is not closed."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        file.read(3)
        await flavour.upload(file, target)
        assert not file.closed
    assert before.added() == [b"3456789"]


@pytest.mark.parametrize("size", [0, 5, 60_000])
async def test_pipe(
    flavour: Flavour, server: Server, before: Before, pipe: tuple[BinaryIO, BinaryIO], size: int
) -> None:
    """What can be read only once, and has no length, is stored over HTTP, even if empty."""
    source, sink = pipe
    sink.write(b"x" * size)
    sink.close()
    receipt = await flavour.upload(source, server.target("http"))
    assert before.added() == [b"x" * size]
    assert (receipt.size, receipt.sha256) == (size, sha256(b"x" * size))


async def test_raw_pipe(
    flavour: Flavour, server: Server, before: Before, pipe: tuple[BinaryIO, BinaryIO]
) -> None:
    """And so it is over raw TCP."""
    source, sink = pipe
    sink.write(b"some")
    sink.close()
    await flavour.upload(source, server.target("raw"))
    assert before.added() == [b"some"]


async def test_empty_file(flavour: Flavour, server: Server, before: Before, tmp_path: Path) -> None:
    """An empty file is stored over HTTP."""
    (tmp_path / "empty").touch()
    receipt = await flavour.upload(tmp_path / "empty", server.target("http"))
    assert before.added() == [b""]
    assert receipt.size == 0


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_generated_file(flavour: Flavour, server: Server, before: Before) -> None:
    """A generated file, which claims to be empty, is stored with its content."""
    await flavour.upload("/proc/version", server.target("http"))
    (stored,) = before.added()
    assert stored.startswith(b"Linux version")


async def test_metadata(flavour: Flavour, server: Server, tmp_path: Path) -> None:
    """Name, media type and label go along; the name of a file goes along by itself."""
    path = tmp_path / "one two.txt"
    path.write_bytes(b"x")
    url = server.target("http")
    receipt = await flavour.upload(path, url, content_type="text/plain", label="tower")
    assert receipt.metadata == Metadata("one two.txt", "text/plain", "tower")
    assert (await flavour.upload(path, url, name="../é.txt")).metadata.original_name == "é.txt"
    folder = (await flavour.upload(path, url, name="../2026/é/a.txt")).metadata
    assert folder == Metadata("a.txt", folder="2026/é")
    assert (await flavour.upload(path, url, name="")).metadata.original_name == ""
    line = server.wait_for_line('original name "one two.txt"')
    assert "tower" in line
    server.wait_for_line('original name "é.txt"')


async def test_without_sha256(flavour: Flavour, tmp_path: Path) -> None:
    """The server is not asked for the SHA-256 if that is not wanted."""
    with Server(tmp_path) as server:
        url = server.target("http")
        assert (await flavour.upload(b"x", url, sha256=False)).sha256 is None
        assert (await flavour.upload(b"x", url)).sha256 == sha256(b"x")
        raw = server.target("raw")
        assert (await flavour.upload(b"x", raw)).sha256 is None
        assert (await flavour.upload(b"x", raw, sha256=True)).sha256 == sha256(b"x")


# -- errors -------------------------------------------------------------------


async def test_too_large(flavour: Flavour, target: str, before: Before, tmp_path: Path) -> None:
    """A refusal has the code of the server, and its explanation; nothing is stored."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(65 * MIB)
        file.write(b"x")
    error = await flavour.error_of(path, target)
    assert type(error) is TooLarge
    assert "64" in str(error)
    assert before.added() == []


@pytest.mark.parametrize("target", ["", "no sense", "ftp://server/", "http://a b/", "tor:a:1"])
async def test_wrong_target(flavour: Flavour, target: str) -> None:
    """A string that is not a target is a `ValueError`."""
    assert type(await flavour.error_of(b"x", target)) is ValueError


async def test_wrong_arguments(flavour: Flavour, server: Server) -> None:
    """A token that no server could have, or where there are none, is a `ValueError`."""
    url = server.target("http")
    assert type(await flavour.error_of(b"x", url, token="a\r\nb")) is ValueError
    assert type(await flavour.error_of(b"x", server.target("raw"), token="abc")) is ValueError
    assert type(await flavour.error_of(b"x", url, cacert="/etc/ca.pem")) is ValueError
    assert type(await flavour.error_of("text".__len__, url)) is TypeError


@pytest.mark.parametrize("scheme", ["http://127.0.0.1:{}/", "127.0.0.1:{}", "tls:127.0.0.1:{}"])
async def test_closed_port(flavour: Flavour, server: Server, scheme: str) -> None:
    """A server that is not there is an error at once."""
    with Unreliable(1) as closed:
        port = closed.port
    error = await flavour.error_of(b"x", scheme.format(port))
    assert type(error) is CouldNotConnect
    assert "refused" in str(error)


async def test_other_protocol(flavour: Flavour, server: Server) -> None:
    """HTTP to a raw port, raw TCP to an HTTP port: a clear error, and no retry."""
    error = await flavour.error_of(b"x", f"http://127.0.0.1:{server.raw}/", answer_timeout=0.5)
    assert type(error) is UploadTimedOut
    error = await flavour.error_of(b"x" * 10, f"127.0.0.1:{server.http}")
    assert isinstance(error, OutcomeUnknown)


async def test_no_such_file(flavour: Flavour, target: str, tmp_path: Path) -> None:
    """A file that is not there is an error of the source."""
    error = await flavour.error_of(tmp_path / "nowhere", target)
    assert type(error) is SourceFailed


async def test_changed_file(flavour: Flavour, target: str, before: Before, tmp_path: Path) -> None:
    """A file that changes while it is sent is not stored, and no attempt follows."""
    path = tmp_path / "growing"
    path.write_bytes(bytes(40 * MIB))
    calls: list[int] = []

    def grow(sent: int, total: int | None) -> None:
        if not calls:
            with path.open("ab") as file:
                file.write(b"more")
        calls.append(sent)

    error = await flavour.error_of(path, target, progress=grow)
    assert isinstance(error, SourceChanged | OutcomeUnknown)
    if isinstance(error, SourceChanged):
        assert before.added() == []


async def test_progress(flavour: Flavour, target: str, tmp_path: Path) -> None:
    """The progress grows up to the total."""
    path = tmp_path / "file"
    path.write_bytes(bytes(9 * MIB))
    calls: list[tuple[int, int | None]] = []
    await flavour.upload(path, target, progress=lambda *call: calls.append(call))
    assert calls == sorted(calls)
    assert calls[-1] == (9 * MIB, 9 * MIB)


async def test_exception_in_progress(
    flavour: Flavour, target: str, before: Before, tmp_path: Path
) -> None:
    """What a callback raises ends the upload, and nothing is stored."""
    path = tmp_path / "file"
    path.write_bytes(bytes(60 * MIB))

    def fail(sent: int, total: int | None) -> None:
        raise KeyError("mine")

    error = await flavour.error_of(path, target, progress=fail)
    assert type(error) is KeyError
    assert open_descriptors(tmp_path) == [] or flavour is not Flavour.SYNC


# -- other connections --------------------------------------------------------


async def test_unix_socket(flavour: Flavour, tmp_path: Path) -> None:
    """A unix socket works too."""
    with Daemon(tmp_path, f"--listen=unix:{tmp_path}/s") as daemon:
        receipt = await flavour.upload(b"hello", f"unix:{tmp_path}/s")
        assert daemon.only_file() == b"hello"
    assert receipt.peer == "unix"


async def test_tls(flavour: Flavour, tmp_path: Path) -> None:
    """TLS works, raw and with HTTP, and verifies the server."""
    key, certificate, ca = files(tmp_path)
    tls = f"tls:0:interface=127.0.0.1:key={key}:cert={certificate}"
    content = os.urandom(3 * MIB)
    path = tmp_path / "file"
    path.write_bytes(content)
    with Daemon(tmp_path, f"--listen={tls}", f"--http={tls}", "--receipts") as daemon:
        raw, http = (int(address[1]) for _, address in daemon.addresses)
        for target in (f"tls://127.0.0.1:{raw}", f"https://127.0.0.1:{http}/"):
            receipt = await flavour.upload(path, target, cacert=ca)
            assert receipt.sha256 == sha256(content)
            error = await flavour.error_of(path, target)
            assert type(error) is CouldNotConnect
            assert "not trusted" in str(error)
        assert [file.read_bytes() for file in daemon.files()] == [content] * 2


async def test_http_at_a_port_with_tls(flavour: Flavour, tmp_path: Path) -> None:
    """Without TLS, the error says that it is needed."""
    key, certificate, _ = files(tmp_path)
    tls = f"tls:0:interface=127.0.0.1:key={key}:cert={certificate}"
    with Daemon(tmp_path, f"--http={tls}") as daemon:
        error = await flavour.error_of(b"x", f"http://127.0.0.1:{daemon.address[1]}/")
    assert type(error) is UploadInterrupted
    assert "https://" in str(error)


# -- breaks -------------------------------------------------------------------


@pytest.mark.parametrize(
    "breaks",
    [
        [Break(sent=10)],
        [Break(answered=0)],
        [Break(sent=2 * MIB)],
        [Break(sent=1 * MIB), Break(sent=20), Break(sent=2 * MIB), Break(answered=5)],
        [Break(sent=5 * MIB + 400)],
    ],
    ids=["creation", "answer to the creation", "middle", "many", "end"],
)
async def test_goes_on(
    flavour: Flavour, server: Server, before: Before, tmp_path: Path, breaks: list[Break]
) -> None:
    """Over HTTP, an upload goes on where the connection broke, and is stored once."""
    content = os.urandom(5 * MIB)
    path = tmp_path / "file"
    path.write_bytes(content)
    attempts: list[Attempt] = []
    with Unreliable(server.http, breaks) as network:
        receipt = await flavour.upload(
            path, f"http://127.0.0.1:{network.port}/", retry=20, on_attempt=attempts.append
        )
    assert before.added() == [content]
    assert receipt.sha256 == sha256(content)
    failed = [attempt for attempt in attempts if attempt.error is not None]
    assert len(failed) == len(breaks)
    assert {type(attempt.error) for attempt in failed} == {UploadInterrupted}
    offsets = [attempt.offset for attempt in attempts if attempt.error is None]
    assert offsets == sorted(offsets)
    if breaks[0].sent == 2 * MIB:
        assert offsets[-1] > 0


async def test_lost_answer(
    flavour: Flavour, server: Server, before: Before, tmp_path: Path
) -> None:
    """If the last answer is lost, the server is asked, and the file is stored once."""
    with Unreliable(server.http, [Break(answered=330)]) as network:
        receipt = await flavour.upload(b"x" * 1000, f"http://127.0.0.1:{network.port}/", retry=20)
        assert network.connections <= 2
    assert before.added() == [b"x" * 1000]
    assert receipt.name


async def test_pipe_goes_on(
    flavour: Flavour, server: Server, before: Before, pipe: tuple[BinaryIO, BinaryIO]
) -> None:
    """Even what can be read only once goes on: a piece of it stays in memory."""
    source, sink = pipe
    sink.write(b"y" * 50_000)
    sink.close()
    breaks = [Break(sent=20_000), Break(sent=100), Break(answered=300)]
    with Unreliable(server.http, breaks) as network:
        await flavour.upload(source, f"http://127.0.0.1:{network.port}/", retry=20)
    assert before.added() == [b"y" * 50_000]


async def test_without_retry(
    flavour: Flavour, server: Server, before: Before, tmp_path: Path
) -> None:
    """With no time for another attempt, the first break is the error; then it is remembered."""
    content = os.urandom(40 * MIB)
    path = tmp_path / "file"
    path.write_bytes(content)
    state = ResumeState(tmp_path / "state")
    with Unreliable(server.http, [Break(sent=2 * MIB)]) as network:
        url = f"http://127.0.0.1:{network.port}/"
        error = await flavour.error_of(path, url, retry=0, state=state)
        assert type(error) is UploadInterrupted
        assert before.added() == []
        offsets: list[int] = []
        await flavour.upload(
            path, url, state=state, on_attempt=lambda attempt: offsets.append(attempt.offset)
        )
    assert before.added() == [content]
    assert offsets[0] > 0
    assert os.listdir(tmp_path / "state") == []


async def test_raw_is_repeated(flavour: Flavour, server: Server, before: Before) -> None:
    """Over raw TCP, an attempt is repeated if it was certainly not stored."""
    content = os.urandom(40 * MIB)
    attempts: list[Any] = []
    with Unreliable(server.raw, [Break(sent=MIB, reset=True)]) as network:
        await flavour.upload(
            content, f"127.0.0.1:{network.port}", retry=20, on_attempt=attempts.append
        )
    assert before.added() == [content]
    assert [attempt.error is None for attempt in attempts] == [True, False, True]
