"""
How a door is to behave.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted_upload.answers import SUCCESS

__all__ = ["DoorSettings"]


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """
    How a raw door behaves.

    :ivar answer: what a sender hears when its file is kept.
    :ivar receipts: say name, size and SHA-256 too.
    :ivar max_size: bytes of the largest upload; 0 for no limit.
    :ivar idle_timeout: seconds of silence after which an upload is refused;
        0 for never.
    :ivar finish_after_idle: seconds of silence that count as the end of the
        file; 0 for never.
    :ivar allow_empty: keep uploads of zero bytes.
    :ivar linger_time: seconds for which what a refused sender still sends is
        read and thrown away, so that it can hear why.
    :ivar linger_size: bytes of the same.
    """

    answer: str = SUCCESS
    receipts: bool = False
    max_size: int = 0
    idle_timeout: float = 60.0
    finish_after_idle: float = 0.0
    allow_empty: bool = False
    linger_time: float = 5.0
    linger_size: int = 64 * 1024 * 1024
