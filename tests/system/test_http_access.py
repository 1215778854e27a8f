"""
Who may upload over HTTP to the real daemon: tokens, invitations, pages of other sites.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Self

import pytest

from tests.support.daemon import Daemon, run_twistd, wait_until
from tests.support.programs import run_program
from twisted_upload.disk.files import Files
from twisted_upload.frontends.http.invitations import (
    Invitation,
    new_nonce,
    read_keys,
    with_new_key,
)

WORKERS = pytest.mark.parametrize("workers", ["--workers=1", "--workers=2"])


def http(tmp_path: Path, *options: str) -> Daemon:
    """Return a daemon that speaks HTTP."""
    return Daemon(tmp_path, "--http=tcp:0:interface=127.0.0.1", *options)


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


class Peer:
    """
    A connection to a daemon, in a ``with`` block.

    :ivar text: the body of the last response.
    """

    response: HTTPResponse
    text: str

    def __init__(self, daemon: Daemon) -> None:
        self.connection = HTTPConnection(*daemon.address, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def ask(
        self,
        method: str,
        path: str,
        fields: Mapping[str, str],
        body: bytes | None = None,
    ) -> int:
        """Send a request; return the status."""
        self.connection.request(method, path, body, dict(fields))
        self.response = self.connection.getresponse()
        self.text = self.response.read().decode()
        return self.response.status

    def begin(self, fields: Mapping[str, str], length: int, data: bytes = b"") -> None:
        """Send the beginning of an upload."""
        self.connection.putrequest("PUT", "/large.bin")
        for name, value in {**fields, "Content-Length": str(length)}.items():
            self.connection.putheader(name, value)
        self.connection.endheaders(data)


def ask(
    daemon: Daemon, method: str, path: str, fields: Mapping[str, str], body: bytes | None = None
) -> int:
    """Send a request through a new connection; return the status."""
    with Peer(daemon) as peer:
        return peer.ask(method, path, fields, body)


def put(daemon: Daemon, fields: Mapping[str, str], content: bytes = b"content") -> int:
    """Send a file through a new connection; return the status."""
    return ask(daemon, "PUT", "/file.txt", fields, content)


@pytest.fixture
def token(tmp_path: Path) -> str:
    """A token of the file ``tokens``."""
    return add_token(tmp_path, "scanner")


def form(files: int) -> bytes:
    """Return a form with files."""
    part = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\nx\r\n'
    return part * files + b"--b--\r\n"


def add_token(folder: Path, name: str) -> str:
    done = run_program("token", "add", name, "--file", folder / "tokens")
    assert done.returncode == 0
    return done.stdout.strip()


def tokens(folder: Path) -> str:
    return f"--tokens={folder}/tokens"


@pytest.fixture
def keys(tmp_path: Path) -> str:
    """The option for a file of keys."""
    path = tmp_path / "keys"
    path.write_bytes(with_new_key(b"", os.urandom))
    path.chmod(0o600)
    return f"--invitation-keys={path}"


def invitation(keys: str, uploads: int, max_size: int = 0) -> dict[str, str]:
    """Return the header field of a new invitation."""
    expires = int(time.time()) + 3600
    signed = read_keys(keys.partition("=")[2], Files()).sign(
        Invitation("Alice", expires, max_size, uploads, new_nonce(os.urandom))
    )
    return bearer(signed)


@WORKERS
def test_token(tmp_path: Path, token: str, workers: str) -> None:
    """
    Without a token nothing is stored; after a reload, a new one is valid, and one that is
    revoked is not, also on a connection that is open.
    """
    with http(tmp_path, tokens(tmp_path), workers) as daemon, Peer(daemon) as peer:
        assert put(daemon, {}) == put(daemon, bearer("tok_wrong")) == 401
        assert daemon.files() == []
        assert peer.ask("PUT", "/", bearer(token), b"content") == 201
        other = add_token(tmp_path, "camera")
        assert run_program("token", "revoke", "scanner", "--file", tmp_path / "tokens")
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_line("reloaded: ")
        wait_until(lambda: put(daemon, bearer(other)) == 201, "the new token")
        wait_until(lambda: put(daemon, bearer(token)) in {401, 429}, "the end of the old one")
        assert peer.ask("PUT", "/", bearer(token), b"content") in {401, 429}


def test_broken_file(tmp_path: Path, token: str) -> None:
    """A file that cannot be used stops a start; at a reload, the tokens of before stay valid."""
    with http(tmp_path, tokens(tmp_path)) as daemon:
        (tmp_path / "tokens").write_text("nonsense\n")
        daemon.signal(signal.SIGHUP)
        line = daemon.wait_for_line("reload failed, keeping the old configuration: ")
        assert f"--tokens: {tmp_path}/tokens: line 1 is not NAME:SHA256" in line
        assert put(daemon, bearer(token)) == 201
    for option in "", "--check":
        options = ["--http=0", tokens(tmp_path), *filter(None, [option])]
        done = run_twistd(tmp_path, "-n", "upload", *options)
        assert done.returncode == 2
        assert "--tokens: " in done.stderr + done.stdout
        assert "Traceback" not in done.stderr + done.stdout


def test_before_the_body(tmp_path: Path, token: str) -> None:
    """A client that asks first is refused before it sends a byte of the body."""
    with http(tmp_path, tokens(tmp_path)) as daemon, Peer(daemon) as peer:
        peer.begin({"Expect": "100-continue"}, 10**9)
        connection = peer.connection
        connection.sock.settimeout(30)
        answer = connection.sock.recv(65536)
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert answer.count(b"WWW-Authenticate: ") == 2
        assert daemon.unfinished() == []


def test_tus_belongs_to_its_token(tmp_path: Path, token: str) -> None:
    """An upload can be continued with the token that has begun it, and with no other."""
    other = add_token(tmp_path, "camera")
    version = {"Tus-Resumable": "1.0.0"}
    with http(tmp_path, tokens(tmp_path)) as daemon, Peer(daemon) as peer:
        assert peer.ask("POST", "/files/", {**version, "Upload-Length": "3"}) == 401
        assert peer.response.headers["Tus-Resumable"] == "1.0.0"
        created = {**version, **bearer(token), "Upload-Length": "3"}
        assert peer.ask("POST", "/files/", created) == 201
        path = "/files/" + peer.response.headers["Location"].rpartition("/")[2]
        kind = {"Content-Type": "application/offset+octet-stream", "Upload-Offset": "0", **version}
        for fields in {}, bearer(other):
            assert ask(daemon, "HEAD", path, {**version, **fields}) in {401, 403, 404}
            assert ask(daemon, "PATCH", path, {**kind, **fields}, b"abc") in {401, 403, 404}
            override = {**kind, **fields, "X-HTTP-Method-Override": "PATCH"}
            assert ask(daemon, "OPTIONS", path, override, b"abc") in {401, 403, 404}
        assert daemon.files() == []
        assert ask(daemon, "PATCH", path, {**kind, **bearer(token)}, b"abc") == 204
        assert daemon.only_file() == b"abc"


@WORKERS
def test_invitation(tmp_path: Path, keys: str, workers: str) -> None:
    """An invitation takes as many files as it says, however many are sent at a time."""
    with http(tmp_path, keys, workers) as daemon:
        assert put(daemon, {}) == 401
        alice = invitation(keys, 5)
        with ThreadPoolExecutor(16) as pool:
            statuses = [*pool.map(lambda _: put(daemon, alice), range(16))]
        assert sorted(statuses) == [201] * 5 + [403] * 11
        assert len(daemon.files()) == 5
        assert put(daemon, invitation(keys, 1)) == 201


def test_invitation_survives_a_kill(tmp_path: Path, keys: str) -> None:
    """What is used stays used after SIGKILL; an upload that was cut off gives its place back."""
    alice = invitation(keys, 2)
    with http(tmp_path, keys) as daemon, Peer(daemon) as peer:
        assert put(daemon, alice) == 201
        peer.begin(alice, 1_000_000, b"x" * 300_000)
        wait_until(daemon.unfinished, "the upload")
        wait_until(lambda: put(daemon, alice) == 403, "the place to be taken")
        daemon.stop(signal.SIGKILL)
    with http(tmp_path, keys) as daemon, Peer(daemon) as peer:
        assert put(daemon, alice) == 201
        assert put(daemon, alice) == 403
        assert len(daemon.files()) == 2


def test_aborted_upload(tmp_path: Path, keys: str) -> None:
    """An upload that the sender aborts gives its place back."""
    alice = invitation(keys, 1)
    with http(tmp_path, keys) as daemon, Peer(daemon) as peer:
        peer.begin(alice, 1_000_000, b"x" * 300_000)
        wait_until(daemon.unfinished, "the upload")
        peer.connection.close()
        wait_until(lambda: not daemon.unfinished(), "the end of the upload")
        wait_until(lambda: put(daemon, alice) == 201, "the place")
        assert len(daemon.files()) == 1


def test_limits_of_an_invitation(tmp_path: Path, keys: str) -> None:
    """Its size limits each upload, and a form is stored if all of its files may be."""
    with http(tmp_path, keys) as daemon:
        small = invitation(keys, 0, max_size=10)
        assert put(daemon, small, b"x" * 11) == 413
        assert put(daemon, small, b"x" * 10) == 201
        alice = invitation(keys, 2)
        kind = {"Content-Type": "multipart/form-data; boundary=b"}
        assert ask(daemon, "POST", "/", {**alice, **kind}, form(3)) == 403
        assert len(daemon.files()) == 1
        assert ask(daemon, "POST", "/", {**alice, **kind}, form(2)) == 201
        assert len(daemon.files()) == 3
        assert put(daemon, alice) == 403


def test_tus_with_an_invitation(tmp_path: Path, keys: str) -> None:
    """A partial upload has its place from the beginning, also after a restart."""
    alice = {**invitation(keys, 1), "Tus-Resumable": "1.0.0"}
    kind = {"Content-Type": "application/offset+octet-stream"}
    with http(tmp_path, keys) as daemon, Peer(daemon) as peer:
        assert peer.ask("POST", "/files/", {**alice, "Upload-Length": "6"}) == 201
        path = "/files/" + peer.response.headers["Location"].rpartition("/")[2]
        assert peer.ask("PATCH", path, {**alice, **kind, "Upload-Offset": "0"}, b"abc") == 204
        assert ask(daemon, "POST", "/files/", {**alice, "Upload-Length": "6"}) == 403
        daemon.stop(signal.SIGKILL)
    with http(tmp_path, keys) as daemon, Peer(daemon) as peer:
        assert put(daemon, alice) == 403
        assert peer.ask("PATCH", path, {**alice, **kind, "Upload-Offset": "3"}, b"def") == 204
        assert daemon.only_file() == b"abcdef"
        assert put(daemon, alice) == 403


def test_pages_of_other_sites(tmp_path: Path) -> None:
    """A page of another site cannot write, unless its origin is allowed."""
    app = {"Origin": "https://app.example"}
    with http(tmp_path, "--cors-origin=https://app.example") as daemon, Peer(daemon) as peer:
        ours = "http://{}:{}".format(*daemon.address)
        assert put(daemon, {"Origin": "https://evil.example"}) == 403
        assert put(daemon, {"Origin": "null"}) == 403
        assert put(daemon, {"Sec-Fetch-Site": "cross-site"}) == 403
        assert put(daemon, {"Origin": ours}) == 201
        assert peer.ask("PUT", "/", app, b"x") == 201
        assert peer.response.headers["Access-Control-Allow-Origin"] == "https://app.example"
        for path in "/", "/photo.jpg", "/files/", "/files/x":
            asked = {**app, "Access-Control-Request-Method": "PATCH"}
            assert peer.ask("OPTIONS", path, asked) == 204
            assert "PATCH" in peer.response.headers["Access-Control-Allow-Methods"]
        assert len(daemon.files()) == 2


def test_page_needs_no_token(tmp_path: Path, token: str) -> None:
    """The page is shown to everybody: the invitation is in a part of the link that is not sent."""
    with http(tmp_path, tokens(tmp_path)) as daemon:
        assert ask(daemon, "GET", "/", {}) == 200
