"""
Addresses and endpoints as text, without sockets and without Twisted.
"""

from __future__ import annotations

import re

__all__ = ["socket_name", "split_description"]

_ARGUMENT = re.compile(r"(?:(\w+)=)?((?:\\.|\[[0-9A-Fa-f:.]+(?:%\w+)?\]|[^:\\])*)(:|\Z)", re.DOTALL)


def socket_name(host: str, port: int) -> str:
    """
    Name an address and a port as people write them: ``192.0.2.7:50123``,
    ``[2001:db8::7]:50123``.

    :param host: an address.  An IPv4 address in an IPv6 socket is named as such.
    """
    if ":" not in host:
        return f"{host}:{port}"
    if host.startswith("::ffff:") and "." in host:
        return f"{host[7:]}:{port}"
    return f"[{host}]:{port}"


def split_description(text: str) -> tuple[list[str], dict[str, str]]:
    """
    Split the arguments of an endpoint string, as Twisted does: ``6667:key=/a.pem`` is
    ``6667``, and ``/a.pem`` for ``key``.

    A colon that belongs to an argument is preceded by a backslash, or is part of an
    IPv6 address in brackets.

    :raises ValueError: the string is invalid.
    """
    values: list[str] = []
    named: dict[str, str] = {}
    rest: str | None = text
    while rest is not None:
        argument = _ARGUMENT.match(rest)
        if argument is None:
            raise ValueError("it ends with a backslash")
        name, escaped, colon = argument.groups()
        value = re.sub(r"\\(.)", r"\1", escaped, flags=re.DOTALL)
        if name is None:
            values.append(value)
        elif name in named:
            raise ValueError(f"{name}= is given twice")
        else:
            named[name] = value
        rest = rest[argument.end() :] if colon else None
    return values, named
