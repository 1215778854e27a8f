"""
Certificates: what a server presents, how long it is valid, and which ones a client
trusts.

Python's `ssl` tells the dates of a peer's certificate, but not of our own: they are
read from the encoding here (RFC 5280, section 4.1; DER: X.690).
"""

from __future__ import annotations

import datetime as dt
import os
import re
import ssl
from typing import NamedTuple

__all__ = [
    "Identity",
    "Validity",
    "handshake_failure",
    "validities",
    "verifiable_name",
    "verifying_context",
]

_LONGEST = 1024 * 1024
_KEY = re.compile(
    rb"-----BEGIN ((?:[A-Z]+ )*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL
)  # RFC 7468
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_CERTIFICATES = re.compile(_CERTIFICATE + rb".*?-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18


class Validity(NamedTuple):
    """
    :ivar begins: seconds since the epoch.
    :ivar ends: seconds since the epoch.
    """

    begins: float
    ends: float


def validities(pem: bytes) -> list[Validity]:
    """
    Return the validity of each certificate, in order.

    :raises ValueError: one of them is not encoded correctly.
    """
    found = []
    for text in _CERTIFICATES.findall(pem):
        try:
            found.append(_validity(ssl.PEM_cert_to_DER_cert(text.decode("ascii"))))
        except (ValueError, IndexError) as error:
            raise ValueError("the dates of a certificate cannot be read") from error
    return found


class Identity:
    """
    A server's certificate chain and its private key.

    :param pem: both, the key first, in PEM.  Held in memory, because a process that has dropped
        its privileges may not be able to read the files again.
    :param name: of the certificate, for people: the path of its file.
    :ivar context: for connections to that server, with TLS 1.2 or newer.
    :ivar validity: of the certificate.
    :ivar chain_ends: when the first certificate of the chain expires, in seconds since
        the epoch.
    :raises ssl.SSLError: they cannot be used.
    :raises ValueError: the key needs a password.
    """

    def __init__(self, pem: bytes, name: str = "") -> None:
        self.pem = pem
        self.name = name
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _only_what_is_safe(self.context)
        # A ticket could arrive after the sender's last read, and make the kernel reset
        # the connection when the sender closes it; and no upload needs one.
        self.context.num_tickets = 0
        self.context.options |= ssl.OP_NO_TICKET
        # Python's ssl accepts only a path.
        memory = self.in_memory()
        try:
            self.context.load_cert_chain(f"/proc/self/fd/{memory}", password=_no_password)
        finally:
            os.close(memory)
        chain = validities(pem)
        if not chain:
            raise ValueError("it contains no PEM certificate")
        self.validity = chain[0]
        self.chain_ends = min(each.ends for each in chain)

    def in_memory(self) -> int:
        """
        Open a new in-memory file with the PEM, which the caller has to close; it is not
        on disk.

        :raises OSError: there are too many open files, or there is no memory.
        """
        memory = os.memfd_create("certificate")
        try:
            os.write(memory, self.pem)
            os.lseek(memory, 0, os.SEEK_SET)
        except OSError:
            os.close(memory)
            raise
        return memory

    @classmethod
    def from_files(cls, key: str, certificate: str) -> Identity:
        """
        Read an identity from files.

        :param key: path of the private key, which must not need a password.
        :param certificate: path of the certificate, with those of the CAs between it
            and the root.
        :raises ValueError: with a one-line message that names the file.
        """
        found = _KEY.search(_content(key))
        if found is None:
            raise ValueError(f"{key}: it contains no PEM private key")
        chain = _content(certificate)
        if _CERTIFICATE not in chain:
            raise ValueError(f"{certificate}: it contains no PEM certificate")
        try:
            return cls(found[0] + b"\n" + chain, certificate)
        except ssl.SSLError as error:
            if error.reason == "KEY_VALUES_MISMATCH":
                text = f"{key} is not the key of {certificate}"
            else:
                text = f"{certificate} with {key} cannot be used: {error.reason or 'not in PEM'}"
            raise ValueError(text) from error
        except ValueError as error:
            raise ValueError(f"{certificate} with {key}: {error}") from error


def verifying_context(cacert: str | None = None) -> ssl.SSLContext:
    """
    Make a context for a client that verifies the certificate and name of every server,
    with TLS 1.2 or newer.

    :param cacert: path of the PEM certificates to trust instead of the system's: those
        of CAs, or of servers.
    :raises ValueError: with a one-line message that names the file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    _only_what_is_safe(context)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False  # RFC 9525, section 2: subjectAltName only
    if cacert is None:
        context.load_default_certs()
        return context
    content = _content(cacert)
    try:
        if _CERTIFICATE not in content:
            raise ValueError
        context.load_verify_locations(cadata=content.decode("ascii", "ignore"))
    except (ssl.SSLError, ValueError) as error:
        raise ValueError(f"{cacert}: it contains no PEM certificate") from error
    return context


def verifiable_name(host: str) -> str:
    """
    Return the name that a server's certificate must have.

    :raises ValueError: no certificate can have such a name.
    """
    name = host.partition("%")[0].rstrip(".")  # without the zone of fe80::1%eth0
    try:
        without_trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        without_trust.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname=name)
    except (ValueError, TypeError) as error:  # TypeError is for null bytes
        raise ValueError(f"{host!r} is not a valid server name") from error
    return name


def handshake_failure(error: ssl.SSLError) -> str:
    """Explain why a client's handshake with a server failed, in one line for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _OTHER_NAME:
            message = error.verify_message.rstrip(".")
            return (
                f"the server's certificate is for another name: {message};"
                " only names in its subjectAltName count"
            )
        text = f"the server's certificate is not trusted: {error.verify_message}"
        if error.verify_code in _UNKNOWN:
            text += "; if it is genuine, trust it or its CA with --cacert FILE"
        return text
    if error.reason in _NO_TLS:
        return f"the server does not speak TLS on this port ({error.reason}); try without TLS"
    return f"cannot establish TLS with this server: {error.reason or 'the handshake failed'}"


# openssl-verification-options(1): X509_V_ERR_HOSTNAME_MISMATCH, _IP_ADDRESS_MISMATCH
_OTHER_NAME = (62, 64)
# ..._UNABLE_TO_GET_ISSUER_CERT, DEPTH_ZERO_SELF_SIGNED_CERT,
# SELF_SIGNED_CERT_IN_CHAIN, UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
# UNABLE_TO_VERIFY_LEAF_SIGNATURE
_UNKNOWN = (2, 18, 19, 20, 21)
_NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST")


def _only_what_is_safe(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # If Python sets it, a truncated connection looks like one that was closed properly.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)


def _content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_LONGEST)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {getattr(error, 'strerror', None) or error}") from error


def _no_password() -> str:
    raise ValueError(
        "the private key needs a password, which the daemon cannot ask for; decrypt it"
    )


def _validity(der: bytes) -> Validity:
    signed, _, _ = _der_content(der, 0, _SEQUENCE)
    position, _, _ = _der_content(der, signed, _SEQUENCE)
    if der[position] == _VERSION:
        _, position, _ = _der_content(der, position)
    for _ in ("serial number", "signature algorithm", "issuer"):
        _, position, _ = _der_content(der, position)
    begins, _, _ = _der_content(der, position, _SEQUENCE)
    _, ends, _ = _der_content(der, begins)
    return Validity(_der_time(der, begins), _der_time(der, ends))


def _der_content(der: bytes, position: int, expected: int | None = None) -> tuple[int, int, int]:
    """Return where the content of the element at this position begins and ends, and its tag."""
    kind, length, position = der[position], der[position + 1], position + 2
    if expected is not None and kind != expected:
        raise ValueError(f"{kind:#x} instead of {expected:#x}")
    if length & 0x80:
        size = length & 0x7F
        length, position = int.from_bytes(der[position : position + size], "big"), position + size
    return position, position + length, kind


def _der_time(der: bytes, position: int) -> float:
    begin, end, kind = _der_content(der, position)
    text = der[begin:end].decode("ascii")
    if kind == _UTC_TIME:  # two-digit years from 50 on are in the 20th century
        text = ("19" if text >= "50" else "20") + text
    elif kind != _GENERALIZED_TIME:
        raise ValueError(f"{kind:#x} is not a time")
    if not text.endswith("Z"):
        raise ValueError(f"{text!r} is not in UTC")
    return dt.datetime.strptime(text[:-1] + "+0000", "%Y%m%d%H%M%S%z").timestamp()
