"""
Helpers for tests of ``--on-upload``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from twisted_upload.disk.files import Files
from twisted_upload.hooks.marker import Marker
from twisted_upload.hooks.spool import FAILED, HOOKS, WAITING, HookSpool
from twisted_upload.interfaces import NO_METADATA, Arrival, Metadata
from twisted_upload.stores.directory.commit_batch import commit_one
from twisted_upload.stores.directory.folder import Folder, open_folder
from twisted_upload.stores.directory.partial_file import PartialFile
from twisted_upload.stores.directory.stored_file import StoredFile

PEER = "192.0.2.7:50123"


def hooked_folder(
    path: Path, files: Files | None = None, queue: str = HOOKS, **more: Any
) -> Folder:
    """Open a drop folder with a queue."""
    return open_folder(
        str(path), files=files or Files(), suffix=lambda _: ".bin", queues=[queue], **more
    )


def queue_of(folder: Folder) -> HookSpool:
    """Return the queue of a drop folder."""
    (queue,) = folder.queues.values()
    return queue


def marked(
    folder: Folder,
    moment: tuple[int, int],
    *,
    digest: bool = False,
    metadata: Metadata = NO_METADATA,
) -> tuple[PartialFile, Marker]:
    """Return an upload with its marker, neither written yet."""
    arrival = Arrival(PEER, listener="front", metadata=metadata)
    marker = queue_of(folder).marker(moment, arrival, moment[0] / 1000 + 0.0005)
    return PartialFile(folder, moment, digest=digest, marks=[(queue_of(folder), marker)]), marker


def store_marked(
    folder: Folder,
    moment: tuple[int, int],
    content: bytes,
    metadata: Metadata = NO_METADATA,
) -> tuple[StoredFile, Marker]:
    """Store a file with its marker, without telling a runner."""
    part, marker = marked(folder, moment, metadata=metadata)
    stored = commit_one(folder, part, [content])
    marker.stored_as(stored.name)
    return stored, marker


def waiting(path: Path, queue: str = HOOKS) -> list[str]:
    """Return the names in ``waiting/``, in order."""
    return sorted(os.listdir(path / queue / WAITING))


def failed(path: Path, queue: str = HOOKS) -> list[str]:
    """Return the names in ``failed/``, in order."""
    return sorted(os.listdir(path / queue / FAILED))


def lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a marker."""
    return [json.loads(line) for line in path.read_text().splitlines()]
