"""
What can happen to the body of a request on its way into a partial upload.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import IAppend, PartialUpload

__all__ = ["Body"]


class Body(Protocol):
    """What can happen to the body and its bytes: facts, in the past tense."""

    def opened(self, append: IAppend) -> None:
        """The store takes bytes from us."""

    def received(self, data: bytes) -> None:
        """The next bytes arrived."""

    def spliced(self, size: int) -> None:
        """The store took the next bytes from the socket."""

    def ended(self, trailers: Mapping[str, str]) -> None:
        """The body is complete."""

    def broke_off(self) -> None:
        """The connection broke before the end of the body."""

    def left(self) -> None:
        """The client disconnected after the end of the body."""

    def refused(self, error: UploadRefused) -> None:
        """The request is refused, by the front end or by this module."""

    def failed(self, refusal: UploadRefused) -> None:
        """The store cannot take what is written."""

    def asked_to_end(self) -> None:
        """Another request wants to be the writer, or to know the state."""

    def settled(self, partial: PartialUpload) -> None:
        """The store has committed or discarded what was written."""

    def not_settled(self, refusal: UploadRefused) -> None:
        """The store has failed to."""
