"""
The secret that a request carries, ``Authorization`` (RFC 6750, RFC 7617), and what a
listener accepts.

``Bearer`` for programs; ``Basic`` with the secret as the password, and any user name, for
browsers without JavaScript and ``curl -u``.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass

from twisted_upload.core.text import counted
from twisted_upload.frontends.http.invitations import InvitationKeys
from twisted_upload.frontends.http.tokens import TokenTable

__all__ = ["Credentials", "challenges", "secret_of"]

_REALM = "uploads"
_SCHEME = re.compile(r"([A-Za-z]+) +([A-Za-z0-9._~+/-]+=*)\Z")


@dataclass(frozen=True, slots=True)
class Credentials:
    """
    What a listener asks for; it is open to all if there is neither.

    :ivar tokens: those that are valid.
    :ivar keys: those that invitations are signed with.
    """

    tokens: TokenTable | None = None
    keys: InvitationKeys | None = None

    def __bool__(self) -> bool:
        """Return whether it asks for anything."""
        return self.tokens is not None or self.keys is not None

    def __str__(self) -> str:
        """Return what is asked for, for the operator."""
        kinds = [] if self.tokens is None else [counted(len(self.tokens), "token")]
        if self.keys is not None:
            kinds.append("invitations")
        return f"asks for {' or '.join(kinds)}" if kinds else "open to all"


def secret_of(fields: Mapping[str, str]) -> str | None:
    """
    Return the secret of a request; `None` if it has none.

    :param fields: by lower-case name.
    :return: an empty text if there is a field that cannot be understood.
    """
    value = fields.get("authorization")
    if value is None:
        return None
    found = _SCHEME.match(value.strip())
    if found is None:
        return ""
    scheme, credentials = found[1].lower(), found[2]
    if scheme == "bearer":
        return credentials
    return _password(credentials) if scheme == "basic" else ""


def _password(credentials: str) -> str:
    try:
        text = b64decode(credentials, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""
    return text.partition(":")[2]


def challenges(fields: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """
    Return the fields of a 401 response.

    A script of a page is offered ``Bearer`` alone: for ``Basic``, a browser would ask the
    user for a password, although the script has just been told what is wrong.  It is known
    by ``Sec-Fetch-Dest`` or, over plain HTTP, where browsers do not send that, by speaking
    tus.

    :param fields: of the request.
    """
    bearer = ("WWW-Authenticate", f'Bearer realm="{_REALM}"')
    if fields.get("sec-fetch-dest", "").lower() == "empty" or "tus-resumable" in fields:
        return (bearer,)
    return (bearer, ("WWW-Authenticate", f'Basic realm="{_REALM}", charset="UTF-8"'))
