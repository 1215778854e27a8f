"""
The daemon of a proof.  Its log is long, because the load is heavy.
"""

from __future__ import annotations

import sys
from types import TracebackType

from tests.support.daemon import Daemon

__all__ = ["Servant"]


class Servant(Daemon):
    """The real daemon; if the proof is interrupted, the end of its log is shown."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            lines = self.log.read_text(errors="replace").splitlines()
            print("the end of the daemon's log:", *lines[-10:], sep="\n  ", file=sys.stderr)
        super().__exit__(None, None, None)
