"""
Full disks, stalled disks, and the order of writes.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.daemon import (
    PATIENCE,
    SUCCESS,
    Configured,
    Daemon,
    connect,
    deadly,
    finish,
    on_a_file_system,
    photo,
    sha256,
    wait_until,
)
from tests.support.scraping import Scraper
from tests.support.senders import read_all
from tests.support.twistd import FAILURE, TWO_LISTENERS, finish_with


def test_disk_fills_up(tmp_path: Path) -> None:
    """On a full disk an upload is refused with no-space and removed; smaller ones are stored."""
    before = on_a_file_system(tmp_path / "inbox", "size=1M")
    with Daemon(tmp_path, before=before) as daemon:
        daemon.directory = Path(f"/proc/{daemon.pid}/root{daemon.directory}")
        with daemon.connect() as peer:
            # The daemon may reset the connection before all is sent.
            with contextlib.suppress(ConnectionError):
                peer.sendall(bytes(2_000_000))
            assert read_all(peer).decode().startswith(f"{FAILURE}no-space ")
        wait_until(lambda: not daemon.unfinished(), "an empty .incoming")
        assert daemon.files() == []
        assert daemon.send(bytes(500_000)) == SUCCESS
        assert daemon.only_file() == bytes(500_000)


def test_disk_without_any_space(tmp_path: Path) -> None:
    """
    If every upload is refused with no-space, `twisted-upload ping` and /readyz say so, even
    if the disk reports free space; both are ready again when there is space.
    """
    before = on_a_file_system(tmp_path / "inbox", "size=1M")
    with Daemon(tmp_path, "--reserve=0", "--metrics=0", before=before) as daemon:
        scraper = Scraper(daemon)
        scraper.wait_until_ready()
        daemon.directory = Path(f"/proc/{daemon.pid}/root{daemon.directory}")
        assert daemon.send(b"").decode().startswith(f"{FAILURE}empty ")
        other = daemon.directory / "of-others"
        with other.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            for _ in range(1024):
                file.write(bytes(4096))
        assert daemon.send(b"content").decode().startswith(f"{FAILURE}no-space ")
        daemon.wait_for_line("not even a small file fits (a quota?): refusing uploads")
        assert daemon.send(b"").decode().startswith(f"{FAILURE}no-space ")
        status, text = scraper.get("/readyz")
        assert status == 503
        assert text.startswith("not even a small file fits: ")
        other.unlink()
        daemon.wait_for_line("small files fit again: accepting uploads")
        assert daemon.send(b"").decode().startswith(f"{FAILURE}empty ")
        scraper.wait_until_ready()
        assert daemon.send(b"content") == SUCCESS


@contextlib.contextmanager
def traced(daemon: Daemon, *options: str) -> Iterator[Callable[[], str]]:
    """
    Run the daemon under strace; yields a function that returns the trace so far.

    strace detaches at the end, which resumes the daemon's calls.
    """
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("needs strace")
    record = daemon.folder / "strace.out"
    trace_log = daemon.folder / "strace.err"
    command = [*deadly(), strace, "-f", "-o", str(record), *options, "-p", str(daemon.pid)]
    with trace_log.open("wb") as errors:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=errors)
    try:
        wait_until(
            lambda: "attached" in trace_log.read_text() or process.poll() is not None, "strace"
        )
        if process.poll() is not None:
            pytest.skip(f"strace cannot attach: {trace_log.read_text()}")
        yield record.read_text
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE / 4)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(PATIENCE)


DISK_CALLS = (
    "pwrite64,writev,pwritev,pwritev2,splice,fsync,fdatasync,sync_file_range,"
    "io_submit,io_getevents,renameat2"
)


def test_stalled_disk(tmp_path: Path) -> None:
    """While the disk stalls, the daemon's memory stays constant, and other senders are served."""
    count, size = 8, 48 * 2**20
    data = photo(size)
    sent = [0] * count

    def send(number: int) -> bytes:
        with daemon.connect() as peer:
            for start in range(0, size, 2**16):
                peer.sendall(data[start : start + 2**16])
                sent[number] += 2**16
            return finish(peer)

    def stalled() -> bool:
        before = [*sent]
        time.sleep(0.3)
        return before == sent and all(sent)

    with (
        Daemon(tmp_path, "--receipts") as daemon,
        ThreadPoolExecutor(count) as pool,
    ):
        # After this, allocations that happen only once are done.
        assert daemon.send(photo(8 * 2**20)).startswith(SUCCESS)
        before = daemon.memory()
        with traced(daemon, "-e", f"trace={DISK_CALLS}", "-e", stall()):
            sending = [pool.submit(send, number) for number in range(count)]
            wait_until(stalled, "senders that are paused")
            assert max(sent) < size
            grown = daemon.memory() - before
            assert daemon.send(b"").decode().startswith(f"{FAILURE}empty ")
            assert len(daemon.files()) == 1
        print(f"{sum(sent)} bytes sent, {grown} bytes more in memory")
        assert grown < count * 2 * 2**20
        for one in sending:
            assert one.result().decode().endswith(f" {size} {sha256(data)}\n")
        assert daemon.memory() - before < count * 3 * 2**20


def stall() -> str:
    """Delay every call that waits for the disk by an hour."""
    return f"inject={DISK_CALLS}:delay_enter={3600 * 10**6}"


def test_answer_comes_last(tmp_path: Path) -> None:
    """The order is: write, fsync, rename, fsync of the directory, answer."""
    calls = "write,writev,fsync,rename,renameat,renameat2,link,linkat,sendto,sendmsg"
    with Daemon(tmp_path) as daemon, traced(daemon, "-y", "-e", f"trace={calls}") as recorded:
        assert daemon.send(b"something") == SUCCESS
        daemon.wait_for_line("stored ")
        lines = [re.sub(r"^\d+ +", "", line) for line in recorded().splitlines()]
        inbox = re.escape(str(daemon.directory))
        order = [
            rf'write\(\d+<{inbox}/\.incoming/[^>]+>, "something"',
            rf"fsync\(\d+<{inbox}/\.incoming/[^>]+>",
            rf"renameat2\(\d+<{inbox}/\.incoming>, .*RENAME_NOREPLACE",
            rf"fsync\(\d+<{inbox}>",
            r"(sendto|sendmsg|write)\(\d+<(socket|TCP)[^>]*\]?>, .*\\344\\270\\212",
        ]
        found = [
            next((n for n, line in enumerate(lines) if re.match(step, line)), -1) for step in order
        ]
        assert found == sorted(found), "\n".join(lines)
        assert found[0] >= 0, "\n".join(lines)


def test_stalled_disk_of_another_listener(tmp_path: Path) -> None:
    """While the disk of one listener blocks all its threads, other listeners are served."""
    text = f"disk-threads = 1\n{TWO_LISTENERS}"
    with contextlib.ExitStack() as peers, Configured(tmp_path, text) as daemon:
        scanner, photos = daemon.addresses
        stall = f"inject=openat:delay_enter={3600 * 10**6}"
        only = ("-e", "trace=openat", "-P", f"{tmp_path}/scans/.incoming", "-e", stall)
        with traced(daemon, *only) as recorded:
            stuck = [peers.enter_context(connect(*scanner)) for _ in range(8)]
            for peer in stuck:
                peer.sendall(b"a scan")
                peer.shutdown(socket.SHUT_WR)
            wait_until(lambda: recorded().count("openat(") == 1, "its thread to stall")
            with connect(*photos) as peer:
                assert finish_with(peer, b"a photo").startswith(SUCCESS)
            assert not [*(tmp_path / "scans").glob("*.pdf")]
        assert {read_all(peer) for peer in stuck} == {SUCCESS}
