"""
The amount of load, and the daemon's configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.proofs.soak.senders import DENIED, KINDS, Kind

__all__ = ["DISK_THREADS", "LISTENERS", "QUICK", "Plan", "configuration"]

LISTENERS = ("inbox", "receipts", "devices", "hooked")
"""The listeners, as in the configuration."""

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
    The amount of load.

    :ivar seconds: minimum duration.
    :ivar uploads: minimum number of uploads stored.
    :ivar window: seconds between two measurements.
    :ivar warm: seconds of load before the first measurement.
    :ivar device: size of the file system in bytes.
    :ivar largest: size of a large upload in bytes.
    :ivar pause: seconds between two large uploads.
    :ivar haste: factor by which slow senders are faster than usual.
    :ivar idle: the daemon's idle timeout in seconds.
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
        """Whether it takes long enough to notice changes over time."""
        return self.seconds >= 150

    @property
    def kinds(self) -> Sequence[Kind]:
        """The kinds of senders; the daemon takes half a minute to notice a slow one."""
        return [it for it in KINDS if self.long or it.name != "too slow"]

    @property
    def rate(self) -> float:
        """Senders per second, a few more than needed."""
        kept = sum(it.share for it in KINDS if it.kept) / sum(it.share for it in KINDS)
        return 1.02 * self.uploads / self.seconds / kept


QUICK = Plan(3.0, 400, 1.0, 0.5, 1 << 30, 20_000_000, 1.0, 10.0, 2.0)


def configuration(mount: Path, plan: Plan, receipts: str = "1M") -> str:
    """
    Return the daemon's configuration.

    :param receipts: maximum size of an upload to that listener.
    """
    return _CONFIGURATION.format(
        mount=mount,
        threads=DISK_THREADS,
        idle=plan.idle,
        finish=plan.idle / 4,
        denied=DENIED,
        receipts=receipts,
    )
