"""
``twisted-upload`` sends files: destinations and sources.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sysconfig
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import reactor as _reactor
from twisted.internet.defer import gatherResults

from tests.support.commands import PROGRAM, content, run, run_, start, start_process
from tests.support.frontends import open_frontend
from tests.support.waiting import turns, until
from twisted_upload.frontends.raw.settings import RawSettings

reactor: Any = _reactor


async def test_stored(photo: Path) -> None:
    """A stored file is identical to the original; one line is printed, and nothing else."""
    async with open_frontend() as frontend:
        sent = await run(photo, to=frontend)
        assert frontend.stored == [content(photo)]
    assert (sent.status, sent.out, sent.err) == (0, f"{photo}: stored\n", "")


async def test_receipt(photo: Path) -> None:
    """If the server sends receipts, the line also has the name; with --raw-answer, all of it."""
    async with open_frontend(RawSettings(receipts=True)) as frontend:
        sent = await run(photo, to=frontend)
        raw = await run(photo, "--raw-answer", to=frontend)
    digest = hashlib.sha256(content(photo)).hexdigest()
    assert raw.out == f"{photo}: 上传成功 1795328130123-1.bin 100003 {digest}\n"
    assert sent.out == f"{photo}: stored as 1795328130123.bin\n"


async def test_installed_script(photo: Path) -> None:
    """The command is installed as twisted-upload."""
    script = shutil.which("twisted-upload", path=sysconfig.get_path("scripts"))
    assert script is not None
    async with open_frontend() as frontend:
        sent = await start_process([script, photo, "--to", "{}:{}".format(*frontend.address)]).ended
        assert frontend.stored == [content(photo)]
    assert (sent.status, sent.out) == (0, f"{photo}: stored\n")


@pytest.mark.parametrize("where", ["localhost:{}", "127.0.0.1:{}", "tcp:localhost:{}"])
async def test_destinations(photo: Path, where: str) -> None:
    """The server is a name, an address or an endpoint string, also from the environment."""
    async with open_frontend() as frontend:
        where = where.format(frontend.address[1])
        sent, also = await gatherResults(
            [
                start_process([*PROGRAM, "--to", where, photo]).ended,
                start_process([*PROGRAM, photo], env={"TWISTED_UPLOAD_TO": where}).ended,
            ]
        )
        assert len(frontend.stored) == 2
    assert (sent.status, sent.err, also.status, also.err) == (0, "", 0, "")


async def test_option_before_environment(photo: Path) -> None:
    """--to takes precedence over TWISTED_UPLOAD_TO."""
    async with open_frontend() as frontend:
        sent = await run(photo, to=frontend, env={"TWISTED_UPLOAD_TO": "127.0.0.1:1"})
    assert sent.status == 0


async def test_ipv6(photo: Path) -> None:
    """An IPv6 server is given as an address in brackets."""
    async with open_frontend() as frontend:
        try:
            port = reactor.listenTCP(0, frontend.factory, interface="::1")
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
        try:
            sent = await start_process(
                [*PROGRAM, photo, "--to", f"[::1]:{port.getHost().port}"]
            ).ended
        finally:
            await port.stopListening()
    assert (sent.status, sent.err) == (0, "")


async def test_unix_socket(photo: Path, tmp_path: Path) -> None:
    """A server on a Unix socket is given as unix:PATH."""
    async with open_frontend() as frontend:
        port = reactor.listenUNIX(str(tmp_path / "socket"), frontend.factory)
        try:
            sent = await start_process([*PROGRAM, photo, "--to", f"unix:{tmp_path}/socket"]).ended
        finally:
            await port.stopListening()
        assert frontend.stored == [content(photo)]
    assert (sent.status, sent.err) == (0, "")


async def test_custom_success_answer(photo: Path) -> None:
    """With --answer, a server's custom success answer is recognized; it may be printed."""
    async with open_frontend(RawSettings(answer="我很好,谢谢你")) as frontend:
        understood, printed, not_understood = await gatherResults(
            [
                run_(photo, "--answer", "我很好,谢谢你", to=frontend),
                run_(photo, "--answer", "我很好,谢谢你", "--raw-answer", to=frontend),
                run_(photo, to=frontend),
            ]
        )
    assert printed.out == f"{photo}: 我很好,谢谢你\n"
    assert (understood.status, understood.out) == (0, f"{photo}: stored\n")
    assert not_understood.status == 6


async def test_standard_input() -> None:
    """The FILE - is standard input, which is read to its end."""
    async with open_frontend() as frontend:
        sending = start("-", to=frontend)
        sending.transport.write(b"first ")
        await frontend.has_received(6)
        sending.transport.write(b"second")
        sending.transport.closeStdin()
        await sending.ended
        assert frontend.stored == [b"first second"]
    assert (sending.status, sending.out, sending.err) == (0, "-: stored\n", "")


async def test_standard_input_from_a_file(photo: Path) -> None:
    """If standard input is a file, it is sent from its current offset."""
    with photo.open("rb", buffering=0) as stdin:
        stdin.seek(50_000)
        async with open_frontend() as frontend:
            sent = await run("-", to=frontend, fds={0: stdin.fileno()})
            assert frontend.stored == [content(photo)[50_000:]]
    assert sent.status == 0


async def test_named_pipe(tmp_path: Path) -> None:
    """A named pipe is read to its end."""
    os.mkfifo(tmp_path / "pipe")
    async with open_frontend() as frontend:
        sending = start(tmp_path / "pipe", to=frontend)
        await until(lambda: frontend.factory.protocols)
        writer = await start_process(
            ["sh", "-c", 'printf hello > "$0"', str(tmp_path / "pipe")]
        ).ended
        await sending.ended
        assert frontend.stored == [b"hello"]
    assert (writer.status, sending.status) == (0, 0)


@pytest.mark.parametrize("jobs", ["1", "4"])
async def test_many_files(tmp_path: Path, jobs: str) -> None:
    """Of many files, one or several at a time, each is stored once and has its line."""
    paths = [tmp_path / f"{number}.txt" for number in range(20)]
    for path in paths:
        path.write_text(path.name)
    async with open_frontend() as frontend:
        sent = await run(*paths, "--jobs", jobs, to=frontend)
        assert sorted(frontend.stored) == sorted(path.name.encode() for path in paths)
    assert sorted(sent.lines) == sorted(f"{path}: stored" for path in paths)
    assert sent.status == 0


async def test_jobs_run_concurrently(tmp_path: Path, photo: Path) -> None:
    """With -j 3, three files are sent at the same time, not four."""
    async with open_frontend() as frontend:
        frontend.store.holding = True
        sending = start(*[photo] * 4, "-j3", to=frontend)
        await until(lambda: len(frontend.store.unfinished) == 3)
        await turns()
        assert len(frontend.factory.protocols) == 3
        frontend.store.release()
        await sending.ended
        assert len(frontend.stored) == 4
    assert sending.status == 0
