"""
The kinds of failed handshakes, as a server sees them.
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
"""All kinds, each with its wording in the log."""

_HANDSHAKE = b"\x16"  # the first byte of a ClientHello's record (RFC 8446, section 5.1)


class HandshakeFailed(Exception):
    """
    A handshake with a client failed.

    :ivar kind: one of `FAILURES`.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def failure_of(error: BaseException | None, opening: bytes) -> str | None:
    """
    Return the kind of a failure.

    :param error: what ended the handshake; `None` if the client did.
    :param opening: the first bytes that arrived.
    :return: `None` for a client that only checked whether there is a server.
    """
    if opening and not opening.startswith(_HANDSHAKE):
        return NO_TLS
    if isinstance(error, UploadTimedOut):
        return TIMEOUT
    if isinstance(error, HandshakeFailed):
        return error.kind
    return GONE if opening else None


def rejects_certificate(error: Exception) -> bool:
    """Return whether a client reports with this error that it rejects our certificate."""
    return isinstance(error, ssl.SSLError) and getattr(error, "reason", None) in _REJECTED


# RFC 8446, section 6.2: the alerts that concern a certificate, as OpenSSL names those it
# has received.  The alert for a certificate with another name is bad_certificate.
_REJECTED = {
    f"{version}_ALERT_{alert}"
    for version in ("SSLV3", "TLSV1", "TLSV13")
    for alert in (
        *("BAD_CERTIFICATE", "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_REVOKED"),
        *("CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN", "UNKNOWN_CA"),
    )
} | {"TLSV1_CERTIFICATE_UNOBTAINABLE", "TLSV1_BAD_CERTIFICATE_STATUS_RESPONSE"}
