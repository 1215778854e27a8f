"""
The kinds of handshakes that come to nothing, as a server sees them.
"""

from __future__ import annotations

import ssl

from twisted_upload.errors import UploadTimedOut

__all__ = [
    "CERTIFICATE",
    "FAILURES",
    "GONE",
    "NO_TLS",
    "PROTOCOL",
    "TIMEOUT",
    "HandshakeFailed",
    "failure_of",
    "rejects_certificate",
]

NO_TLS = "no-tls"
CERTIFICATE = "certificate-rejected"
TIMEOUT = "timeout"
PROTOCOL = "protocol"
GONE = "gone"

FAILURES = {
    NO_TLS: "without TLS",
    CERTIFICATE: "certificate rejected",
    TIMEOUT: "TLS handshake timeout",
    PROTOCOL: "TLS handshake failed",
    GONE: "TLS handshake cut off",
}
"""All kinds, each with what a line of the log calls it."""

_HANDSHAKE = b"\x16"  # the first byte of a ClientHello's record (RFC 8446, section 5.1)


class HandshakeFailed(Exception):
    """
    A client and this server did not come together.

    :ivar kind: one of `FAILURES`.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def failure_of(error: BaseException | None, opening: bytes) -> str | None:
    """
    What kind of failure it is.

    :param error: what has ended the handshake; `None` for the client itself.
    :param opening: the first bytes that came.
    :return: `None` for somebody who has only looked whether there is a server.
    """
    if opening and not opening.startswith(_HANDSHAKE):
        return NO_TLS
    if isinstance(error, UploadTimedOut):
        return TIMEOUT
    if isinstance(error, HandshakeFailed):
        return error.kind
    return GONE if opening else None


def rejects_certificate(error: Exception) -> bool:
    """Whether a client says with it that it does not want our certificate."""
    return isinstance(error, ssl.SSLError) and getattr(error, "reason", None) in _REJECTED


# RFC 8446, section 6.2, as OpenSSL names what it has received: the alerts that are
# about a certificate.  One for another name is a bad_certificate.
_REJECTED = {
    f"{version}_ALERT_{alert}"
    for version in ("SSLV3", "TLSV1", "TLSV13")
    for alert in (
        *("BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_REVOKED"),
        *("CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN", "UNKNOWN_CA"),
    )
} | {"TLSV1_CERTIFICATE_UNOBTAINABLE", "TLSV1_BAD_CERTIFICATE_STATUS_RESPONSE"}
