"""A source that is made while it is read, and whose size is known before."""

from __future__ import annotations

import io

__all__ = ["SizedSource"]


class SizedSource(io.RawIOBase):
    """
    Something to send that is not one file, and can be read again from any offset.

    It is read in a thread, so reading may wait.  If what it is made of changes, or can no
    longer be read, reading raises `SourceFailed`: it gives the same bytes, or none.

    :ivar size: its length in bytes.
    """

    size: int

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return true."""
        return True
