"""
What this front end has to know of a partial upload, besides what every front end has to:
the store keeps it as a text (`PartialTerms.note`).
"""

from __future__ import annotations

import json
from typing import NamedTuple

from twisted_upload.errors import BadRequest

__all__ = ["Note"]

_LONGEST = 32 * 1024


class Note(NamedTuple):
    """
    :ivar created: seconds since the epoch.
    :ivar metadata: ``Upload-Metadata`` as it was received.
    :ivar concatenation: ``Upload-Concat`` as it was received.
    """

    created: float = 0.0
    metadata: str = ""
    concatenation: str = ""

    @property
    def is_final(self) -> bool:
        """Whether the upload consists of parts."""
        return self.concatenation.startswith("final")

    def to_text(self) -> str:
        """
        Return it as a text.

        :raises BadRequest: it is too long for a store.
        """
        text = json.dumps(self)
        if len(text) > _LONGEST:
            raise BadRequest("Upload-Metadata and Upload-Concat are too long")
        return text

    @classmethod
    def from_text(cls, text: str) -> Note:
        """Return what `to_text` has written; what is known of it if another version has."""
        try:
            created, metadata, concatenation = json.loads(text)
            return cls(float(created), str(metadata), str(concatenation))
        except (ValueError, TypeError):
            return cls()
