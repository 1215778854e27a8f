"""
Origins, as web browsers send them: where a page comes from (RFC 6454).
"""

from __future__ import annotations

import re

__all__ = ["normal_origin", "parse_origin"]

_ORIGIN = re.compile(
    r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?)(?::([0-9]{1,5}))?\Z"
)
_PORTS = {"http": "80", "https": "443"}


def parse_origin(text: str) -> str:
    """
    Parse an origin as browsers send it: ``https://app.example``.

    :return: in lower case, without the default port of its scheme.
    :raises ValueError: it is not one; the text says what is expected.
    """
    origin = normal_origin(text.lower())
    if origin is None:
        raise ValueError(f"{text!r} is not an origin such as https://app.example, without a path")
    return origin


def normal_origin(text: str) -> str | None:
    """
    Return an origin without the default port of its scheme; `None` if it is none.

    :param text: in lower case.
    """
    found = _ORIGIN.match(text)
    if found is None:
        return None
    scheme, host, port = found.groups()
    return f"{scheme}://{host}" if port in {None, _PORTS[scheme]} else f"{scheme}://{host}:{port}"
