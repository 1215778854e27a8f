"""
Where ``twisted-upload`` begins: with signals, before anything that takes long.
"""

from __future__ import annotations

import sys

from twisted_upload.cli.interrupts import Interrupts
from twisted_upload.core.garbage import Importing

TYPE_CHECKING = False  # as in typing, whose import takes long
if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """The whole command: exits, and never with a traceback."""
    interrupts = Interrupts()
    interrupts.catch()
    if sys.argv[1:2] == ["serve"]:
        with Importing():
            from twisted_upload.cli.serve import serve  # noqa: PLC0415 - it takes long

        serve(sys.argv[2:], interrupts)
    with Importing():
        from twisted_upload.cli.main import main as command  # noqa: PLC0415 - it takes long

    command(interrupts=interrupts)
