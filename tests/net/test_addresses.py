"""
Network addresses as people write them.
"""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from twisted_upload.net.addresses import listening_name, peer_name
from twisted_upload.net.endpoint_text import split_description


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (IPv4Address("TCP", "192.0.2.7", 50123), "192.0.2.7:50123"),
        (IPv6Address("TCP", "2001:db8::7", 50123), "[2001:db8::7]:50123"),
        (IPv6Address("TCP", "::ffff:192.0.2.7", 50123), "192.0.2.7:50123"),
        (IPv6Address("TCP", "::ffff:c000:207", 50123), "[::ffff:c000:207]:50123"),
        (UNIXAddress(b""), "unix"),
        (UNIXAddress(None), "unix"),
    ],
)
def test_peer_name(address: IAddress, name: str) -> None:
    """A peer is named so that one could connect to it."""
    assert peer_name(address) == name


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (IPv4Address("TCP", "127.0.0.1", 6666), "127.0.0.1:6666"),
        (IPv4Address("TCP", "0.0.0.0", 6666), "*:6666"),
        (IPv6Address("TCP", "::", 6666), "*:6666"),
        (IPv6Address("TCP", "::1", 6666), "[::1]:6666"),
        (UNIXAddress(b"/run/upload.sock"), "unix:/run/upload.sock"),
    ],
)
def test_listening_name(address: IAddress, name: str) -> None:
    """A listening address is named in one word."""
    assert listening_name(address) == name


@pytest.mark.parametrize(
    ("text", "values", "named"),
    [
        ("", [""], {}),
        ("6667", ["6667"], {}),
        ("6667:key=/a.pem:cert=b=c", ["6667"], {"key": "/a.pem", "cert": "b=c"}),
        ("key=a:6667:", ["6667", ""], {"key": "a"}),
        ("[::1]:6667:x=[fe80::1%eth0]", ["[::1]", "6667"], {"x": "[fe80::1%eth0]"}),
        ("[a:b", ["[a", "b"], {}),
        ("a\\:\\\\:b\\=c", ["a:\\", "b=c"], {}),
        ("a\\:", ["a:"], {}),
        ("/x=y", ["/x=y"], {}),
    ],
)
def test_arguments(text: str, values: list[str], named: dict[str, str]) -> None:
    """The arguments of an endpoint string, by position and by name."""
    assert split_description(text) == (values, named)


@pytest.mark.parametrize("text", ["a\\", "key=a:key=a"])
def test_no_arguments(text: str) -> None:
    """An invalid endpoint string is refused."""
    with pytest.raises(ValueError, match=r"it ends with a backslash|key= is given twice"):
        split_description(text)
