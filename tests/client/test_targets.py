"""
Where to send: what people write, parsed.
"""

from __future__ import annotations

import sys
from subprocess import run

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_upload.client.targets import Target, is_token, parse_target

INVITATION = "inv_AQAAAAB_-x"


@pytest.mark.parametrize(
    ("text", "scheme", "host", "port"),
    [
        ("server", "raw", "server", 6666),
        ("server:7000", "raw", "server", 7000),
        ("my_server.example.:1", "raw", "my_server.example.", 1),
        ("bücher.example:65535", "raw", "bücher.example", 65535),
        ("192.0.2.7", "raw", "192.0.2.7", 6666),
        ("::1", "raw", "::1", 6666),
        ("[::1]", "raw", "::1", 6666),
        ("[::1]:7000", "raw", "::1", 7000),
        ("2001:db8::7000", "raw", "2001:db8::7000", 6666),
        ("fe80::1%eth0", "raw", "fe80::1%eth0", 6666),
        ("[fe80::1%eth0]:7000", "raw", "fe80::1%eth0", 7000),
        ("tcp://server", "raw", "server", 6666),
        ("tcp://[::1]:7000", "raw", "::1", 7000),
        ("tcp:server:7000", "raw", "server", 7000),
        ("tcp:host=server:port=7000", "raw", "server", 7000),
        ("tcp:[::1]:7000", "raw", "::1", 7000),
        ("tls://server", "tls", "server", 6667),
        ("tls://server:7000/", "tls", "server", 7000),
        ("TLS://server", "tls", "server", 6667),
        ("tls:server:7000", "tls", "server", 7000),
        ("tls:\\:\\:1:7000", "tls", "::1", 7000),
        ("http://server", "http", "server", 80),
        ("http://server:8080/", "http", "server", 8080),
        ("https://server/", "https", "server", 443),
        ("HTTPS://[::1]:8443", "https", "::1", 8443),
    ],
)
def test_host_and_port(text: str, scheme: str, host: str, port: int) -> None:
    """A name, an IPv4 or an IPv6 address, with or without a port, after its scheme."""
    target = parse_target(text)
    assert (target.scheme, target.host, target.port) == (scheme, host, port)
    assert str(target) == text


@pytest.mark.parametrize("text", ["unix:/run/upload.sock", "unix:path=/run/upload.sock"])
def test_unix_socket(text: str) -> None:
    """A unix socket is known by its path."""
    target = parse_target(text)
    assert (target.scheme, target.path) == ("unix", "/run/upload.sock")
    assert target.address == "/run/upload.sock"


def test_arguments_of_endpoints() -> None:
    """A client endpoint string may have certificates and a timeout."""
    target = parse_target("tls:server:6667:cacert=/etc/ca.pem")
    assert target == Target(target.text, "tls", "server", 6667, cacert="/etc/ca.pem")
    assert parse_target("tcp:server:1:timeout=7").timeout == 7
    assert parse_target("unix:/run/x:timeout=7").timeout == 7


@pytest.mark.parametrize(
    "text", ["tor:server:1", "a:b:c", "tcp:server:1:bindAddress=192.0.2.7", "unix:/x:lockfile=1"]
)
def test_other_endpoints(text: str) -> None:
    """Whatever else could be an endpoint is left to Twisted."""
    assert parse_target(text) == Target(text, "endpoint")


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("http://server", "/"),
        ("http://server/", "/"),
        ("http://server/drop", "/drop/"),
        ("http://server/drop/box/", "/drop/box/"),
        ("http://server/files/", "/"),
        ("http://server/drop/files", "/drop/"),
        ("http://server/my%20files/", "/my%20files/"),
    ],
)
def test_base_path(text: str, path: str) -> None:
    """The base path begins and ends with a slash; the creation URL stands for its server."""
    assert parse_target(text).path == path


@pytest.mark.parametrize(
    ("text", "authority"),
    [
        ("http://server", "server"),
        ("http://server:8080", "server:8080"),
        ("https://server:80", "server:80"),
        ("http://[::1]", "[::1]"),
        ("http://[fe80::1%eth0]:8080", "[fe80::1]:8080"),
        ("http://bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_authority(text: str, authority: str) -> None:
    """The Host field has the port unless it is that of the scheme, and no zone."""
    assert parse_target(text).authority == authority


@pytest.mark.parametrize("fragment", [f"token={INVITATION}", INVITATION])
def test_invitation(fragment: str) -> None:
    """The link of an invitation has its secret, which is in no text for people."""
    target = parse_target(f"https://server/#{fragment}")
    assert target.token == INVITATION
    assert str(target) == "https://server/"
    assert INVITATION not in repr(target)
    assert INVITATION not in target.key
    assert parse_target("https://server/#").token is None


@pytest.mark.parametrize("before", ["https://server/", "server", "ftp://server/", "", "a b"])
@pytest.mark.parametrize("secret", [f"{INVITATION} ", "token=inv_sEcReT?", "sEcReT\n"])
def test_secrets_are_not_quoted(before: str, secret: str) -> None:
    """An error does not contain what follows the number sign."""
    with pytest.raises(ValueError, match=r"^\S.*\S$") as refused:
        parse_target(f"{before}#{secret}")
    assert "sEcReT" not in str(refused.value)
    assert INVITATION not in str(refused.value)


def test_key() -> None:
    """Two spellings of one server have one key; two servers have two."""
    assert parse_target("http://Server/").key == parse_target("http://server:80/files/").key
    texts = ["http://server/", "https://server/", "http://server/x", "http://server:8080", "server"]
    assert len({parse_target(text).key for text in texts}) == len(texts)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "a b", ":6666", "server:", "server:0", "server:65536", "server:-1", "server:x"),
        *("server:６", "[server]:1", "[::1", "[::1]7000", "[::1]:", "user@server", "server/path"),
        *("tcp:6666", "tcp:server:port", "unix:", "tls:server", "tls:server:port", "tls::1"),
        *("ssl:server:443", "server\n", "\x1b[31m", "\udcff", "tls:server:1:nonsense=1"),
        *("tcp:server:1:timeout=x", "tls:server:1\\", "ftp://server/", "http://", "http:///x"),
        *("http://user@server/", "http://server/?x=1", "http://server/a b", "http://server/ü"),
        *("http://server:99999/", "tls://server/path", "tls://server#x", "http://::1/"),
        *("http://server\r\nX: y/", "http://a..b.ü/", "server:6666666666", "%", "tcp:a:1:2"),
    ],
)
def test_invalid(text: str) -> None:
    """Anything else is a `ValueError` with a message of one line."""
    with pytest.raises(ValueError, match=r"^\S.*\S$") as refused:
        parse_target(text)
    assert str(refused.value).isprintable()


@given(st.text(max_size=30) | st.from_regex(r"(https?|tls|tcp|unix)[:/]{1,3}[a-z:/@#\[\]]{0,9}"))
def test_any_text(text: str) -> None:
    """Any text is a target or a `ValueError`; the fields of a request can be made of a target."""
    try:
        target = parse_target(text)
    except ValueError:
        return
    assert target.address
    assert target.key.isprintable()
    if target.is_http:
        assert f"{target.authority}{target.path}".isascii()
        assert " " not in f"{target.authority}{target.path}"


def test_tokens() -> None:
    """A token cannot break out of its header field."""
    assert is_token(INVITATION)
    assert is_token("a.b~c+/==")
    assert not any(map(is_token, ["", "a b", "a\r\nb", "a\n", "ü", "a" * 5000, '"']))


def test_needs_no_twisted() -> None:
    """Parsing does not wait for the import of Twisted."""
    code = (
        "import sys, twisted_upload.client.targets as it; it.parse_target('http://server/');"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'twisted']"
    )
    assert run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
