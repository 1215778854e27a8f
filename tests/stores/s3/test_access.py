"""
How an object store is found and reached.  What is sent is seen by a server that answers
whatever it is asked.
"""

from __future__ import annotations

import http.server
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from twisted_upload.core.object_url import ObjectURL
from twisted_upload.stores.s3.access import is_installed
from twisted_upload.stores.s3.attempts import Attempts, NoCounts
from twisted_upload.stores.s3.errors import Denied, ObjectStoreError, Unreachable
from twisted_upload.stores.s3.s3_bucket import S3Bucket
from twisted_upload.testing.bucket_contract import about

_BEGUN = b"<InitiateMultipartUploadResult><UploadId>id</UploadId></InitiateMultipartUploadResult>"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def _answer(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.server.seen.append((self.command, self.path, dict(self.headers.items())))
        body = _BEGUN if self.command == "POST" else b""
        self.send_response(204 if self.command == "DELETE" else 200)
        self.send_header("ETag", '"x"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_PUT = do_POST = do_DELETE = do_HEAD = _answer

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Be silent."""


class Server(http.server.ThreadingHTTPServer):
    """
    It answers.

    :ivar seen: method, target and header fields of each request.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        scheme = "http" if context is None else "https"
        self.endpoint = f"{scheme}://localhost:{self.server_address[1]}"
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,))
        self.thread.start()

    def handle_error(self, request: object, client_address: object) -> None:
        """Be silent."""

    def end(self) -> None:
        self.shutdown()
        self.thread.join()
        self.server_close()


@pytest.fixture(autouse=True)
def nothing_of_this_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [it for it in os.environ if it.startswith("AWS_") or it.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name in "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE":
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.end()


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, server: Server) -> Server:
    """The server is what the environment names."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return server


def use(bucket: str = "bucket") -> S3Bucket:
    """Store a small object, begin and abort a large one."""
    found = S3Bucket(ObjectURL(bucket, "in/"), attempts=Attempts(NoCounts(), lambda _: True))
    try:
        found.put("1-one-a", [b"x"], about())
        found.abort("1-one-b", found.begin("1-one-b", about()))
    finally:
        found.close()
    return found


def test_environment(found: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Endpoint, credentials, token and region of the environment are used by both libraries."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    monkeypatch.setenv("AWS_REGION", "eu-test-1")
    use()
    assert [(method, path.partition("?")[0]) for method, path, _ in found.seen] == [
        ("PUT", "/bucket/in/1-one-a"),
        ("POST", "/bucket/in/1-one-b"),
        ("DELETE", "/bucket/in/1-one-b"),
    ]
    for _, _, fields in found.seen:
        lower = {name.lower(): value for name, value in fields.items()}
        assert "Credential=key-of-the-environment/" in lower["authorization"]
        assert "/eu-test-1/s3/" in lower["authorization"]
        assert lower["x-amz-security-token"] == "token"
        assert lower["x-amz-content-sha256"] != "UNSIGNED-PAYLOAD"


def test_own_variables_of_obstore(found: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only obstore would read from the environment changes nothing."""
    for name, value in {
        "AWS_ENDPOINT": "http://127.0.0.1:1",
        "AWS_UNSIGNED_PAYLOAD": "true",
        "AWS_SKIP_SIGNATURE": "true",
        "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "true",
        "AWS_BUCKET": "other",
    }.items():
        monkeypatch.setenv(name, value)
    use()
    _, path, fields = found.seen[0]
    assert path == "/bucket/in/1-one-a"
    assert "authorization" in fields
    assert fields["x-amz-content-sha256"] != "UNSIGNED-PAYLOAD"


def test_profile(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile is used as a whole, by both libraries: endpoint, region, keys."""
    config = tmp_path / "config"
    config.write_text(
        f"[profile scans]\nregion = eu-test-2\nservices = here\n"
        f"[services here]\ns3 =\n  endpoint_url = {server.endpoint}\n"
    )
    keys = tmp_path / "credentials"
    keys.write_text("[scans]\naws_access_key_id = of-the-file\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(keys))
    monkeypatch.setenv("AWS_PROFILE", "scans")
    use()
    for _, _, fields in server.seen:
        credential = (fields.get("authorization") or fields["Authorization"]).split(",")[0]
        assert "of-the-file/" in credential
        assert "/eu-test-2/" in credential
    assert len(server.seen) == 3


def test_virtual(tmp_path: Path, found: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket is in the host name if that is configured, for both libraries."""
    config = tmp_path / "config"
    config.write_text("[default]\ns3 =\n  addressing_style = virtual\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    port = found.server_address[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://0.0.1:{port}")
    use("127")  # a name that needs no DNS with the endpoint: 127.0.0.1
    hosts = {fields.get("host") or fields.get("Host") for _, _, fields in found.seen}
    assert hosts == {f"127.0.0.1:{port}"}
    assert {path.partition("?")[0] for _, path, _ in found.seen} == {
        "/in/1-one-a",
        "/in/1-one-b",
    }


@pytest.mark.parametrize("trusted", [True, False])
def test_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool) -> None:
    """Both libraries trust the certificates in AWS_CA_BUNDLE; without it, an error names it."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    if trusted:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    server = Server(context)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    try:
        if trusted:
            use()
            assert len(server.seen) == 3
        else:
            bucket = S3Bucket(ObjectURL("bucket"), attempts=Attempts(NoCounts(), lambda _: True))
            with pytest.raises(Unreachable, match="set AWS_CA_BUNDLE"):
                bucket.put("1-one-a", [b"x"], about())
            with pytest.raises(Unreachable, match="set AWS_CA_BUNDLE"):
                bucket.begin("1-one-a", about())
            assert server.seen == []
    finally:
        server.end()


@pytest.mark.parametrize("content", [None, b"\xff", b"no certificate"])
def test_bad_certificates(
    tmp_path: Path, found: Server, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    """A file of certificates that is none is the operator's."""
    bundle = tmp_path / "ca.pem"
    if content is not None:
        bundle.write_bytes(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with pytest.raises(Denied, match="AWS_CA_BUNDLE is not a readable file"):
        use()


def test_no_credentials(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without credentials, an error names what to set."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
    with pytest.raises(Denied, match="set AWS_ACCESS_KEY_ID"):
        use()


def test_no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    """For AWS itself, the region is necessary."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    with pytest.raises(Denied, match="set AWS_REGION"):
        use()


def test_credentials_are_found_later(found: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was missing and is there when it is asked for again is used."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    bucket = S3Bucket(ObjectURL("bucket"), attempts=Attempts(NoCounts(), lambda _: True))
    with pytest.raises(ObjectStoreError):
        bucket.put("1-one-a", [b"x"], about())
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    bucket.put("1-one-a", [b"x"], about())
    assert len(found.seen) == 1


def test_no_secrets(found: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """No error contains a secret, a token or a key."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token-of-the-session")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://user:word@127.0.0.1:1")
    bucket = S3Bucket(ObjectURL("bucket"), attempts=Attempts(NoCounts(), lambda _: True))
    for operation in (
        lambda: bucket.put("1-one-a", [b"x"], about()),
        lambda: bucket.begin("1-one-a", about()),
    ):
        with pytest.raises(ObjectStoreError) as failed:
            operation()
        for secret in "secret", "token-of", "key-of", "word":
            assert secret not in str(failed.value)


def test_imported_when_used() -> None:
    """The libraries are imported by the first operation, not before."""
    script = (
        "import sys\n"
        "from twisted_upload.core.object_url import ObjectURL\n"
        "from twisted_upload.stores.s3.s3_bucket import S3Bucket\n"
        "S3Bucket(ObjectURL('bucket'))\n"
        "assert not {'botocore', 'obstore'} & {*sys.modules}"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)
    assert is_installed()
