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

    def logged_errors(self) -> list[str]:
        """Return what must not be in the log, or on standard error."""
        log = self.log.read_text(encoding="utf-8", errors="replace")
        wrong = [
            f"{word} in the log: {log[log.index(word) :][:2000]}"
            for word in ("Traceback", "Unhandled", "CRITICAL", "internal error")
            if word in log
        ]
        if errors := self.errors.read_text():
            wrong.append(f"on standard error: {errors[:2000]}")
        return wrong
