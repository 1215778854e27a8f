"""
Whom a proxy forwards a request for: ``X-Forwarded-For`` and ``X-Forwarded-Proto``.

Of each field, the last value counts.  It is the one that the proxy in front of us has
added; what comes before it may come from the client.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from twisted_upload.frontends.http.exchange import Client
from twisted_upload.net.addresses import socket_name
from twisted_upload.net.networks import address_group

__all__ = ["forwarded_client"]

_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+))(?::([0-9]{1,5}))?\Z|([0-9A-Fa-f:.]+)\Z")


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
