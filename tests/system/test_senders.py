"""
Real senders on real sockets: netcats, the old clients of this protocol, and the
package's client with old servers.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.daemon import PATIENCE, SUCCESS, Daemon, deadly, photo, sha256, wait_until
from tests.support.tools import run, tool
from twisted_upload import OutcomeUnknown, UploadRefused, upload

PHOTO_SIZE = 20_000_000


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 20 MB that starts like a JPEG."""
    path = tmp_path_factory.mktemp("photo") / "photo.jpg"
    path.write_bytes(photo(PHOTO_SIZE))
    return path


# Netcats


def openbsd_nc() -> str:
    for name in ("nc.openbsd", "nc"):
        path = shutil.which(name)
        if path is not None:
            usage = subprocess.run([path, "-h"], capture_output=True, text=True, check=False)
            if "OpenBSD" in usage.stderr + usage.stdout:
                return path
    pytest.skip("needs nc of OpenBSD (netcat-openbsd)")


def nc(*flags: str) -> Callable[[str, str], list[str]]:
    return lambda host, port: [openbsd_nc(), *flags, host, port]


def other(name: str, *flags: str) -> Callable[[str, str], list[str]]:
    return lambda host, port: [tool(name), *flags, host, port]


def socat(host: str, port: str) -> list[str]:
    return [tool("socat"), "-t5", "-", f"TCP:{host}:{port}"]


def bash(host: str, port: str) -> list[str]:
    return [tool("bash"), "-c", f"exec 3<>/dev/tcp/{host}/{port}; cat >&3; cat <&3"]


HALF_CLOSING = {
    "nc -N": (nc("-N"), "上传成功"),
    "nc -q0": (nc("-q0"), "上传成功"),
    "nc.traditional -q1": (other("nc.traditional", "-q1"), "上传成功"),
    "ncat": (other("ncat"), "上传成功"),
    "ncat --send-only": (other("ncat", "--send-only"), ""),
    "socat -t5": (socat, "上传成功"),
    "busybox nc": (other("busybox", "nc"), "上传成功"),
}

NEVER_HALF_CLOSING = {
    "nc": nc(),
    "nc.traditional": other("nc.traditional"),
    "bash": bash,
}


def command_for(daemon: Daemon, command: Callable[[str, str], list[str]]) -> list[str]:
    host, port = daemon.address
    return command(host, str(port))


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A shared daemon without options, for senders that need no other."""
    with Daemon(tmp_path_factory.mktemp("daemon")) as running:
        yield running


def next_file(daemon: Daemon, before: Sequence[Path]) -> Path:
    """Return the only new file."""
    (file, *others) = [
        file for file in daemon.wait_for_files(len(before) + 1) if file not in before
    ]
    assert not others
    return file


@pytest.mark.parametrize("sender", HALF_CLOSING)
def test_netcat(daemon: Daemon, picture: Path, sender: str) -> None:
    """From each netcat that half-closes, an identical photo is stored; most show the answer."""
    command, shows = HALF_CLOSING[sender]
    before = daemon.files()
    result = run(command_for(daemon, command), picture)
    file = next_file(daemon, before)
    assert sha256(file.read_bytes()) == sha256(picture.read_bytes())
    assert file.suffix == ".jpg"
    assert result.stdout == shows
    assert result.returncode == 0


@pytest.mark.parametrize("sender", NEVER_HALF_CLOSING)
def test_netcat_that_never_half_closes(tmp_path: Path, picture: Path, sender: str) -> None:
    """--finish-after-idle serves netcats that never half-close; the log marks their files."""
    with Daemon(tmp_path, "--finish-after-idle=200ms") as daemon:
        command = command_for(daemon, NEVER_HALF_CLOSING[sender])
        with picture.open("rb") as stdin:
            process = subprocess.Popen(
                [*deadly(), *command], stdin=stdin, stdout=subprocess.PIPE, start_new_session=True
            )
        try:
            assert process.stdout is not None
            assert process.stdout.read(len(SUCCESS)) == SUCCESS
            (file,) = daemon.files()
            assert sha256(file.read_bytes()) == sha256(picture.read_bytes())
            assert "ended by idle timeout" in daemon.wait_for_line(f"stored {file.name}")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.mark.parametrize("sender", NEVER_HALF_CLOSING)
def test_netcat_without_its_flag(tmp_path: Path, picture: Path, sender: str) -> None:
    """Without --finish-after-idle such a netcat is told to use -N, and nothing is stored."""
    with Daemon(tmp_path, "--idle-timeout=200ms") as daemon:
        command = command_for(daemon, NEVER_HALF_CLOSING[sender])
        with picture.open("rb") as stdin:
            process = subprocess.Popen(
                [*deadly(), *command], stdin=stdin, stdout=subprocess.PIPE, start_new_session=True
            )
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode()
            assert line.startswith("上传失败: timeout ")
            assert "nc -N" in line
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        wait_until(lambda: not daemon.unfinished(), "an empty .incoming")
        assert daemon.files() == []


def test_netcat_is_killed(tmp_path: Path) -> None:
    """
    A foreign sender that is killed looks exactly like one that has finished: what it had
    sent is stored as if it were the whole file.  With plain TCP the server cannot tell;
    the README says so.
    """
    half = photo(1_000_000)
    with Daemon(tmp_path) as daemon:
        command = command_for(daemon, nc("-N"))
        process = subprocess.Popen([*deadly(), *command], stdin=subprocess.PIPE)
        try:
            assert process.stdin is not None
            process.stdin.write(half)
            process.stdin.flush()
            wait_until(daemon.unfinished, "an unfinished file")
        finally:
            process.kill()
            process.communicate()
        (file,) = daemon.wait_for_files()
        stored = file.read_bytes()
        assert half.startswith(stored)
        assert len(stored) > len(half) // 2  # the rest was still in the pipe


# Old clients of this protocol: Java programs with blocking sockets, and the
# same socket calls in Python.

BLOCK = 8192
MESSAGE = "你好么? tcp ,我来了"
REPLY = "我很好,谢谢你"


def write_in_blocks(peer: socket.socket, source: Path) -> None:
    with source.open("rb") as file:
        while block := file.read(BLOCK):
            peer.sendall(block)


def test_old_client_that_does_not_read(daemon: Daemon, picture: Path) -> None:
    """The file of an old client that writes 8 KiB blocks and closes without reading is stored."""
    before = daemon.files()
    peer = daemon.connect()
    write_in_blocks(peer, picture)
    peer.close()
    file = next_file(daemon, before)
    assert sha256(file.read_bytes()) == sha256(picture.read_bytes())
    daemon.wait_for_line(f"stored {file.name}: 19.1 MiB ({PHOTO_SIZE} bytes)")


def test_old_client_that_reads_once(daemon: Daemon, picture: Path) -> None:
    """An old client that shuts down its output and reads once, 20 bytes, gets 上传成功."""
    before = daemon.files()
    with daemon.connect() as peer:
        write_in_blocks(peer, picture)
        peer.shutdown(socket.SHUT_WR)
        assert peer.recv(20).decode() == "上传成功"
    file = next_file(daemon, before)
    assert sha256(file.read_bytes()) == sha256(picture.read_bytes())


def test_old_client_without_half_close(tmp_path: Path) -> None:
    """An old client that never half-closes gets its reply, with --finish-after-idle."""
    options = ("--finish-after-idle=200ms", f"--answer={REPLY}")
    with Daemon(tmp_path, *options) as daemon, daemon.connect() as peer:
        peer.sendall(MESSAGE.encode())
        assert peer.recv(1024).decode() == REPLY
        peer.close()
        assert daemon.only_file().decode() == MESSAGE
        assert "ended by idle timeout" in daemon.wait_for_line("stored ")


OLD_CLIENTS = """
import java.io.*;
import java.net.Socket;

public class OldClient {
    public static void main(String[] arguments) throws IOException {
        Socket socket = new Socket(arguments[1], Integer.parseInt(arguments[2]));
        OutputStream out = socket.getOutputStream();
        byte[] answer = new byte[20];
        if (arguments[0].equals("talk")) {
            out.write("MESSAGE".getBytes("UTF-8"));
            answer = new byte[1024];
        } else {
            InputStream file = new FileInputStream(arguments[3]);
            if (arguments[0].equals("buffered")) {
                out = new BufferedOutputStream(out);
            }
            byte[] block = new byte[8192];
            int length;
            while ((length = file.read(block)) != -1) {
                out.write(block, 0, length);
            }
            file.close();
            if (arguments[0].equals("close")) {
                socket.close();
                return;
            }
            socket.shutdownOutput();
        }
        int length = socket.getInputStream().read(answer);
        new PrintStream(System.out, true, "UTF-8").print(new String(answer, 0, length, "UTF-8"));
        socket.close();
    }
}
"""


@pytest.fixture(scope="module")
def java(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command that runs the old clients."""
    if shutil.which("javac") is None or shutil.which("java") is None:
        pytest.skip("needs a JDK")
    folder = tmp_path_factory.mktemp("java")
    (folder / "OldClient.java").write_text(OLD_CLIENTS.replace("MESSAGE", MESSAGE), "utf-8")
    compiling = ["javac", "-encoding", "UTF-8", "-J-XX:TieredStopAtLevel=1", "OldClient.java"]
    done = subprocess.run(
        compiling, cwd=folder, capture_output=True, text=True, check=False, timeout=40
    )
    if done.returncode:
        pytest.skip(f"the JDK does not work: {done.stderr}")
    return ["java", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp", str(folder), "OldClient"]


@pytest.mark.parametrize("way", ["close", "answer", "buffered"])
def test_old_java_client(daemon: Daemon, tmp_path: Path, java: list[str], way: str) -> None:
    """The files of the Java programs are stored; those that read the answer print 上传成功."""
    source = tmp_path / "photo.jpg"
    source.write_bytes(photo(250 * BLOCK))  # whole blocks: one of them never flushes the rest
    before = daemon.files()
    host, port = daemon.address
    result = run([*java, way, host, str(port), str(source)], source)
    assert (result.stdout, result.stderr) == ("" if way == "close" else "上传成功", "")
    file = next_file(daemon, before)
    assert sha256(file.read_bytes()) == sha256(source.read_bytes())


def test_old_java_client_without_half_close(tmp_path: Path, java: list[str]) -> None:
    """The Java program that never half-closes prints its reply, with --finish-after-idle."""
    with Daemon(tmp_path, "--finish-after-idle=200ms", f"--answer={REPLY}") as daemon:
        host, port = daemon.address
        result = run([*java, "talk", host, str(port)], Path(os.devnull))
        assert (result.stdout, result.stderr) == (REPLY, "")
        assert daemon.only_file().decode() == MESSAGE


# The package's client


async def test_client(tmp_path: Path, picture: Path) -> None:
    """upload() of a photo gives a receipt with the size and SHA-256 of the stored file."""
    with Daemon(tmp_path, "--receipts") as daemon:
        receipt = await upload(picture, "tcp:{}:{}".format(*daemon.address))
        (file,) = daemon.files()
        assert receipt.name == file.name
        assert receipt.size == PHOTO_SIZE == file.stat().st_size
        assert receipt.sha256 == sha256(file.read_bytes()) == sha256(photo(PHOTO_SIZE))


async def test_client_is_refused(tmp_path: Path) -> None:
    """upload() fails with the daemon's refusal code."""
    with Daemon(tmp_path, "--max-size=1M") as daemon:
        with pytest.raises(UploadRefused) as refused:
            await upload(photo(5_000_000), "tcp:{}:{}".format(*daemon.address))
        assert refused.value.code == "too-large"
        wait_until(lambda: not daemon.unfinished(), "an empty .incoming")
        assert daemon.files() == []


CLIENT = """
import sys
from twisted.internet.task import react
from twisted_upload import upload
react(lambda reactor: upload(sys.stdin.buffer, "tcp:%s:%s" % tuple(sys.argv[1:])))
"""

CLIENTS = {
    "upload()": lambda host, port: [sys.executable, "-c", CLIENT, host, port],
    "twisted-upload": lambda host, port: [
        *(sys.executable, "-m", "twisted_upload", "-", "--to", f"{host}:{port}")
    ],
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_client_is_killed(tmp_path: Path, client: str, number: int) -> None:
    """If the client is killed during a transfer, even with SIGKILL, nothing is stored."""
    with Daemon(tmp_path) as daemon:
        command = command_for(daemon, CLIENTS[client])
        process = subprocess.Popen(
            [*deadly(), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            assert process.stdin is not None
            process.stdin.write(photo(1_000_000))
            process.stdin.flush()
            wait_until(
                lambda: daemon.unfinished() or process.poll() is not None, "an unfinished file"
            )
            process.send_signal(number)
            assert process.wait(PATIENCE) != 0
        finally:
            process.kill()
            process.communicate()
        wait_until(
            lambda: daemon.lines("stored ") or daemon.lines("aborted "), "the end of the upload"
        )
        assert daemon.lines("aborted by sender after ")
        wait_until(lambda: not daemon.unfinished(), "an empty .incoming")
        assert daemon.files() == []


def test_client_is_killed_in_a_large_file(tmp_path: Path) -> None:
    """If the command is killed during a large transfer at full speed, nothing is stored."""
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(2**36)  # 64 GiB, sparse
    with Daemon(tmp_path) as daemon:
        host, port = daemon.address
        command = [sys.executable, "-m", "twisted_upload", str(large), "--to", f"{host}:{port}"]
        process = subprocess.Popen([*deadly(), *command], stderr=subprocess.PIPE)
        try:
            wait_until(
                lambda: daemon.unfinished() or process.poll() is not None, "an unfinished file"
            )
        finally:
            process.kill()
            process.communicate()
        wait_until(
            lambda: daemon.lines("stored ") or daemon.lines("aborted "), "the end of the upload"
        )
        assert daemon.lines("aborted by sender after ")
        wait_until(lambda: not daemon.unfinished(), "an empty .incoming")
        assert daemon.files() == []


@contextlib.contextmanager
def old_server(answer: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """
    A server of the old kind: it reads to the end of the file, answers and closes.

    Yields its endpoint, and what it has read.
    """
    read: list[bytes] = []

    def serve() -> None:
        peer, _ = listening.accept()
        with peer:
            peer.settimeout(PATIENCE)
            data = b""
            while block := peer.recv(BLOCK):
                data += block
            read.append(data)
            if answer:
                peer.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(PATIENCE)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"tcp:127.0.0.1:{listening.getsockname()[1]}", read
        finally:
            thread.join(PATIENCE)
            assert not thread.is_alive()


async def test_old_server_that_answers() -> None:
    """upload() to an old server that answers 上传成功 gives a receipt, without a name."""
    data = photo(300_001)
    with old_server(SUCCESS) as (endpoint, read):
        receipt = await upload(data, endpoint)
    assert read == [data]
    assert (receipt.name, receipt.size) == (None, len(data))


async def test_old_server_that_does_not_answer() -> None:
    """upload() to an old server that closes without an answer does not know the outcome."""
    data = photo(300_001)
    with (
        old_server(b"") as (endpoint, read),
        pytest.raises(OutcomeUnknown, match="without an answer"),
    ):
        await upload(data, endpoint)
    assert read == [data]
