"""
The output of ``twisted-upload`` for pipes, files and programs.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from twisted.internet.defer import gatherResults

from tests.support.commands import PROGRAM, Server, content, run, run_, serving, start_process
from tests.support.frontends import open_frontend
from twisted_upload.errors import Busy
from twisted_upload.frontends.raw.settings import RawSettings


async def test_json(photo: Path, tmp_path: Path) -> None:
    """With --json, each file is one object with the documented fields."""
    async with open_frontend(RawSettings(receipts=True)) as frontend:
        sent = await run("--json", photo, tmp_path / "missing", to=frontend)
    stored, failed = sent.objects
    assert stored.pop("seconds") >= 0
    assert stored == {
        "file": str(photo),
        "outcome": "stored",
        "code": None,
        "name": "photo.jpg",
        "stored_as": "1795328130123.bin",
        "size": 100_003,
        "sha256": hashlib.sha256(content(photo)).hexdigest(),
        "attempts": 1,
        "resumed_bytes": 0,
        "error": None,
    }
    assert failed.keys() == {*stored, "seconds"}
    assert (failed["outcome"], failed["code"]) == ("failed", "cannot-read")
    assert failed["error"] == "No such file or directory"


async def test_sha256(photo: Path) -> None:
    """--sha256 prints the SHA-256 even if the server sends none."""
    digest = hashlib.sha256(content(photo)).hexdigest()
    async with open_frontend() as frontend:
        asked = await run("--sha256", photo, to=frontend)
        in_json = await run("--sha256", "--json", photo, to=frontend)
        not_asked = await run("--json", photo, to=frontend)
    assert asked.out == f"{photo}: stored, SHA-256 {digest}\n"
    assert in_json.objects[0]["sha256"] == digest
    assert not_asked.objects[0]["sha256"] is None


async def test_json_of_a_refusal_and_of_no_answer(photo: Path) -> None:
    """In JSON, a refusal has the server's code, and an unknown outcome is called unknown."""
    async with open_frontend() as frontend, serving(Server(b"")) as port:
        frontend.store.failing = Busy()
        refused, unknown = await gatherResults(
            [run_("--json", "-q", photo, to=frontend), run_("--json", "-q", photo, to=port)]
        )
    assert (refused.objects[0]["outcome"], refused.objects[0]["code"]) == ("refused", "busy")
    assert (unknown.objects[0]["outcome"], unknown.objects[0]["code"]) == ("unknown", "no-answer")
    assert refused.err == unknown.err == ""


async def test_quiet(photo: Path, tmp_path: Path) -> None:
    """With --quiet, only failures are printed."""
    async with open_frontend() as frontend:
        sent = await run("-q", photo, tmp_path / "missing", to=frontend)
        assert len(frontend.stored) == 1
    assert sent.out == ""
    assert sent.errors == [f"{tmp_path}/missing: No such file or directory"]


async def test_strange_names(tmp_path: Path) -> None:
    """Control characters and invalid UTF-8 in a name reach neither a terminal nor a pipe."""
    names = ["\x1b[31mred\n", "caf\udce9", "gpj.\u202eexe"]
    stored, failed = ([tmp_path / f"{name}{number}" for name in names] for number in (1, 2))
    for path in stored:
        path.write_text("x")
    async with open_frontend() as frontend:
        sent, as_json = await gatherResults(
            [
                run_(*stored, *failed, to=frontend),
                run_("--json", "-q", *stored, *failed, to=frontend),
            ]
        )
    assert sent.status == 1
    for stream, number in ((sent.out, 1), (sent.err, 2)):
        assert all(line.isprintable() for line in stream.splitlines())
        for name in ("\\x1b[31mred\\n", "caf\\xe9", "gpj.\\u202eexe"):
            assert f"{name}{number}: " in stream
    assert as_json.out.isascii()
    assert [one["file"] for one in as_json.objects] == [str(path) for path in (*stored, *failed)]


async def test_another_encoding(photo: Path) -> None:
    """If the locale cannot encode 上传成功, it is escaped, without an error."""
    async with open_frontend() as frontend:
        locale = {"PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
        sent = await run(photo, "--raw-answer", to=frontend, env=locale)
    assert (sent.status, sent.err) == (0, "")
    assert sent.out == f"{photo}: \\u4e0a\\u4f20\\u6210\\u529f\n"


async def test_closed_pipe(photo: Path) -> None:
    """If the reader of the results exits, as head does, the files are still sent."""
    read, write = os.pipe()
    os.close(read)
    try:
        async with open_frontend() as frontend:
            sent = await run(photo, photo, to=frontend, fds={1: write})
            assert len(frontend.stored) == 2
    finally:
        os.close(write)
    assert (sent.status, sent.lines) == (0, [])
    assert [line.partition(",")[0] for line in sent.errors] == ["2 stored"]


async def test_results_cannot_be_written(photo: Path) -> None:
    """If results cannot be written, that is reported, and the status is 1."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        async with open_frontend() as frontend:
            sent = await run(photo, to=frontend, fds={1: full})
            helped = await start_process([*PROGRAM, "--help"], fds={1: full}).ended
            assert len(frontend.stored) == 1
    finally:
        os.close(full)
    assert sent.errors == helped.errors == ["standard output: No space left on device"]
    assert (sent.status, helped.status) == (1, 1)


async def test_no_output_at_all(photo: Path) -> None:
    """Files are sent even without standard output and standard error."""
    async with open_frontend() as frontend:
        sent = await run(photo, to=frontend, before=["sh", "-c", 'exec "$0" "$@" >&- 2>&-'])
        assert len(frontend.stored) == 1
    assert sent.status == 0
