"""
``twisted-upload -r`` and ``--tar``: folders, what is skipped in them, and what is selected.
"""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import PROGRAM, Process, run, start, start_process
from tests.support.daemon import unprivileged
from tests.support.frontends import open_frontend
from tests.support.waiting import until


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files in it, a symbolic link and a named pipe."""
    folder = tmp_path / "photos"
    for name in ("a.jpg", "deep/b.jpg", "deep/c.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "link").symlink_to("a.jpg")
    os.mkfifo(folder / "pipe")
    return folder


SKIPPED = [
    "photos/link: skipped: a symbolic link, not followed",
    "photos/pipe: skipped: a named pipe",
]


async def test_recursive(folder: Path) -> None:
    """-r sends each file; what is skipped is named, and counted in the last line."""
    async with open_frontend() as frontend:
        sent = await run("-r", "photos", to=frontend, cwd=folder.parent)
        assert frontend.stored == [b"a.jpg", b"deep/b.jpg", b"deep/c.txt"]
    assert sent.lines == [
        "photos/a.jpg: stored",
        "photos/deep/b.jpg: stored",
        "photos/deep/c.txt: stored",
    ]
    *skipped, last = sent.errors
    assert skipped == SKIPPED
    assert last.startswith("3 stored, 25 B in ")
    assert last.endswith("; 2 skipped")
    assert sent.status == 0


async def test_selected(folder: Path) -> None:
    """--include and --exclude select files in folders."""
    async with open_frontend() as frontend:
        options = ["--include", "*.jpg", "--exclude", "a*", "--include=deep/"]
        sent = await run("-r", "photos", *options, to=frontend, cwd=folder.parent)
    assert sent.lines == ["photos/deep/b.jpg: stored", "photos/deep/c.txt: stored"]


async def test_nothing_found(folder: Path) -> None:
    """If no file is found, a line says so, and no connection is made."""
    sent = await run("-r", folder, "--include", "*.png", to=1)
    assert (sent.status, sent.out) == (0, "")
    assert sent.errors == ["nothing to send: no file was found"]


async def test_json(folder: Path) -> None:
    """In JSON, the name is the path in the folder; what is skipped is an object too."""
    async with open_frontend() as frontend:
        sent = await run("-r", "photos", "--json", "-q", to=frontend, cwd=folder.parent)
    assert [(it["file"], it["name"], it["outcome"]) for it in sent.objects] == [
        ("photos/link", None, "skipped"),
        ("photos/pipe", None, "skipped"),
        ("photos/a.jpg", "a.jpg", "stored"),
        ("photos/deep/b.jpg", "deep/b.jpg", "stored"),
        ("photos/deep/c.txt", "deep/c.txt", "stored"),
    ]
    assert all(it.keys() == sent.objects[0].keys() for it in sent.objects)
    assert sent.err == ""


async def test_archive(folder: Path) -> None:
    """--tar sends one archive with all files, folders and symbolic links."""
    async with open_frontend() as frontend:
        sent = await run("--tar", "photos", to=frontend, cwd=folder.parent)
        (content,) = frontend.stored
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert archive.getnames() == [
            *("photos", "photos/a.jpg", "photos/deep", "photos/deep/b.jpg", "photos/deep/c.txt"),
            "photos/link",
        ]
    assert sent.lines == ["photos.tar: stored"]
    assert sent.errors[0] == SKIPPED[1]
    assert sent.errors[1].endswith("; 1 skipped")


async def test_archive_of_several(folder: Path, tmp_path: Path) -> None:
    """Several files and folders become one archive; a path that leads elsewhere is shortened."""
    (tmp_path / "shortcut").symlink_to("photos/a.jpg")
    words: list[str | Path] = ["--tar", "photos/deep", "shortcut", folder / "a.jpg"]
    words.append(f"../{tmp_path.name}/photos/deep/c.txt")
    async with open_frontend() as frontend:
        sent = await run(*words, to=frontend, cwd=tmp_path)
        (content,) = frontend.stored
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        names = ["photos/deep", "photos/deep/b.jpg", "photos/deep/c.txt", "shortcut"]
        names += ["a.jpg", "c.txt"]
        assert archive.getnames() == names
    assert sent.lines == ["archive.tar: stored"]


@pytest.mark.parametrize("missing", ["nowhere", "photos"])
async def test_archive_that_cannot_be_made(folder: Path, missing: str) -> None:
    """If something of an archive cannot be read, it is named, and nothing is sent."""
    before = []
    if missing == "photos":
        (folder / "deep").chmod(0)
        before = unprivileged()
    try:
        async with open_frontend() as frontend:
            sent = await run("--tar", missing, to=frontend, cwd=folder.parent, before=before)
            assert frontend.stored == []
    finally:
        (folder / "deep").chmod(0o755)
    path, why = {
        "nowhere": ("nowhere", "No such file or directory"),
        "photos": ("photos/deep", "Permission denied"),
    }[missing]
    assert sent.status == 5
    assert f"{missing}.tar: cannot read {path}: {why}" in sent.errors


async def test_same_names_in_an_archive(folder: Path) -> None:
    """Two files with the same name in an archive are wrong usage."""
    (folder.parent / "a.jpg").write_text("another")
    sent = await run("--tar", folder / "a.jpg", "a.jpg", to=1, cwd=folder.parent)
    assert sent.status == 2
    assert sent.errors == ["two files would be called 'a.jpg' in the archive"]


async def test_archive_is_sent_again(folder: Path) -> None:
    """An archive whose connection broke is sent again from its beginning, and is whole."""
    (folder / "large").write_bytes(os.urandom(2_000_000))
    async with open_frontend() as frontend:
        options = ["--retry=1", "--retry-delay=10ms"]
        sending = start("--tar", "photos", *options, to=frontend, cwd=folder.parent)
        await frontend.has_received(1)
        first: Any = next(iter(frontend.factory.protocols))
        first.transport.abortConnection()
        await sending.ended
        (content,) = frontend.stored
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        file = archive.extractfile("photos/large")
        assert file is not None
        assert file.read() == (folder / "large").read_bytes()
    assert (sending.status, sending.lines) == (0, ["photos.tar: stored"])


async def test_file_of_an_archive_changes(folder: Path) -> None:
    """If a file changes while an archive is sent, it is named, and nothing is stored."""
    with (folder / "large").open("wb") as file:
        file.truncate(200_000_000)
    async with open_frontend() as frontend:
        sending = start("--tar", "photos", to=frontend, cwd=folder.parent)
        await frontend.has_received(100_000)
        os.utime(folder / "large")
        await sending.ended
        await frontend.is_quiet()
        assert frontend.stored == []
    assert sending.status == 5
    text = "photos.tar: not stored: photos/large changed while it was being sent"
    assert text in sending.errors


@pytest.mark.parametrize("as_json", [False, True])
async def test_dry_run(folder: Path, as_json: bool) -> None:
    """--dry-run lists what would be sent, and connects to nothing."""
    options = ["--json"] if as_json else []
    words = ["-r", "photos", "-", "--dry-run", "--to=nowhere.invalid", *options]
    planned = await start_process([*PROGRAM, *words], cwd=folder.parent).ended
    if as_json:
        assert [(it["file"], it["size"]) for it in planned.objects] == [
            ("photos/a.jpg", 5), ("photos/deep/b.jpg", 10), ("photos/deep/c.txt", 10), ("-", None),
        ]  # fmt: skip
        assert {it["outcome"] for it in planned.objects} == {"planned"}
    else:
        assert planned.lines == [
            "photos/a.jpg: would be sent: 5 B",
            "photos/deep/b.jpg: would be sent: 10 B",
            "photos/deep/c.txt: would be sent: 10 B",
            "-: would be sent: size unknown",
        ]
    assert planned.errors == [*SKIPPED, "4 files, 25 B, to nowhere.invalid: nothing was sent"]
    assert planned.status == 0


async def test_dry_run_of_what_cannot_be_sent(folder: Path) -> None:
    """A dry run names what cannot be read, and has the status that sending would have."""
    words: list[str | Path] = [folder, "missing", folder / "a.jpg", "--dry-run"]
    planned = await start_process([*PROGRAM, *words], cwd=folder.parent).ended
    assert planned.status == 5
    assert planned.lines == [f"{folder}/a.jpg: would be sent: 5 B"]
    assert planned.errors == [
        f"{folder}: it is a directory: -r sends its files, --tar sends it as one",
        "missing: No such file or directory",
        "1 file, 5 B, to localhost:6666: nothing was sent",
    ]


async def _limited(*words: str | Path, **options: str | Path) -> tuple[Process, list[bytes], float]:
    """Run the command with a limit; return how many seconds it took to send."""
    async with open_frontend() as frontend:
        sent = await run(*words, "--limit-rate=1M", "--json", to=frontend, **options)
        return sent, frontend.stored, max(it["seconds"] for it in sent.objects)


async def test_limited_rate(tmp_path: Path) -> None:
    """--limit-rate holds for all files together, whatever is sent at the same time."""
    contents = [os.urandom(200_000) for _ in range(3)]
    paths = [tmp_path / f"{number}.bin" for number in range(3)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    sent, stored, seconds = await _limited(*paths, "-j3")
    assert sorted(stored) == sorted(contents)
    assert sent.status == 0
    assert seconds >= 600_000 / 2**20 * 0.9


async def test_limited_archive(folder: Path) -> None:
    """--limit-rate holds for archives too."""
    (folder / "large").write_bytes(bytes(300_000))
    sent, _, seconds = await _limited("--tar", "photos", cwd=folder.parent)
    assert sent.status == 0
    assert seconds >= 300_000 / 2**20 * 0.9


async def test_limited_pipes(tmp_path: Path) -> None:
    """--limit-rate holds for standard input and named pipes, and Ctrl-C does not wait for it."""
    os.mkfifo(tmp_path / "pipe")
    async with open_frontend() as frontend:
        sending = start("-", tmp_path / "pipe", "-j2", "--limit-rate=1K", to=frontend)
        sending.transport.write(b"x" * 4000)
        sending.transport.closeStdin()
        await until(lambda: len(frontend.factory.protocols) == 2)
        with (tmp_path / "pipe").open("wb") as writer:
            writer.write(b"y" * 10)
        await until(lambda: len(frontend.stored) == 1)
        assert frontend.stored == [b"y" * 10]
        sending.kill(2)
        await sending.ended
        await frontend.is_quiet()
        assert len(frontend.stored) == 1
    assert sending.status == 130
