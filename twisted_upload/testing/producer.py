"""
A push producer for tests.
"""

from __future__ import annotations

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

__all__ = ["RecordingProducer"]


@implementer(IPushProducer)
class RecordingProducer:
    """
    A push producer that records the calls it receives.

    :ivar told: ``"pause"``, ``"resume"`` and ``"stop"``, in the order of the calls.
    """

    def __init__(self) -> None:
        self.told: list[str] = []

    @property
    def paused(self) -> bool:
        """Whether the last call was a pause."""
        return self.told[-1:] == ["pause"]

    def pauseProducing(self) -> None:
        """Record a pause."""
        self.told.append("pause")

    def resumeProducing(self) -> None:
        """Record a resume."""
        self.told.append("resume")

    def stopProducing(self) -> None:
        """Record a stop."""
        self.told.append("stop")
