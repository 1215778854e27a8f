"""
A time of day that is stepped, for a daemon in a separate process.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_SITE = """
import mmap, struct, time

with open({path!r}, "rb") as file:
    _offset = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
_real = time.time


def _stepping():
    return _real() + struct.unpack("d", _offset)[0]


time.time = _stepping
"""


class SteppingClock:
    """
    Steps the time of day of processes that run with its environment, as ``date -s``
    does for a machine.

    Before anything else is imported, `time.time` is replaced in them: it returns the
    real time plus an offset that they share.

    :param folder: an empty folder, or one that does not exist.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        path = folder / "offset"
        path.write_bytes(bytes(8))
        (folder / "sitecustomize.py").write_text(_SITE.format(path=str(path)))
        with path.open("r+b") as file:
            self._offset = mmap.mmap(file.fileno(), 8)
        self.environment = {"PYTHONPATH": str(folder)}

    def step(self, seconds: float) -> None:
        """Step the time forward, or back."""
        (now,) = struct.unpack("d", self._offset)
        self._offset[:] = struct.pack("d", now + seconds)
