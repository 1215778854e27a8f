"""
The secret that a request carries: ``Authorization`` (RFC 6750, RFC 7617).

``Bearer`` for programs; ``Basic`` with the secret as the password, and any user name, for
browsers without JavaScript and ``curl -u``.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping

__all__ = ["challenges", "secret_of"]

_REALM = "uploads"
_SCHEME = re.compile(r"([A-Za-z]+) +([A-Za-z0-9._~+/-]+=*)\Z")


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
    user for a password, although the script has just been told what is wrong.

    :param fields: of the request.
    """
    bearer = ("WWW-Authenticate", f'Bearer realm="{_REALM}"')
    if fields.get("sec-fetch-dest", "").lower() == "empty":
        return (bearer,)
    return (bearer, ("WWW-Authenticate", f'Basic realm="{_REALM}", charset="UTF-8"'))
