"""
Who has sent a request: the other end of its connection, or whom that forwards it for
(``X-Forwarded-For`` and ``X-Forwarded-Proto``).

Of each field, the last value counts.  It is the one that the proxy in front of us has
added; what comes before it may come from the client.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IAddress, ISSLTransport

from twisted_upload.frontends.http.exchange import Client
from twisted_upload.net.addresses import host_of, peer_name, unix_peer_name
from twisted_upload.net.endpoint_text import socket_name
from twisted_upload.net.networks import address_group

__all__ = ["forwarded_client", "neighbour"]

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?\Z|([0-9A-Fa-f:.]+)\Z")


def neighbour(address: IAddress | None, transport: Any) -> Client:
    """
    Return the other end of a connection: the client, or a proxy.

    :param address: of it, if it is known.
    """
    address = address or transport.getPeer()
    peer, host = peer_name(address), host_of(address)
    if peer == "unix":
        peer = unix_peer_name(transport)
    scheme = "https" if ISSLTransport.providedBy(transport) else "http"
    return Client(peer, host, address_group(host) if host else None, scheme)


def forwarded_client(fields: Mapping[str, str], proxy: Client) -> Client:
    """
    Return the client that a trusted proxy names; the proxy if it names none.

    :param fields: of the request.
    :return: with an empty `Client.host` if the name is not an address.
    """
    scheme = _last(fields, "x-forwarded-proto").lower()
    if scheme not in ("http", "https"):
        scheme = proxy.scheme
    text = _last(fields, "x-forwarded-for")
    if not text:
        return proxy._replace(scheme=scheme)
    found = _ADDRESS.match(text)
    try:
        if found is None:
            raise ValueError(text)
        host = str(ipaddress.ip_address(found[1] or found[2] or found[4]))
    except ValueError:
        return Client(proxy.peer, "", None, scheme)
    return Client(socket_name(host, int(found[3] or 0)), host, address_group(host), scheme)


def _last(fields: Mapping[str, str], name: str) -> str:
    return fields.get(name, "").rpartition(",")[2].strip()
