"""
Networks, and which addresses are in them.
"""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.gate import rules_of
from twisted_upload.net.networks import (
    NetworkSet,
    Rules,
    TrustedProxies,
    address_group,
    group_name,
    parse_network,
)


@pytest.mark.parametrize(
    ("text", "understood"),
    [
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("2001:DB8:0::7", "2001:db8::7/128"),
        ("::/0", "::/0"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("10.0.0.0/255.0.0.0", "10.0.0.0/8"),
    ],
)
def test_parse(text: str, understood: str) -> None:
    """Networks of both families, single addresses, and IPv4 written as IPv6, which is IPv4."""
    assert str(parse_network(text)) == understood


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a network"),
        ("example.org", "is not a network"),
        ("192.0.2.0/33", "is not a network"),
        ("192.0.2", "is not a network"),
        ("010.0.0.1", "is not a network"),
        ("2001:db8::/129", "is not a network"),
        ("192.0.2.7/24", "did you mean 192.0.2.0/24?"),
        ("2001:db8::7/32", "did you mean 2001:db8::/32?"),
        ("fe80::1%eth0", "cannot have a zone"),
    ],
)
def test_no_network(text: str, message: str) -> None:
    """An invalid network is refused, with a suggestion if there is one."""
    with pytest.raises(ValueError, match=r"network|did you mean") as raised:
        parse_network(text)
    assert message in str(raised.value)


def test_no_rules() -> None:
    """Without rules, every address is allowed."""
    rules = rules_of()
    assert not rules
    assert rules.allows("192.0.2.7")
    assert rules.allows("2001:db8::7")


def test_deny_only() -> None:
    """With denials only, all other addresses are allowed."""
    rules = rules_of(deny="192.0.2.0/24 2001:db8::/32")
    assert rules
    assert not rules.allows("192.0.2.7")
    assert not rules.allows("2001:db8:1::7")
    assert rules.allows("192.0.3.7")
    assert rules.allows("2001:db9::7")


def test_any_allowance_denies_the_rest() -> None:
    """
    If any address is explicitly allowed, all others are denied, also those of the other
    family.
    """
    rules = rules_of(allow="192.0.2.0/24")
    assert rules.allows("192.0.2.255")
    assert not rules.allows("192.0.3.0")
    assert not rules.allows("2001:db8::7")
    assert not rules.others


def test_most_specific_wins() -> None:
    """The longest prefix decides, regardless of verdict and order."""
    rules = rules_of(
        allow="10.0.0.0/8 10.1.2.3/32 2001:db8::/32", deny="10.1.0.0/16 2001:db8:bad::/48"
    )
    assert rules.allows("10.0.0.1")
    assert not rules.allows("10.1.0.1")
    assert not rules.allows("10.1.2.2")
    assert rules.allows("10.1.2.3")
    assert rules.allows("2001:db8::1")
    assert not rules.allows("2001:db8:bad::1")


def test_contradiction() -> None:
    """The same network cannot be both allowed and denied."""
    with pytest.raises(ValueError, match=r"192\.0\.2\.0/24 is both allowed and denied"):
        rules_of(allow="192.0.2.0/24", deny="::ffff:192.0.2.0/120")
    rules_of(allow="192.0.2.0/24 192.0.2.0/24")


@pytest.mark.parametrize("host", ["::ffff:192.0.2.7", "::FFFF:192.0.2.7", "::ffff:c000:207"])
def test_mapped(host: str) -> None:
    """An IPv4 sender at an IPv6 socket is an IPv4 sender."""
    assert not rules_of(deny="192.0.2.0/24").allows(host)
    assert rules_of(deny="::/0").allows(host)
    assert host in NetworkSet([parse_network("192.0.2.0/24")])
    assert address_group(host) == "192.0.2.7"


def test_zone() -> None:
    """The zone of a link-local address is ignored."""
    assert not rules_of(deny="fe80::/10").allows("fe80::1%eth0")


@pytest.mark.parametrize("host", ["", "unix", "1.2.3", "1.2.3.4.5", ":::", "x:y"])
def test_no_address(host: str) -> None:
    """Anything but an address is in no network."""
    assert not rules_of(allow="0.0.0.0/0 ::/0").allows(host)
    assert host not in NetworkSet([parse_network("0.0.0.0/0"), parse_network("::/0")])


def test_set() -> None:
    """A set contains the addresses of all its networks."""
    some = NetworkSet(map(parse_network, ["127.0.0.0/8", "::1"]))
    assert "127.3.2.1" in some
    assert "::1" in some
    assert "::2" not in some
    assert "128.0.0.1" not in some


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_group(host: str, name: str) -> None:
    """IPv4 senders are counted by address, IPv6 senders by their /64."""
    assert group_name(address_group(host)) == name


def _networks(kind: type, bits: int) -> st.SearchStrategy[str]:
    # Few addresses, so that senders often are in a network.
    return st.builds(
        lambda number, length: str(
            ipaddress.ip_network((kind(number << (bits - 8)), length), strict=False)
        ),
        st.integers(0, 255),
        st.integers(0, 8) | st.just(bits),
    )


NETWORKS = st.lists(
    _networks(ipaddress.IPv4Address, 32) | _networks(ipaddress.IPv6Address, 128), max_size=6
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(allow=NETWORKS, deny=NETWORKS, number=st.integers(0, 255), six=st.booleans())
def test_as_the_definition_says(allow: list[str], deny: list[str], number: int, six: bool) -> None:
    """Whatever the networks, the result is that of the plain definition."""
    host = ipaddress.IPv6Address(number << 120) if six else ipaddress.IPv4Address(number << 24)
    deny = [network for network in deny if network not in allow]
    matching = [
        (network.prefixlen, verdict)
        for networks, verdict in ((allow, True), (deny, False))
        for network in map(ipaddress.ip_network, networks)
        if host in network
    ]
    expected = max(matching)[1] if matching else not allow
    rules = Rules(map(parse_network, allow), map(parse_network, deny))
    assert rules.allows(str(host)) is expected


def test_trusted_proxies() -> None:
    """Proxies are trusted by network, and at a Unix socket only if that is configured."""
    networks = NetworkSet([parse_network("10.0.0.0/8")])
    over_networks, over_unix = TrustedProxies(networks), TrustedProxies(NetworkSet([]), unix=True)
    assert "10.1.2.3" in over_networks
    assert "::ffff:10.1.2.3" in over_networks
    assert "11.1.2.3" not in over_networks
    assert None not in over_networks
    assert None in over_unix
    assert "10.1.2.3" not in over_unix
