"""
What a watcher does on its disk survives a power failure in the order in which it counts.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock

from twisted_upload.cli.patterns import Patterns
from twisted_upload.cli.watch_options import WatchOptions
from twisted_upload.cli.watching import Watching
from twisted_upload.client.content import open_content
from twisted_upload.client.files import ClientFiles, make_durable_folders
from twisted_upload.client.system import ClientSystem
from twisted_upload.client.targets import parse_target
from twisted_upload.client.watch.after import Delete, IAfter, Move
from twisted_upload.client.watch.folder import WatchedFolder
from twisted_upload.client.watch.resumption import WatchedUploads
from twisted_upload.receipt import NO_METADATA


class Noting(ClientFiles):
    """
    The real system calls, some of which are noted.

    :ivar calls: names of calls and of files.
    :ivar broken: name of a file whose attributes cannot be read.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken = ""

    def status_of(self, path: str, *, follow: bool = False) -> os.stat_result:
        if self.broken and path.endswith(self.broken):
            raise OSError(5, "Input/output error")
        return super().status_of(path, follow=follow)

    def sync_folder(self, folder: str) -> None:
        super().sync_folder(folder)
        self.calls.append(f"sync {os.path.basename(folder)}")

    def make_folder(self, path: str, mode: int = 0o777) -> None:
        super().make_folder(path, mode)
        self.calls.append(f"mkdir {os.path.basename(path)}")

    def remove(self, path: str) -> None:
        super().remove(path)
        self.calls.append(f"remove {os.path.basename(path)}")

    def replace(self, path: str, new_path: str) -> None:
        super().replace(path, new_path)
        self.calls.append(f"move {os.path.basename(path)}")


def test_folders(tmp_path: Path) -> None:
    """The names of new folders are synced, and that of the last one if it exists, too."""
    files, path = Noting(), tmp_path / "state" / "watch"
    make_durable_folders(files, str(path), 0o700)
    made = ["mkdir state", f"sync {tmp_path.name}", "mkdir watch", "sync state"]
    assert files.calls == made
    assert path.stat().st_mode & 0o777 == 0o700
    make_durable_folders(files, str(path), 0o700)
    assert files.calls == [*made, "sync state"]


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """An error is one."""
    tmp_path.joinpath("file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        make_durable_folders(Noting(), str(tmp_path / "file" / "folder"))


@pytest.mark.parametrize("moves", [False, True])
def test_after(tmp_path: Path, *, moves: bool) -> None:
    """
    That a file has been deleted or moved is durable when that is over.

    The record then forgets it: if it came back after a power failure, it would be sent again.
    """
    drop, files = tmp_path / "drop", Noting()
    drop.joinpath("sub").mkdir(parents=True)
    drop.joinpath("sub", "a.pdf").write_bytes(b"content")
    after: IAfter = Move(str(tmp_path / "done")) if moves else Delete()
    after(WatchedFolder(str(drop), 1.0, lambda path, *, is_folder: True, files), "sub/a.pdf")
    made = ["mkdir done", f"sync {tmp_path.name}", "mkdir sub", "sync done"]
    moved = [*made, "move a.pdf", "sync sub", "sync sub"]
    assert files.calls == (moved if moves else ["remove a.pdf", "sync sub"])


@pytest.mark.parametrize("how", ["forget", "lost"])
def test_upload_that_the_server_does_not_know(tmp_path: Path, how: str) -> None:
    """
    What is remembered of an upload stays until its file is in the record, unless the server
    does not know it any more: then it is sent again, rather than asked for once more for ever.
    """
    path = tmp_path / "a.pdf"
    path.write_bytes(b"content")

    def remembered() -> Any:
        uploads = WatchedUploads(str(tmp_path / "uploads"), now=lambda: 0.0)
        with contextlib.closing(open_content(path)) as content:
            return uploads.remember(content, parse_target("http://server/"), NO_METADATA)

    saved = remembered()
    saved.save("/files/1")
    saved.mark_finishing()
    getattr(saved, how)()
    saved.close()
    again = remembered()
    assert (again.path, again.finishing) == ((None, False) if how == "lost" else ("/files/1", True))
    again.close()


class Threads:
    """Runs everything at once."""

    def run(self, job: Any) -> Deferred[Any]:
        return execute(job)


class Events:
    """Reports what the test says."""

    def __init__(self, reactor: Any, path: str, closed: Any) -> None:
        self.closed = closed

    def start(self) -> None:
        pass

    def stop(self) -> None:
        pass


class System(ClientSystem):
    """The real system, with other files."""

    def __init__(self, files: Noting) -> None:
        self.files = files


def test_event_about_a_file_that_cannot_be_looked_at(tmp_path: Path) -> None:
    """An event about a file that the disk cannot show is left to the scans."""
    events: list[Events] = []

    def make(*arguments: Any) -> Events:
        events.append(Events(*arguments))
        return events[-1]

    drop, files = tmp_path / "drop", Noting()
    drop.mkdir()
    state = tmp_path / "state"
    state.mkdir()
    target = parse_target("http://server/")
    options = WatchOptions(str(drop), target, None, True, None, 1.0, Patterns(), 1, str(state))
    threads: Any = Threads()
    watching = Watching(
        options, lambda _: None, Clock(), threads, system=System(files), events=make
    )
    files.broken = "a.pdf"
    (reporting,) = events
    reporting.closed("a.pdf")
    reporting.closed("b.pdf")
    watching.close()
