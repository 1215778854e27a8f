"""
Certificates: those that a server presents, and those that a client trusts.
"""

from __future__ import annotations

import errno
import os
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.support.tls_peers import authority, files, identity
from twisted_upload.net.tls.certificates import Identity, verifiable_name, verifying_context


def test_from_files(tmp_path: Path) -> None:
    """A key and a chain make an identity, in two files or in one."""
    key, chain, _ = files(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(Path(chain).read_bytes() + Path(key).read_bytes())
    for paths in ((key, chain), (str(both), chain), (key, str(both)), (str(both), str(both))):
        assert Identity.from_files(*paths).context.get_ca_certs() == []


def test_again_from_memory(tmp_path: Path) -> None:
    """An identity that was read once can be made again from memory, in another process."""
    first = Identity.from_files(*files(tmp_path)[:2])
    with open(first.in_memory(), "rb") as file:
        assert Identity(file.read()).pem == first.pem


def test_key_that_is_half_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If there is no memory for a private key, nothing of it stays open."""
    identity = Identity.from_files(*files(tmp_path)[:2])
    before = os.listdir("/proc/self/fd")

    def write(*_: object) -> int:
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(OSError, match=os.strerror(errno.ENOMEM)):
        identity.in_memory()
    assert os.listdir("/proc/self/fd") == before


def test_no_file_is_left_open(tmp_path: Path) -> None:
    """Neither files nor memory stay open."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        Identity.from_files(*files(tmp_path)[:2])
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_is_safe() -> None:
    """TLS 1.2 or later, no renegotiation, no tickets, and no end without close_notify."""
    for context in (identity().context, verifying_context()):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert not context.options & getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    assert identity().context.num_tickets == 0
    assert verifying_context().verify_mode == ssl.CERT_REQUIRED
    assert verifying_context().check_hostname


def _line(error: pytest.ExceptionInfo[ValueError]) -> str:
    text = str(error.value)
    assert text.isprintable()
    return text


def test_files_that_are_none(tmp_path: Path) -> None:
    """A file that cannot be read, or is of another kind, is named in one line."""
    key, chain, _ = files(tmp_path)
    missing, other = str(tmp_path / "missing.pem"), str(tmp_path / "other.pem")
    (tmp_path / "other.pem").write_bytes(b"\x80 not PEM")
    for paths, text in [
        ((missing, chain), f"{missing}: No such file or directory"),
        ((key, missing), f"{missing}: No such file or directory"),
        ((str(tmp_path), chain), f"{tmp_path}: Is a directory"),
        ((other, chain), f"{other}: it contains no PEM private key"),
        ((chain, chain), f"{chain}: it contains no PEM private key"),
        ((key, other), f"{other}: it contains no PEM certificate"),
        ((key, key), f"{key}: it contains no PEM certificate"),
        (("\0", chain), "null byte"),
    ]:
        with pytest.raises(ValueError, match=r"^\S|^\0") as raised:
            Identity.from_files(*paths)
        assert text in str(raised.value)
        assert "\n" not in str(raised.value)


def test_another_key(tmp_path: Path) -> None:
    """A key of another certificate is reported as such."""
    (tmp_path / "a").mkdir()
    key, _, _ = files(tmp_path / "a")
    _, chain, _ = files(tmp_path)
    with pytest.raises(ValueError, match="is not the key of") as raised:
        Identity.from_files(key, chain)
    assert key in _line(raised)


def test_broken_pem(tmp_path: Path) -> None:
    """Malformed PEM is reported."""
    key, chain, _ = files(tmp_path)
    for path in (key, chain):
        content = Path(path).read_text()
        Path(path).write_text(content.replace("M", "!", 3))
        with pytest.raises(ValueError, match="cannot be used") as raised:
            Identity.from_files(key, chain)
        assert path in _line(raised)
        Path(path).write_text(content)


def test_key_with_password(tmp_path: Path) -> None:
    """A key that needs a password is refused, and no password is asked for."""
    key, chain, _ = files(tmp_path)
    encrypted = str(tmp_path / "encrypted.pem")
    command = ["openssl", "pkcs8", "-topk8", "-in", key, "-out", encrypted, "-passout", "pass:x"]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs openssl")
    with pytest.raises(ValueError, match="password") as raised:
        Identity.from_files(encrypted, chain)
    assert encrypted in _line(raised)


def test_trusting(tmp_path: Path) -> None:
    """With certificates given, only those are trusted."""
    _, _, ca = files(tmp_path)
    (subject,) = [found["subject"] for found in verifying_context(ca).get_ca_certs()]
    assert any("trustme" in str(part) for part in subject)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nx\n"])
def test_trusting_nonsense(tmp_path: Path, content: bytes) -> None:
    """A file without certificates is named in one line."""
    (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(ValueError, match="it contains no PEM certificate") as raised:
        verifying_context(str(tmp_path / "ca.pem"))
    assert "ca.pem" in _line(raised)
    with pytest.raises(ValueError, match="No such file"):
        verifying_context(str(tmp_path / "missing.pem"))


def test_comments_in_a_bundle(tmp_path: Path) -> None:
    """A bundle may contain comments, in any script."""
    text = "# Årsta CA\n".encode() + authority().cert_pem.bytes() + "# über\n".encode()
    (tmp_path / "ca.pem").write_bytes(text)
    assert len(verifying_context(str(tmp_path / "ca.pem")).get_ca_certs()) == 1


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("server", "server"),
        ("server.example.", "server.example"),
        ("127.0.0.1", "127.0.0.1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("bücher.example", "bücher.example"),
    ],
)
def test_verifiable_names(host: str, name: str) -> None:
    """These names can be in a certificate."""
    assert verifiable_name(host) == name


@pytest.mark.parametrize("host", ["", ".", ".x", "x" * 64, "a..b", "\0"])
def test_unverifiable_names(host: str) -> None:
    """These names cannot be in a certificate."""
    with pytest.raises(ValueError, match="is not a valid server name"):
        verifiable_name(host)
