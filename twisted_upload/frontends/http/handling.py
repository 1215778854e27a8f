"""
A front end with a handler, as its connections know it.
"""

from __future__ import annotations

from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.http.encoding import Dates
from twisted_upload.frontends.http.exchange import Handler
from twisted_upload.frontends.http.settings import HTTPSettings

__all__ = ["HandlingFrontend"]


class HandlingFrontend(Frontend[HTTPSettings]):
    """
    See `twisted_upload.frontends.http.factory.HTTPFactory`.

    :ivar handler: handles the requests.
    :ivar dates: makes the field ``Date`` of responses.
    """

    handler: Handler
    dates: Dates
