"""
A connection, as its requests know it.
"""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from twisted_upload.frontends.connections import IConnection
from twisted_upload.frontends.frontend import Frontend
from twisted_upload.frontends.http.exchange import Client
from twisted_upload.frontends.http.messages import Response
from twisted_upload.frontends.http.settings import ActiveHTTPSettings, HTTPSettings

__all__ = ["IHTTPConnection"]

T_contra = TypeVar("T_contra", contravariant=True)


class IHTTPConnection(IConnection, Protocol[T_contra]):
    """What a transaction (of this type) needs of its connection."""

    transport: Any
    active: ActiveHTTPSettings
    connected: bool

    @property
    def frontend(self) -> Frontend[HTTPSettings]:
        """The front end that it belongs to."""

    @property
    def client(self) -> Client:
        """Who has sent the request."""

    @property
    def unread(self) -> int:
        """The number of bytes that have arrived after the head."""

    def take(self, most: int) -> bytes:
        """Return what has arrived after the head, at most so many bytes, and remove it."""

    def send_continue(self) -> None:
        """Send ``100 Continue``."""

    def wait_for_body(self) -> None:
        """Start to wait for the next bytes of the body."""

    def stop_waiting_for_body(self) -> None:
        """Wait for no more bytes of the body."""

    def pause_body(self) -> None:
        """Stop reading."""

    def resume_body(self) -> None:
        """Read on."""

    def respond(self, transaction: T_contra, response: Response, *, close: bool = False) -> None:
        """Send the response: the request has ended; with `close`, the connection as well."""

    def ended(self, transaction: T_contra) -> None:
        """Note that the request has ended, without a response."""

    def broke(self) -> None:
        """Handle an unexpected exception."""
