"""
Tests of who may connect: what a rejected client is told, and whom a proxy speaks for.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.gate import rules_of
from tests.support.http import Reply, open_http, put
from tests.support.proxy_headers import binary, line
from tests.support.waiting import turns, until
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.http.exchange import Client
from twisted_upload.frontends.http.forwarding import forwarded_client
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.net.networks import NetworkSet, TrustedProxies, parse_network

LOOPBACK = TrustedProxies(NetworkSet([parse_network("127.0.0.0/8")]), unix=True)
ELSEWHERE = TrustedProxies(NetworkSet([parse_network("192.0.2.0/24")]))


def code(reply: Reply) -> str:
    """Return the code of a refusal, as a person reads it."""
    mark, _, rest = reply.text.partition(": ")
    assert mark == "上传失败"
    return rest.split(" ")[0]


# -- rejected clients ---------------------------------------------------------------


async def test_not_allowed() -> None:
    """A client that may not connect hears that in HTTP, whatever it asks for."""
    async with open_http(HTTPSettings(rules=rules_of(deny="127.0.0.0/8"))) as http:
        client = http.connect()
        reply = await client.ask(put(b"hello"))
        assert (reply.status, reply.closes, code(reply)) == (403, True, "not-allowed")
        assert await client.ends()
        assert http.stored == []


async def test_too_many() -> None:
    """A client that comes when there are too many is told when to try again."""
    async with open_http(slots=ConnectionSlots(1)) as http:
        first = http.connect()
        assert (await first.ask(put(b"1"))).status == 201
        reply = await http.ask(put(b"2"))
        assert (reply.status, code(reply)) == (503, "busy")
        assert reply.fields["retry-after"] == "5"
        first.close()
        await until(lambda: not http.factory.slots.taken)
        assert (await http.ask(put(b"3"))).status == 201


async def test_too_many_from_one_address() -> None:
    """The connections of one address are counted, not its requests."""
    async with open_http(HTTPSettings(max_per_address=2)) as http:
        clients = [http.connect() for _ in range(2)]
        for client in clients * 3:
            assert (await client.ask(put(b"x"))).status == 201
        assert code(await http.ask(put(b"x"))) == "busy"
        assert (await http.connect("127.0.0.2").ask(put(b"x"))).status == 201


# -- PROXY protocol, unix sockets --------------------------------------------------------


@pytest.mark.parametrize("header", [line(), binary()], ids=["1", "2"])
async def test_proxy_protocol(header: bytes) -> None:
    """The client that a PROXY header names is the one that sends all requests."""
    async with open_http(HTTPSettings(trusted_proxies=LOOPBACK)) as http:
        client = http.connect()
        assert (await client.ask(header, put(b"1"))).status == 201
        assert (await client.ask(put(b"2"))).status == 201
        assert {event["peer"] for event in http.log.ends} == {"192.0.2.7:50123"}


async def test_proxy_protocol_rejected() -> None:
    """A client behind a load balancer that may not connect hears that in HTTP."""
    settings = HTTPSettings(trusted_proxies=LOOPBACK, rules=rules_of(deny="192.0.2.0/24"))
    async with open_http(settings) as http:
        assert code(await http.ask(line(), put(b"1"))) == "not-allowed"
        assert code(await http.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")) == "not-allowed"


async def test_unix_socket(tmp_path: Path) -> None:
    """A client at a unix socket is named by its process."""
    async with open_http() as http, http.also_at("unix", tmp_path) as connect:
        client = connect()
        for _ in range(2):
            assert (await client.ask(put(b"hello"))).status == 201
        assert http.log.ends[0]["peer"].startswith("unix uid ")
        client.close()
        await http.is_quiet()


async def test_unix_client_that_leaves(tmp_path: Path) -> None:
    """A client at a unix socket that closes before the response forfeits it, not the file."""
    async with open_http() as http, http.also_at("unix", tmp_path) as connect:
        http.store.holding = True
        client = connect()
        client.send(put(b"hello"))
        await until(lambda: http.store._held)
        client.close()
        await http.is_quiet()
        http.store.release()
        assert http.stored == [b"hello"]
        assert [event["answered"] for event in http.log.ends] == [False]


# -- X-Forwarded-For --------------------------------------------------------------------


def forwarded(address: str, *lines: str) -> bytes:
    """Return a request that a proxy forwards for an address."""
    return put(b"hello", "/", f"X-Forwarded-For: {address}", *lines)


async def test_forwarded() -> None:
    """A trusted proxy names the client of each request."""
    async with open_http(HTTPSettings(trust_forwarded=LOOPBACK)) as http:
        client = http.connect()
        for address in ("192.0.2.7", "2001:db8::7", "192.0.2.7:50123"):
            assert (await client.ask(forwarded(address))).status == 201
        assert (await client.ask(put(b"hello"))).status == 201
        peers = [event["peer"] for event in http.log.ends]
        assert peers[:3] == ["192.0.2.7:0", "[2001:db8::7]:0", "192.0.2.7:50123"]
        assert peers[3].startswith("127.0.0.1:")


async def test_forwarded_by_a_stranger() -> None:
    """What others say is not believed."""
    async with open_http(HTTPSettings(trust_forwarded=ELSEWHERE)) as http:
        assert (await http.ask(forwarded("192.0.2.7"))).status == 201
        assert http.log.ends[0]["peer"].startswith("127.0.0.1:")
    async with open_http() as http:
        assert (await http.ask(forwarded("192.0.2.7"))).status == 201
        assert http.log.ends[0]["peer"].startswith("127.0.0.1:")


async def test_rules_apply_to_the_client() -> None:
    """Rules apply to the client behind a proxy, not to the proxy; and to each request."""
    settings = HTTPSettings(trust_forwarded=LOOPBACK, rules=rules_of(allow="192.0.2.0/24"))
    async with open_http(settings) as http:
        client = http.connect()
        assert (await client.ask(forwarded("192.0.2.7"))).status == 201
        reply = await client.ask(forwarded("198.51.100.1"))
        assert (reply.status, code(reply), reply.closes) == (403, "not-allowed", False)
        assert (await client.ask(forwarded("198.51.100.1, 192.0.2.8"))).status == 201
        assert code(await client.ask(forwarded("192.0.2.7, unknown"))) == "not-allowed"
        assert http.factory.gate.rejected["not-allowed"] == 2


async def test_connections_of_the_client_are_counted() -> None:
    """The connections of a proxy are counted by the clients that they are for."""
    settings = HTTPSettings(trust_forwarded=LOOPBACK, max_per_address=2)
    async with open_http(settings) as http:
        clients = [http.connect() for _ in range(4)]
        for client in clients[:2]:
            assert (await client.ask(forwarded("192.0.2.7"))).status == 201
        assert code(await clients[2].ask(forwarded("192.0.2.7"))) == "busy"
        assert (await clients[2].ask(forwarded("192.0.2.8"))).status == 201
        assert (await clients[0].ask(forwarded("192.0.2.9"))).status == 201
        assert (await clients[3].ask(forwarded("192.0.2.7"))).status == 201
        assert http.factory.gate.admission.taken == {
            "192.0.2.7": 2,
            "192.0.2.8": 1,
            "192.0.2.9": 1,
        }
        for client in clients:
            client.close()
        await http.is_quiet()
        assert http.factory.gate.admission.taken == {}


async def test_forwarded_at_a_unix_socket(tmp_path: Path) -> None:
    """A proxy may connect to a unix socket."""
    settings = HTTPSettings(trust_forwarded=LOOPBACK)
    async with open_http(settings) as http, http.also_at("unix", tmp_path) as connect:
        client = connect()
        assert (await client.ask(forwarded("192.0.2.7"))).status == 201
        assert http.log.ends[0]["peer"] == "192.0.2.7:0"
        client.close()
        await turns()
        await until(lambda: not http.factory.protocols)


PROXY = Client("127.0.0.1:4711", "127.0.0.1", "127.0.0.1", "http")


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("203.0.113.9, 192.0.2.7", "192.0.2.7"),
        ("203.0.113.9,192.0.2.7 ", "192.0.2.7"),
        ("192.0.2.7:50123", "192.0.2.7"),
        ("2001:DB8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:50123", "2001:db8::7"),
        ("unknown", ""),
        ("_hidden", ""),
        ("192.0.2.7,", "127.0.0.1"),
        ("", "127.0.0.1"),
        ("192.0.2.256", ""),
        ("192.0.2.7 198.51.100.1", ""),
        ("192.0.2.7:123456", ""),
        ("fe80::1%eth0", ""),
        ("1", ""),
        ("٣", ""),
    ],
)
def test_last_value(text: str, host: str) -> None:
    """The last value counts; what is not an address is in no network."""
    assert forwarded_client({"x-forwarded-for": text}, PROXY).host == host


@pytest.mark.parametrize(
    ("text", "scheme"),
    [("https", "https"), ("http, HTTPS", "https"), ("https, http", "http"), ("ftp", "http")],
)
def test_scheme(text: str, scheme: str) -> None:
    """The proxy also says how the client has connected to it."""
    assert forwarded_client({"x-forwarded-proto": text}, PROXY).scheme == scheme
