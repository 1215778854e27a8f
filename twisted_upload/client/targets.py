"""
Where to send: what people write, parsed.

This module needs neither Twisted nor a network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from twisted_upload.net.endpoint_text import socket_name, split_description

__all__ = [
    "DEFAULT_PORT",
    "DEFAULT_TLS_PORT",
    "Scheme",
    "Target",
    "is_token",
    "parse_target",
]

DEFAULT_PORT = 6666
"""Port of the raw protocol."""

DEFAULT_TLS_PORT = 6667
"""Port of ``tls://HOST``."""

Scheme = Literal["raw", "tls", "unix", "http", "https", "endpoint"]

_FORMS = (
    "HOST, HOST:PORT, [IPV6]:PORT, tls://HOST, unix:PATH, http://HOST/, https://HOST/,"
    " or a client endpoint such as tls:HOST:PORT"
)
_PORTS = {"tcp": DEFAULT_PORT, "tls": DEFAULT_TLS_PORT, "http": 80, "https": 443}
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)\Z", re.DOTALL)
_BRACKETED = re.compile(r"\[([^\[\]]*)\](?::(.*))?\Z")
_HOST = re.compile(r"[^\s/\\@\[\]?#%:]+\Z")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@%-]*)*\Z")
_ENDPOINT = re.compile(r"[A-Za-z][A-Za-z0-9_]*:")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,4096}=*\Z")  # RFC 6750, section 2.1
_CREATION = "files/"  # the last segment of the creation URL of tus


@dataclass(frozen=True, slots=True)
class Target:
    """
    A server, not yet resolved.

    :ivar text: as it was given, without its secret.
    :ivar scheme: ``raw`` (TCP), ``tls`` (raw over TLS), ``unix`` (raw over a unix socket),
        ``http``, ``https``, or ``endpoint``: another client endpoint string of Twisted,
        which is in ``text``, and which only Twisted understands.
    :ivar host: a name or an address, without brackets; empty for the schemes ``unix`` and
        ``endpoint``.
    :ivar port: its TCP port; 0 for these.
    :ivar path: of the unix socket, or the base path of the URL, which begins and ends with
        ``/``.
    :ivar token: the invitation in the link; not in the representation.
    :ivar cacert: path of the certificates to trust, if the text has one.
    :ivar timeout: seconds within which the connection must be made, if the text has that.
    """

    text: str
    scheme: Scheme
    host: str = ""
    port: int = 0
    path: str = ""
    token: str | None = field(default=None, repr=False)
    cacert: str | None = None
    timeout: float | None = None

    def __str__(self) -> str:
        """Return it as it was given, without its secret."""
        return self.text

    @property
    def is_http(self) -> bool:
        """Whether it is reached by HTTP."""
        return self.scheme in ("http", "https")

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme in ("tls", "https")

    @property
    def address(self) -> str:
        """Return host and port as people write them, or the path of the unix socket."""
        return socket_name(self.host, self.port) if self.host else self.path or self.text

    @property
    def authority(self) -> str:
        """Return the ``Host`` field of HTTP: RFC 9110, section 7.2."""
        host = self.host.partition("%")[0]
        if not host.isascii():
            host = host.encode("idna").decode("ascii")
        name = f"[{host}]" if ":" in host else host
        return name if self.port == _PORTS.get(self.scheme) else f"{name}:{self.port}"

    @property
    def key(self) -> str:
        """Return a text that two targets share if, and only if, they are the same server."""
        return f"{self.scheme}://{self.address.lower()}{self.path if self.is_http else ''}"


def parse_target(text: str) -> Target:
    """
    Parse where to send.

    - ``HOST``, ``HOST:PORT``, ``::1``, ``[::1]:6666``, ``tcp://HOST``, ``tcp:HOST:PORT``:
      raw TCP, at port 6666 unless one is given.
    - ``tls://HOST``, ``tls:HOST:PORT``, ``tls:HOST:PORT:cacert=FILE``: the same over TLS, at
      port 6667 unless one is given.
    - ``unix:PATH``: the same over a unix socket.
    - ``http://HOST/``, ``https://HOST:PORT/BASE/``: HTTP.  The creation URL of tus
      (``http://HOST/files/``) stands for the server that it belongs to.
    - The link of an invitation: ``https://HOST/#token=inv_...``.
    - Any other client endpoint string of Twisted, as ``KIND:ARGUMENTS``.

    :raises ValueError: it is none of these; the message is one line, says what is
        accepted, and does not contain an invitation.
    """
    shown = text.partition("#")[0]
    if not shown.isprintable() or not shown.strip():
        raise ValueError(_not_understood(shown))
    url = _SCHEME.match(text)
    if url is not None:
        return _url(text, url[1].lower(), url[2])
    if "#" in text:
        raise ValueError(_not_understood(shown))
    if text.startswith("[") or _is_ipv6(text):
        return _host_and_port(text, "raw", text, DEFAULT_PORT)
    host, colon, rest = text.partition(":")
    if host == "ssl" and colon:
        raise ValueError("ssl: is not supported; use tls:HOST:PORT")
    if host in ("tcp", "tls", "unix") and rest:
        return _description(text, host, rest)
    if ":" in rest and _ENDPOINT.match(text):
        return Target(text, "endpoint")
    return _host_and_port(text, "raw", text, DEFAULT_PORT)


def is_token(text: str) -> bool:
    """Return whether this can be sent as a token or an invitation."""
    return _TOKEN.match(text) is not None


def _url(text: str, scheme: str, rest: str) -> Target:
    whole, marker, fragment = rest.partition("#")
    shown = text.partition("#")[0]
    authority, slash, path = whole.partition("/")
    path = slash + path
    if scheme not in _PORTS:
        raise ValueError(_not_understood(shown))
    if scheme in ("tcp", "tls"):
        if marker or path not in ("", "/"):
            raise ValueError(f"{shown!r} must end after the port: {scheme}://HOST:PORT")
        kind: Scheme = "tls" if scheme == "tls" else "raw"
        return _host_and_port(text, kind, authority, _PORTS[scheme])
    if "@" in authority:
        raise ValueError("a URL must not contain a user name or a password; give a token instead")
    if "?" in whole or not _PATH.match(path):
        raise ValueError(f"{shown!r} is not a URL of a server, such as http://HOST:PORT/")
    path = path if path.endswith("/") else f"{path}/"
    if path.endswith(f"/{_CREATION}"):
        path = path.removesuffix(_CREATION)
    token = fragment.removeprefix("token=")
    if fragment and not is_token(token):
        raise ValueError(f"what follows {shown}# is not an invitation: the form is #token=inv_...")
    where: Scheme = "https" if scheme == "https" else "http"
    return _host_and_port(shown, where, authority, _PORTS[scheme], path=path, token=token or None)


def _host_and_port(
    text: str,
    scheme: Scheme,
    authority: str,
    port: int,
    *,
    path: str = "",
    token: str | None = None,
) -> Target:
    bracketed = _BRACKETED.match(authority)
    if bracketed is not None:
        host, given = bracketed.groups()
        if not _is_ipv6(host):
            raise ValueError(f"{host!r} is not an IPv6 address")
    elif _is_ipv6(authority) and path == "":
        host, given = authority, None
    else:
        host, colon, rest = authority.partition(":")
        given = rest if colon else None
        if not _HOST.match(host):
            raise ValueError(_not_understood(text))
    target = Target(text, scheme, host, port if given is None else _port(given), path, token)
    if scheme in ("http", "https"):
        _check_authority(target)
    return target


def _check_authority(target: Target) -> None:
    try:
        target.authority  # noqa: B018 - raises UnicodeError, which is a ValueError
    except UnicodeError:
        raise ValueError(f"{target.host!r} is not a valid server name") from None


def _description(text: str, kind: str, arguments: str) -> Target:
    """Parse a client endpoint string of a kind that needs no Twisted."""
    form = "unix:PATH" if kind == "unix" else f"{kind}:HOST:PORT"
    if kind == "tls":
        form += "[:cacert=FILE]"
    try:
        values, named = split_description(arguments)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a client endpoint: {error}") from None
    names = ["path"] if kind == "unix" else ["host", "port"]
    given = dict(zip(names, values, strict=False))
    rest = {**named}
    for name in names:
        if name in rest and name not in given:
            given[name] = rest.pop(name)
    timeout, cacert = rest.pop("timeout", None), None
    if kind == "tls":
        cacert = rest.pop("cacert", None)
    elif {*rest} - {"timeout"} and len(values) <= len(names) and given.keys() == {*names}:
        return Target(text, "endpoint")  # with arguments that only Twisted knows
    if rest or len(values) > len(names) or not all(given.get(name) for name in names):
        raise ValueError(f"{text!r} is not a client endpoint: the form is {form}")
    seconds = None if timeout is None else _seconds(text, timeout)
    if kind == "unix":
        return Target(text, "unix", path=given["path"], timeout=seconds)
    scheme: Scheme = "tls" if kind == "tls" else "raw"
    host, port = given["host"].strip("[]"), _port(given["port"])
    return Target(text, scheme, host, port, cacert=cacert, timeout=seconds)


def _seconds(text: str, timeout: str) -> float:
    if not (timeout.isascii() and timeout.isdigit() and len(timeout) < 10):
        raise ValueError(f"{text!r} is not a client endpoint: timeout= must be in seconds")
    return float(timeout)


def _is_ipv6(text: str) -> bool:
    """Return whether it is an IPv6 address, which may have a zone (``fe80::1%eth0``)."""
    if text.count(":") < 2:
        return False
    from socket import AF_INET6, inet_pton  # noqa: PLC0415 - slow to import

    try:
        inet_pton(AF_INET6, text.partition("%")[0])
    except (OSError, ValueError):
        return False
    return True


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10) or not 1 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is not a port number from 1 to 65535")
    return int(text)


def _not_understood(text: str) -> str:
    return f"{text!r} is not {_FORMS}"
