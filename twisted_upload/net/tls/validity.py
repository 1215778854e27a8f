"""
From when until when a certificate is good.

Python's `ssl` tells that of a peer's certificate, and not of our own: it is read
from the encoding here (RFC 5280, section 4.1; DER: X.690).
"""

from __future__ import annotations

import datetime as dt
import re
import ssl
from typing import NamedTuple

__all__ = ["Validity", "validities"]

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)

_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


class Validity(NamedTuple):
    """
    :ivar begins: seconds since the epoch.
    :ivar ends: the same.
    """

    begins: float
    ends: float


def validities(pem: bytes) -> list[Validity]:
    """
    Of all certificates in there, in their order.

    :raises ValueError: one of them is not encoded as it has to be.
    """
    found = []
    for text in _CERTIFICATE.findall(pem):
        try:
            found.append(_validity(ssl.PEM_cert_to_DER_cert(text.decode("ascii"))))
        except (ValueError, IndexError) as error:
            raise ValueError("the dates of a certificate cannot be read") from error
    return found


def _validity(der: bytes) -> Validity:
    signed, _, _ = _content(der, 0, _SEQUENCE)
    place, _, _ = _content(der, signed, _SEQUENCE)
    if der[place] == _VERSION:
        _, place, _ = _content(der, place)
    for _ in ("serial number", "signature algorithm", "issuer"):
        _, place, _ = _content(der, place)
    begins, _, _ = _content(der, place, _SEQUENCE)
    _, ends, _ = _content(der, begins)
    return Validity(_time(der, begins), _time(der, ends))


def _content(der: bytes, place: int, expected: int | None = None) -> tuple[int, int, int]:
    """Where the content of what is encoded there begins and ends, and its kind."""
    kind, length, place = der[place], der[place + 1], place + 2
    if expected is not None and kind != expected:
        raise ValueError(f"{kind:#x} where {expected:#x} belongs")
    if length & 0x80:
        size = length & 0x7F
        length, place = int.from_bytes(der[place : place + size], "big"), place + size
    return place, place + length, kind


def _time(der: bytes, place: int) -> float:
    begin, end, kind = _content(der, place)
    text = der[begin:end].decode("ascii")
    if kind == _UTC_TIME:  # of two digits of a year, 50 and more are of the last century
        text = ("19" if text >= "50" else "20") + text
    elif kind != _GENERALIZED_TIME:
        raise ValueError(f"{kind:#x} is no time")
    if not text.endswith("Z"):
        raise ValueError(f"{text!r} is not in UTC")
    return dt.datetime.strptime(text[:-1] + "+0000", "%Y%m%d%H%M%S%z").timestamp()
