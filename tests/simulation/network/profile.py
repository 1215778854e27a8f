"""
How fast, how reliable and how roomy a simulated network is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["INSTANT", "NetworkProfile"]


@dataclass(frozen=True, slots=True)
class NetworkProfile:
    """
    What can happen to what is sent, and how much of it the kernel holds.

    :ivar latency: seconds that a segment takes: at least, at most.
    :ivar turn: seconds that a turn of a reactor takes: at least, at most.  What happens
        meanwhile is seen together in the next turn.
    :ivar loss: how likely it is that a segment is lost: it comes later, as one that was sent
        again does.
    :ivar split: how likely it is that the bytes of one ``send`` come in several segments.
    :ivar segment: maximum size of a segment in bytes, unless so many were sent at a time that
        this would be very many segments.
    :ivar receive_buffer: bytes that the kernel holds for a reader.
    :ivar send_buffer: bytes that the kernel holds for a writer.
    :ivar accept_errors: how likely it is that ``accept`` fails, by the error number.
    """

    latency: tuple[float, float] = (0.0001, 0.05)
    turn: tuple[float, float] = (0.00001, 0.0005)
    loss: float = 0.0
    split: float = 0.2
    segment: int = 65536
    receive_buffer: int = 131072
    send_buffer: int = 131072
    accept_errors: Mapping[int, float] = field(default_factory=dict)


INSTANT = NetworkProfile(latency=(0.0, 0.0), split=0.0)
"""A network without delays."""
