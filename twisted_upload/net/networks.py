"""
Networks, and which addresses are in them.

Pure functions and values: addresses are text, in the kernel's notation.  An IPv4
address that is written as an IPv6 one (``::ffff:192.0.2.7``) is treated as an IPv4
address everywhere here, and so is a network of such addresses.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple

__all__ = [
    "EVERYBODY",
    "Network",
    "NetworkSet",
    "Rules",
    "TrustedProxies",
    "address_group",
    "group_name",
    "parse_network",
]

_MAPPED = bytes(10) + b"\xff\xff"


class Network(NamedTuple):
    """
    A block of addresses.

    :ivar bits: length of an address of its family: 32 or 128.
    :ivar length: number of leading bits that all its addresses share.
    :ivar prefix: those bits, as a number.
    """

    bits: int
    length: int
    prefix: int

    def __str__(self) -> str:
        packed = (self.prefix << (self.bits - self.length)).to_bytes(self.bits // 8, "big")
        return f"{inet_ntop(AF_INET if self.bits == 32 else AF_INET6, packed)}/{self.length}"


def parse_network(text: str) -> Network:
    """
    Parse a network: ``192.0.2.0/24``, ``2001:db8::/32``, or a single address.

    :raises ValueError: the text is not a network; the message says what is expected.
    """
    if "%" in text:
        raise ValueError(f"{text!r}: a network cannot have a zone")
    try:
        network = ipaddress.ip_network(text.strip())
    except ValueError:
        try:
            meant = ipaddress.ip_network(text.strip(), strict=False)
        except ValueError:
            raise ValueError(
                f"{text!r} is not a network such as 192.0.2.0/24 or 2001:db8::/32"
            ) from None
        raise ValueError(f"{text!r} has host bits set; did you mean {meant}?") from None
    packed, length = network.network_address.packed, network.prefixlen
    if packed[:12] == _MAPPED and length >= 96:
        packed, length = packed[12:], length - 96
    bits = len(packed) * 8
    return Network(bits, length, int.from_bytes(packed, "big") >> (bits - length))


def _packed(host: str) -> bytes:
    """:raises OSError: it is not an address."""
    if ":" not in host:
        return inet_pton(AF_INET, host)
    packed = inet_pton(AF_INET6, host.partition("%")[0])
    return packed[12:] if packed.startswith(_MAPPED) else packed


def address_group(host: str) -> str:
    """
    Return the group that senders are counted by: an IPv4 address, or the /64 of an IPv6
    one, because a host with one address of a /64 usually has all of them.

    :return: an IPv4 address, or the eight bytes of the /64 in hexadecimal.
    """
    if ":" not in host:
        return host
    if host.startswith("::ffff:") and "." in host:
        return host[7:]
    packed = _packed(host)
    return inet_ntop(AF_INET, packed) if len(packed) == 4 else packed[:8].hex()


def group_name(group: str) -> str:
    """Return an address group as people write it: ``192.0.2.7``, ``2001:db8:0:1::/64``."""
    if "." in group:
        return group
    return f"{inet_ntop(AF_INET6, bytes.fromhex(group) + bytes(8))}/64"


class _Table:
    """
    A value for each network; for an address, the most specific network counts.

    The cost of a lookup depends on the number of different prefix lengths, not of
    networks: one dictionary lookup for each length, of which there are few even for
    hundreds of networks.
    """

    def __init__(self) -> None:
        self._lengths: dict[int, list[tuple[int, dict[int, bool]]]] = {32: [], 128: []}

    def add(self, network: Network, value: bool) -> None:
        """:raises ValueError: the same network already has the opposite value."""
        lengths = self._lengths[network.bits]
        shift = network.bits - network.length
        prefixes = next((known for length, known in lengths if length == shift), None)
        if prefixes is None:
            prefixes = {}
            lengths.append((shift, prefixes))
            lengths.sort(key=lambda entry: entry[0])  # the most specific first
        if prefixes.setdefault(network.prefix, value) is not value:
            raise ValueError(f"{network} is both allowed and denied")

    def look_up(self, host: str) -> bool | None:
        try:
            packed = _packed(host)
        except OSError:
            return None
        address = int.from_bytes(packed, "big")
        for shift, prefixes in self._lengths[len(packed) * 8]:
            value = prefixes.get(address >> shift)
            if value is not None:
                return value
        return None


class NetworkSet:
    """
    A set of networks.

    :ivar networks: the networks it was made of.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        self.networks: Sequence[Network] = tuple(networks)
        self._table = _Table()
        for network in self.networks:
            self._table.add(network, True)

    def __contains__(self, host: str) -> bool:
        """Return whether an address is in one of them."""
        return self._table.look_up(host) is not None


class Rules:
    """
    Which addresses are allowed.

    The most specific network that contains an address decides.  An address that is in
    none is allowed, unless there is a network that is explicitly allowed: then it is
    denied.

    :param allow: networks whose addresses are allowed.
    :param deny: networks whose addresses are denied.
    :raises ValueError: a network is in both.
    :ivar others: whether an address that is in none of the networks is allowed.
    """

    def __init__(self, allow: Iterable[Network] = (), deny: Iterable[Network] = ()) -> None:
        self._table = _Table()
        self._any = False
        self.others = True
        for networks, value in ((allow, True), (deny, False)):
            for network in networks:
                self._table.add(network, value)
                self._any = True
                self.others = self.others and not value

    def __bool__(self) -> bool:
        """Return whether there are any rules."""
        return self._any

    def allows(self, host: str) -> bool:
        """Return whether an address is allowed; text that is not an address is in no network."""
        value = self._table.look_up(host)
        return self.others if value is None else value


EVERYBODY = Rules()
"""No rules: every address is allowed."""


class TrustedProxies:
    """
    The load balancers that are trusted.

    :param networks: that contain their addresses.
    :param unix: whether connections to a unix socket are trusted too.
    """

    def __init__(self, networks: NetworkSet, *, unix: bool = False) -> None:
        self._networks = networks
        self._unix = unix

    def __contains__(self, host: str | None) -> bool:
        """Return whether a load balancer at this address is trusted; `None` is a unix socket."""
        return self._unix if host is None else host in self._networks
