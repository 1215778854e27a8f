"""
Who may upload: what a request is allowed to do.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted_upload.frontends.http.exchange import IExchange

__all__ = ["OPEN", "Grant", "open_to_all"]


@dataclass(frozen=True, slots=True)
class Grant:
    """
    What a request may do, and on whose behalf.

    A handler passes the owner to the store (`Arrival.owner`, `PartialTerms.owner`), and
    the label with the metadata; it limits uploads by `limit`.  The number of uploads is
    not the handler's business: the store counts those of an owner.

    :ivar owner: whom its uploads belong to, for programs to compare: ``token:NAME`` or
        ``invitation:NONCE``; empty if the listener is open to all.
    :ivar label: the same, for people; empty if there is none.
    :ivar max_size: maximum size of one upload in bytes; 0 for none but the listener's.
    :ivar uploads_left: how many more uploads it allows, when the request arrived; `None`
        if there is no limit.
    :ivar expires: when it ends: seconds since the epoch; `None` if it does not.
    """

    owner: str = ""
    label: str = ""
    max_size: int = 0
    uploads_left: int | None = None
    expires: float | None = None

    def limit(self, max_size: int) -> int:
        """
        Return the maximum size of one upload in bytes; 0 for no limit.

        :param max_size: that of the listener; 0 for no limit.
        """
        return min(self.max_size or max_size, max_size or self.max_size)


OPEN = Grant()
"""The grant of a listener that is open to all."""


def open_to_all(exchange: IExchange) -> Grant:
    """Grant every request everything that the listener allows."""
    return OPEN
