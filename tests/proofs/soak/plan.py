"""
How much of everything, and the daemon's configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.proofs.soak.senders import DENIED, KINDS, Kind

__all__ = ["DISK_THREADS", "LISTENERS", "QUICK", "Plan", "configuration"]

LISTENERS = ("inbox", "receipts", "devices", "hooked")
"""As in the configuration."""

DISK_THREADS = 16

_CONFIGURATION = """\
metrics = 0
disk-threads = {threads}
journal = "{mount}/log/journal"
journal-size = "8M"
idle-timeout = "{idle:g}s"
deny = "{denied}"

[[listener]]
name = "inbox"
listen = "tcp:0:interface=127.0.0.1"
directory = "{mount}/inbox"
max-size = "256M"

[[listener]]
name = "receipts"
listen = "tcp:0:interface=127.0.0.1"
directory = "{mount}/receipts"
max-size = "{receipts}"
receipts = true

[[listener]]
name = "devices"
listen = "tcp:0:interface=127.0.0.1"
directory = "{mount}/devices"
finish-after-idle = "{finish:g}s"

[[listener]]
name = "hooked"
listen = "tcp:0:interface=127.0.0.1"
directory = "{mount}/hooked"
on-upload = "/bin/true"
"""


@dataclass(frozen=True)
class Plan:
    """
    How much of it.

    :ivar seconds: that it takes at least.
    :ivar uploads: that are kept at least.
    :ivar window: seconds between two looks.
    :ivar warm: seconds of load before the first look.
    :ivar device: bytes of the file system.
    :ivar largest: bytes of a large upload.
    :ivar pause: seconds between two of these.
    :ivar haste: how many times as fast the slow ones are.
    :ivar idle: seconds of silence that are too long.
    """

    seconds: float
    uploads: int
    window: float = 10.0
    warm: float = 20.0
    device: int = 4 << 30
    largest: int = 200_000_000
    pause: float = 30.0
    haste: float = 1.0
    idle: float = 10.0

    @property
    def long(self) -> bool:
        """Whether it takes long enough to tell what changes in it."""
        return self.seconds >= 150

    @property
    def kinds(self) -> Sequence[Kind]:
        """Who comes; to notice one that is too slow takes half a minute."""
        return [it for it in KINDS if self.long or it.name != "too slow"]

    @property
    def rate(self) -> float:
        """Senders a second, a few more than needed."""
        kept = sum(it.share for it in KINDS if it.kept) / sum(it.share for it in KINDS)
        return 1.02 * self.uploads / self.seconds / kept


QUICK = Plan(3.0, 400, 1.0, 0.5, 1 << 30, 20_000_000, 1.0, 10.0, 2.0)


def configuration(mount: Path, plan: Plan, receipts: str = "1M") -> str:
    """
    Of the daemon.

    :param receipts: size of the largest upload of that listener.
    """
    return _CONFIGURATION.format(
        mount=mount,
        threads=DISK_THREADS,
        idle=plan.idle,
        finish=plan.idle / 4,
        denied=DENIED,
        receipts=receipts,
    )
