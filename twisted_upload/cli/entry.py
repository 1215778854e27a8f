"""The entry point of ``twisted-upload``: catches signals before it imports anything slow."""

from __future__ import annotations

import sys

from twisted_upload.cli.interrupts import Interrupts
from twisted_upload.core.garbage import Importing

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, whose import is slow
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the whole command: exits, and never with a traceback."""
    interrupts = Interrupts()
    interrupts.catch()
    if sys.argv[1:2] == ["serve"]:
        with Importing():
            from twisted_upload.cli.serve import serve  # noqa: PLC0415 - slow to import

        serve(sys.argv[2:], interrupts)
    with Importing():
        from twisted_upload.cli.main import main as command  # noqa: PLC0415 - slow to import

    command(interrupts=interrupts)
