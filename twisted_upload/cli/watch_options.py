"""The options of ``twisted-upload watch``, parsed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from twisted_upload.cli.patterns import Patterns
from twisted_upload.client.resume_state import default_folder
from twisted_upload.client.targets import Target

__all__ = ["WatchOptions", "state_folder"]


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """
    The command line.

    :ivar state: the folder of the state.
    :ivar token: the secret to send.
    """

    folder: str
    to: Target
    token: str | None = field(repr=False)
    delete: bool
    move_to: str | None
    settle: float
    patterns: Patterns
    jobs: int
    state: str


def state_folder(folder: str, given: str | None, environment: Mapping[str, str]) -> str:
    """
    Return the folder for the state of a watched folder.

    :param folder: what is watched.
    :param given: the value of ``--state``.
    :param environment: ``STATE_DIRECTORY`` is what systemd gives a service (``StateDirectory=``);
        otherwise it is below ``XDG_STATE_HOME``, as the XDG Base Directory Specification says.
    """
    key = hashlib.sha256(os.fsencode(os.path.realpath(folder))).hexdigest()[:16]
    base = given or environment.get("STATE_DIRECTORY", "").partition(":")[0]
    return os.path.join(base or default_folder("watch", environment), key)
