"""
Drop folders of directory stores, and what daemons leave in them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted_upload.disk.files import Files
from twisted_upload.disk.testing import FaultyFiles
from twisted_upload.stores.directory.folder import Folder, open_folder

LEFTOVER = "upload-0123456789ab-0"


def open_drop_folder(path: Path, files: Files | None = None, **more: Any) -> Folder:
    return open_folder(str(path), files=files or FaultyFiles(), suffix=lambda _: ".bin", **more)


def leave_unlocked(folder: Folder) -> str:
    """Leave a file that a daemon has closed, and not published yet; return its name."""
    name = folder.temporary()
    with open(os.open(name, os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=folder.incoming), "wb") as file:
        file.write(b"whole, and about to be published")
    return name
