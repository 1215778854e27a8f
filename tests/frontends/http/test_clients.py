"""
Plain uploads by curl and by Python's requests, over real sockets.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import PATIENCE, deadly
from tests.support.http import OpenHTTP, open_http, put
from tests.support.senders import reset
from tests.support.tools import tool
from tests.support.waiting import in_thread, pass_time, until
from twisted_upload.frontends.http.plain import PlainUploads
from twisted_upload.frontends.http.router import Router
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.sender import STORE_PATIENCE
from twisted_upload.interfaces import Metadata

requests: Any = pytest.importorskip("requests")

NAME = "1795328130123.bin"
LARGE = bytes(range(256)) * 12_000  # 3 MB


@contextlib.asynccontextmanager
async def open_box(settings: HTTPSettings | None = None) -> AsyncIterator[OpenHTTP]:
    """Open a front end that takes plain uploads."""
    async with open_http(settings, Router(PlainUploads().routes())) as http:
        yield http


async def curl(*arguments: str | Path, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run curl to its end."""
    return await in_thread(
        subprocess.run,
        [*deadly(), tool("curl"), "--silent", "--show-error", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
        timeout=PATIENCE,
    )


def line(content: bytes, name: str = NAME, *, hashed: bool = True) -> str:
    """Return the line that a sender is told."""
    digest = hashlib.sha256(content).hexdigest() if hashed else "-"
    return f"上传成功 {name} {len(content)} {digest}\n"


def digest(content: bytes) -> str:
    """Return a digest as fields contain it."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A small file with a name that has to be encoded."""
    path = tmp_path / "my 照片.jpg"
    path.write_bytes(b"hello")
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file that is larger than any buffer."""
    path = tmp_path / "large.bin"
    path.write_bytes(LARGE)
    return path


async def test_curl_upload_file(photo: Path, large: Path) -> None:
    """``curl -T FILE URL/`` stores it, and prints the receipt."""
    async with open_box() as box:
        done = await curl("-T", photo, f"{box.url}/")
        assert done.stdout.decode() == line(b"hello")
        assert (await curl("-T", large, f"{box.url}/")).stdout.decode() == line(
            LARGE, "1795328130123-1.bin", hashed=False
        )
        assert box.stored == [b"hello", LARGE]
        names = [ended["metadata"].original_name for ended in box.log.ends]
        assert names == ["my 照片.jpg", "large.bin"]


async def test_curl_from_a_pipe(photo: Path) -> None:
    """``curl -T -`` sends a chunked body, whose length is not known."""
    async with open_box() as box:
        done = await curl("-T", "-", f"{box.url}/photo.jpg", stdin=LARGE)
        assert done.stdout.decode() == line(LARGE, hashed=False)
        assert box.stored == [LARGE]


async def test_curl_data(photo: Path) -> None:
    """``curl --data-binary`` sends a POST."""
    async with open_box() as box:
        done = await curl("--data-binary", f"@{photo}", f"{box.url}/")
        assert done.stdout.decode() == line(b"hello")
        assert box.log.ends[0]["metadata"].content_type == ""


async def test_curl_form(photo: Path, large: Path) -> None:
    """``curl -F`` sends a form with several files."""
    async with open_box() as box:
        files = ["-F", f"a=@{large}", "-F", f"b=@{photo};type=image/jpeg", "-F", "note=hello"]
        done = await curl(*files, f"{box.url}/")
        assert done.stdout.decode() == line(LARGE) + line(b"hello", "1795328130123-1.bin")
        assert box.stored == [LARGE, b"hello"]
        assert [ended["metadata"] for ended in box.log.ends] == [
            Metadata("large.bin", "application/octet-stream"),
            Metadata("my 照片.jpg", "image/jpeg"),
        ]


async def test_curl_expect(photo: Path, large: Path) -> None:
    """A client that asks first gets 100 Continue, or the refusal, and then sends nothing."""
    expect = ["--verbose", "-H", "Expect: 100-continue"]
    async with open_box(HTTPSettings(max_size=1_000_000)) as box:
        done = await curl(*expect, "-T", photo, f"{box.url}/")
        assert b"< HTTP/1.1 100 Continue" in done.stderr
        assert done.stdout.decode() == line(b"hello")
        done = await curl(*expect, "-T", large, f"{box.url}/")
        assert b"100 Continue" not in done.stderr
        assert b"< HTTP/1.1 413 Content Too Large" in done.stderr
        assert done.stdout.startswith("上传失败: too-large ".encode())
        assert box.stored == [b"hello"]


async def test_curl_digest(photo: Path) -> None:
    """``curl --fail`` fails if the file has another digest."""
    async with open_box() as box:
        for content, status in (b"hello", 0), (b"other", 22):
            done = await curl(
                "--fail", "-H", f"Repr-Digest: {digest(content)}", "-T", photo, f"{box.url}/"
            )
            assert done.returncode == status
        assert box.stored == [b"hello"]
        assert box.log.kinds == ["stored", "refused"]


@contextlib.contextmanager
def curl_at_work(url: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run curl, which sends what is written to its standard input."""
    command = [*deadly(), tool("curl"), "--silent", "-T", ".", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


async def test_curl_that_is_killed() -> None:
    """Of an upload whose sender is killed, nothing is stored."""
    async with open_box() as box:
        with curl_at_work(f"{box.url}/") as process:
            assert process.stdin is not None
            process.stdin.write(LARGE[:10_000])
            process.stdin.flush()
            await box.has_received(10_000)
            process.kill()
            await box.is_quiet()
        assert (box.stored, box.store.unfinished) == ([], [])
        assert box.log.kinds == ["aborted"]


async def test_requests(photo: Path) -> None:
    """Python's requests: a file, bytes, an iterator, a form; and JSON."""
    async with open_box() as box:

        def pieces() -> Iterator[bytes]:
            yield b"one "
            yield b"two"

        def talk() -> list[Any]:
            with requests.Session() as session, photo.open("rb") as file:
                session.headers["Accept"] = "application/json"
                return [
                    session.put(f"{box.url}/photo.jpg", data=file, timeout=PATIENCE),
                    session.post(f"{box.url}/", data=b"bytes", timeout=PATIENCE),
                    session.put(f"{box.url}/", data=pieces(), timeout=PATIENCE),
                    session.post(
                        f"{box.url}/",
                        files=[("f", ("照片.jpg", b"a", "image/jpeg")), ("f", ("b", LARGE))],
                        timeout=PATIENCE,
                    ),
                    session.get(f"{box.url}/{NAME}", timeout=PATIENCE),
                ]

        *stored, form, got = await in_thread(talk)
        assert [reply.status_code for reply in stored] == [201] * 3
        assert stored[0].json() == {
            "name": NAME,
            "size": 5,
            "sha256": hashlib.sha256(b"hello").hexdigest(),
            "original_name": "photo.jpg",
            "content_type": None,
            "folder": None,
        }
        assert [one["original_name"] for one in form.json()["files"]] == ["照片.jpg", "b"]
        assert box.stored == [b"hello", b"bytes", b"one two", b"a", LARGE]
        assert got.status_code == 405
        assert got.json()["code"] == "method-not-allowed"


async def test_keep_alive() -> None:
    """Plain uploads follow each other on one connection."""
    async with open_box() as box:
        client = box.connect()
        for body in b"one", b"two", LARGE:
            assert (await client.ask(put(body, "/a.jpg"))).status == 201
        assert box.stored == [b"one", b"two", LARGE]


async def test_too_short() -> None:
    """A body that ends before its length is answered with an error, and nothing is stored."""
    async with open_box() as box:
        client = box.connect().send(put(b"hello")[:-1])
        await box.has_received(4)
        client.half_close()
        assert (await client.reply()).status == 400
        assert (box.stored, box.store.unfinished) == ([], [])
        assert box.log.kinds == ["aborted"]


async def test_half_close_after_the_request() -> None:
    """A client that half-closes after its request, like ``nc -N``, gets its response."""
    async with open_box() as box:
        client = box.connect().send(put(b"hello")).half_close()
        assert (await client.reply()).status == 201


async def test_left_before_the_response() -> None:
    """A client that has sent everything and resets has its file stored; its slot is released."""
    async with open_box() as box:
        box.store.holding = True
        client = box.connect().send(put(b"hello"))
        await box.has_received(5)
        reset(client.socket)
        await box.is_quiet()
        assert box.factory.uploads_in_flight == 1
        box.store.release()
        await until(lambda: box.factory.uploads_in_flight == 0)
        assert box.stored == [b"hello"]
        assert not box.log.ends[0]["answered"]
        assert box.factory.slots.taken == 0


async def test_stalled_while_the_store_works() -> None:
    """Time in which this process was stalled does not count as the store's."""
    async with open_box() as box:
        box.store.holding = True
        client = box.connect().send(put(b"hello"))
        await until(lambda: box.store._held)
        pass_time(box.clock, 20)
        box.clock.advance(2 * STORE_PATIENCE)
        pass_time(box.clock, 20)
        box.store.release()
        assert (await client.reply()).status == 201
