"""
TLS with the real daemon, other senders and the package's client.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.support.daemon import (
    PATIENCE,
    SUCCESS,
    Daemon,
    deadly,
    photo,
    run_twistd,
    sha256,
    wait_until,
)
from tests.support.senders import read_all
from tests.support.tls_peers import client_context, files
from tests.support.tools import run, tool

PHOTO_SIZE = 20_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates, and a file of 20 MB that starts like a JPEG."""
    path = tmp_path_factory.mktemp("tls")
    files(path)
    (path / "photo.jpg").write_bytes(photo(PHOTO_SIZE))
    return path


def listen(certificates: Path) -> str:
    key, chain = certificates / "key.pem", certificates / "chain.pem"
    return f"--listen=tls:0:interface=127.0.0.1:key={key}:cert={chain}"


@pytest.fixture(scope="module")
def daemon(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A shared daemon, for senders that need no other."""
    with Daemon(tmp_path_factory.mktemp("daemon"), listen(folder)) as running:
        yield running


# Each as a function of host, port and the CA's certificate.
Command = Callable[[str, str, str], list[str]]


def s_client(*flags: str) -> Command:
    return lambda host, port, ca: [
        *(tool("openssl"), "s_client", "-quiet", *flags),
        *("-CAfile", ca, "-verify_return_error", "-connect", f"{host}:{port}"),
    ]


def socat(*flags: str, options: str = "") -> Command:
    return lambda host, port, ca: [
        *(tool("socat"), *flags, "-", f"OPENSSL:localhost:{port},cafile={ca}{options}"),
    ]


def gnutls(*flags: str) -> Command:
    return lambda host, port, ca: [
        *(tool("gnutls-cli"), *flags, "--logfile=/dev/null"),
        *(f"--x509cafile={ca}", f"--port={port}", "localhost"),
    ]


def ncat(*flags: str) -> Command:
    return lambda host, port, ca: [
        *(tool("ncat"), "--ssl-verify", f"--ssl-trustfile={ca}", *flags, "localhost", port),
    ]


def python(end: str) -> Command:
    program = f"""
import socket, ssl, sys
host, port, ca = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
with context.wrap_socket(
    socket.create_connection((host, int(port))), server_hostname=host
) as peer:
    peer.sendall(sys.stdin.buffer.read())
    {end}
"""
    return lambda host, port, ca: [sys.executable, "-c", program, host, port, ca]


def ours(host: str, port: str, ca: str) -> list[str]:
    to = ["-", "--to", f"{host}:{port}", "--cacert", ca]
    return [sys.executable, "-m", "twisted_upload", *to]


ONE_WAY = """peer.setblocking(False)
    try:
        peer.unwrap()
    except ssl.SSLWantReadError:
        pass
    peer.setblocking(True)
    print(peer.recv(100).decode(), end="")"""

HALF_CLOSING: dict[str, tuple[Command, str]] = {
    "socat": (socat("-t5"), "上传成功"),
    "socat, TLS 1.2": (socat("-t5", options=",openssl-max-proto-version=TLS1.2"), "上传成功"),
    "socat -u": (socat("-u"), ""),
    "gnutls-cli": (gnutls(), "上传成功"),
    "gnutls-cli, TLS 1.2": (gnutls("--priority=NORMAL:-VERS-TLS1.3"), "上传成功"),
    "s_client": (s_client("-nocommands", "-no_ign_eof"), ""),
    "s_client, TLS 1.2": (s_client("-nocommands", "-no_ign_eof", "-tls1_2"), ""),
    "Python": (python(ONE_WAY), "上传成功"),
    "ours": (ours, "-: stored\n"),
}

NEVER_HALF_CLOSING: dict[str, Command] = {
    "s_client -quiet": s_client(),
    "ncat --no-shutdown": ncat("--no-shutdown"),
}

WITHOUT_CLOSE_NOTIFY: dict[str, Command] = {
    "ncat": ncat(),
    "ncat --send-only": ncat("--send-only"),
    "Python, close": python("pass"),
    "Python, shutdown": python("peer.shutdown(socket.SHUT_WR)"),
}


def command_for(daemon: Daemon, certificates: Path, command: Command) -> list[str]:
    host, port = daemon.address
    return command(host, str(port), str(certificates / "ca.pem"))


def nothing_is_stored(daemon: Daemon) -> None:
    """Check that nothing is stored; the unfinished file is removed shortly after the upload."""
    wait_until(lambda: not daemon.unfinished(), "the unfinished file to be removed")
    assert daemon.files() == []


@pytest.mark.parametrize("sender", HALF_CLOSING)
def test_sender(daemon: Daemon, folder: Path, sender: str) -> None:
    """From a sender that sends close_notify, an identical photo is stored; most show the answer."""
    command, shows = HALF_CLOSING[sender]
    before = daemon.files()
    result = run(command_for(daemon, folder, command), folder / "photo.jpg")
    (file,) = [each for each in daemon.wait_for_files(len(before) + 1) if each not in before]
    assert sha256(file.read_bytes()) == sha256((folder / "photo.jpg").read_bytes())
    assert (result.stdout, result.returncode) == (shows, 0)


@pytest.mark.parametrize("sender", WITHOUT_CLOSE_NOTIFY)
def test_sender_without_close_notify(tmp_path: Path, folder: Path, sender: str) -> None:
    """From a sender that closes without close_notify nothing is stored, even if all was sent."""
    with Daemon(tmp_path, listen(folder)) as daemon:
        result = run(
            command_for(daemon, folder, WITHOUT_CLOSE_NOTIFY[sender]), folder / "photo.jpg"
        )
        assert result.stdout == ""
        daemon.wait_for_line("aborted by sender after 19.1 MiB")
        nothing_is_stored(daemon)


@pytest.mark.parametrize("sender", NEVER_HALF_CLOSING)
def test_sender_without_an_end(tmp_path: Path, folder: Path, sender: str) -> None:
    """--finish-after-idle serves senders that never end; the log marks their files."""
    with Daemon(tmp_path, listen(folder), "--finish-after-idle=300ms") as daemon:
        result = run(command_for(daemon, folder, NEVER_HALF_CLOSING[sender]), folder / "photo.jpg")
        assert result.stdout == SUCCESS.decode()
        assert sha256(daemon.only_file()) == sha256((folder / "photo.jpg").read_bytes())
        assert "ended by idle timeout" in daemon.wait_for_line("stored ")


KILLED: dict[str, Command] = {
    name: HALF_CLOSING[name][0] for name in ("socat", "gnutls-cli", "s_client", "ours")
}


@pytest.mark.parametrize("sender", KILLED)
def test_killed_sender(tmp_path: Path, folder: Path, sender: str) -> None:
    """If a sender is killed during a transfer, no partial file is stored: TLS can tell."""
    with Daemon(tmp_path, listen(folder)) as daemon:
        process = subprocess.Popen(
            [*deadly(), *command_for(daemon, folder, KILLED[sender])],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert process.stdin is not None
            process.stdin.write(photo(2_000_000))
            process.stdin.flush()
            wait_until(daemon.unfinished, "an unfinished file")
            process.kill()
            process.wait()
            daemon.wait_for_line("aborted by sender after")
        finally:
            process.kill()
            process.communicate()
        nothing_is_stored(daemon)


def _s_client(daemon: Daemon, folder: Path, *flags: str) -> subprocess.Popen[bytes]:
    command = s_client("-no_ign_eof", *flags)
    return subprocess.Popen(
        [*deadly(), *command_for(daemon, folder, command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _wait_for(stream: IO[bytes] | None, text: bytes) -> None:
    assert stream is not None
    for line in stream:
        if text in line:
            return
    pytest.fail(f"in vain: {text!r}")


def test_key_update(tmp_path: Path, folder: Path) -> None:
    """A sender may update its keys during a transfer, and request the same of the server."""
    with Daemon(tmp_path, listen(folder)) as daemon:
        process = _s_client(daemon, folder, "-tls1_3")
        try:
            assert process.stdin is not None
            process.stdin.write(b"before\n")
            process.stdin.flush()
            for _ in range(3):
                _command(process, b"K\n", b"KEYUPDATE")
            _later(process, b"after\n")
            process.stdin.close()
            process.wait(PATIENCE)
            (file,) = daemon.wait_for_files()
            assert file.read_bytes() == b"before\nafter\n"
        finally:
            process.kill()
            process.wait()
            assert process.stderr is not None
            process.stderr.close()


def test_renegotiation(tmp_path: Path, folder: Path) -> None:
    """A sender that tries to renegotiate TLS 1.2 is aborted, without effect on others."""
    with Daemon(tmp_path, listen(folder)) as daemon:
        process = _s_client(daemon, folder, "-tls1_2")
        try:
            assert process.stdin is not None
            process.stdin.write(b"before\n")
            process.stdin.flush()
            _command(process, b"R\n", b"RENEGOTIATING")
            process.wait(PATIENCE)
            daemon.wait_for_line("aborted by sender after 7 bytes")
        finally:
            process.kill()
            process.communicate()
        assert run(command_for(daemon, folder, ours), folder / "photo.jpg").returncode == 0
        assert not [line for line in daemon.lines("") if "Traceback" in line]


def _command(process: subprocess.Popen[bytes], command: bytes, told: bytes) -> None:
    """Send a command line to s_client."""
    _later(process, command)
    _wait_for(process.stderr, told)


def _later(process: subprocess.Popen[bytes], line: bytes) -> None:
    """Write a line once all previous input has been read."""
    assert process.stdin is not None

    def read() -> bool:
        assert process.stdin is not None
        left = fcntl.ioctl(process.stdin, termios.FIONREAD, bytes(4))
        return struct.unpack("i", left) == (0,)

    wait_until(read, "the input to be read")
    process.stdin.write(line)
    process.stdin.flush()


# The daemon


def test_beside_others(tmp_path: Path, folder: Path) -> None:
    """A TLS port may be one of several, and the start line marks it."""
    plain = "--listen=tcp:0:interface=127.0.0.1"
    with Daemon(tmp_path, listen(folder), plain, "--receipts") as daemon:
        assert "listens on tls:127.0.0.1:" in daemon.wait_for_line("listens on")
        (_, tls), (_, raw) = daemon.addresses
        assert isinstance(tls, tuple)
        assert isinstance(raw, tuple)
        ca = str(folder / "ca.pem")
        for arguments in (
            [f"{tls[0]}:{tls[1]}", "--cacert", ca],
            [f"tls:localhost:{tls[1]}:cacert={ca}"],
            [f"localhost:{tls[1]}", "--tls", "--cacert", ca],
            [f"{raw[0]}:{raw[1]}"],
        ):
            command = [sys.executable, "-m", "twisted_upload", "photo.jpg", "--to", *arguments]
            result = run(command, folder / "photo.jpg", cwd=folder)
            assert (result.returncode, result.stderr) == (0, "")
        assert len(daemon.files()) == 4


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--tls"], "the server's certificate is not trusted"),
        (["--cacert", "ca.pem"], "the server's certificate is for another name"),
    ],
)
def test_wrong_server(tmp_path: Path, folder: Path, arguments: list[str], text: str) -> None:
    """An untrusted server gets no data: one line, and exit status 3."""
    files(tmp_path, "other.example")
    with Daemon(tmp_path, listen(tmp_path)) as daemon:
        to = "{}:{}".format(*daemon.address)
        command = [sys.executable, "-m", "twisted_upload", "photo.jpg", "--to", to, *arguments]
        result = run(command, folder / "photo.jpg", cwd=folder)
        assert (result.returncode, result.stdout) == (3, "")
        (line,) = result.stderr.splitlines()
        assert text in line
        assert daemon.files() == []
        daemon.stop()
        assert "1 certificate rejected" in daemon.wait_for_line("not logged individually")


def test_workers(tmp_path: Path, folder: Path) -> None:
    """Workers serve TLS, and so do their replacements, even if the key is no longer readable."""
    certificates = tmp_path / "certificates"
    certificates.mkdir()
    files(certificates)
    with Daemon(tmp_path, listen(certificates), "--workers=2") as daemon:
        daemon.wait_for_workers()
        shutil.move(certificates / "key.pem", tmp_path / "away.pem")
        before = daemon.workers()
        for round_ in (1, 2):
            command = command_for(daemon, certificates, ours)
            assert run(command, folder / "photo.jpg").returncode == 0
            assert len(daemon.files()) == round_
            if round_ == 1:
                for pid in before:
                    os.kill(pid, signal.SIGKILL)
                wait_until(lambda: len(daemon.lines("listens on")) >= 5, "two new workers")
        assert len(daemon.files()) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_key_of_root(folder: Path) -> None:
    """The key is read before privileges are dropped."""
    with tempfile.TemporaryDirectory() as name:  # pytest's folder is accessible to root only
        home = Path(name)
        home.chmod(0o777)
        files(home)
        (home / "key.pem").chmod(0o600)
        with Daemon(home, listen(home), general=("--uid=65534", "--gid=65534")) as daemon:
            result = run(command_for(daemon, home, ours), folder / "photo.jpg")
            assert result.returncode == 0
            (file,) = daemon.files()
            assert file.stat().st_uid == 65534


@pytest.mark.parametrize("wrong", ["missing", "swapped"])
def test_cannot_start(tmp_path: Path, folder: Path, wrong: str) -> None:
    """Unusable files are one line that names them, and exit status 2."""
    key = "no/such.pem" if wrong == "missing" else folder / "chain.pem"
    option = f"--listen=tls:0:key={key}:cert={folder / 'chain.pem'}"
    result = run_twistd(tmp_path, "-n", "--pidfile=", "upload", "--directory=inbox", option)
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"twistd upload: --listen: {key}: ")


def test_stop_during_uploads(tmp_path: Path, folder: Path) -> None:
    """When stopped, the daemon refuses unfinished uploads and drops unfinished handshakes."""
    with Daemon(tmp_path, listen(folder), "--drain=0") as daemon:
        # With TLS 1.2 the server's handshake ends before the client's.
        context = client_context(ssl.TLSVersion.TLSv1_2)
        context.load_verify_locations(folder / "ca.pem")
        with (
            daemon.connect() as half,
            context.wrap_socket(daemon.connect(), server_hostname="localhost") as peer,
        ):
            half.sendall(b"\x16\x03\x01")
            peer.sendall(photo(10_000))
            daemon.signal(signal.SIGTERM)
            assert read_all(peer).startswith("上传失败: shutting-down ".encode())
            peer.settimeout(0.0)
            peer.unwrap()
            daemon.wait_for_end()
            half.settimeout(PATIENCE)
            with contextlib.suppress(ConnectionResetError):
                assert half.recv(100) == b""
        assert (daemon.files(), daemon.unfinished()) == ([], [])


def test_plain_sender(tmp_path: Path, folder: Path) -> None:
    """A sender without TLS is not told success, and nothing is stored."""
    with Daemon(tmp_path, listen(folder)) as daemon:
        with daemon.connect() as peer:
            peer.sendall(photo(100_000))
            peer.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                assert SUCCESS not in read_all(peer)
        daemon.stop()
        assert "1 without TLS" in daemon.wait_for_line("not logged individually")
        assert daemon.files() == []
