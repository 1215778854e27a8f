"""
How senders fare: each refusal has a reason, everyone comes to an end, and the honest ones
are served when nothing is in their way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tests.simulation.history import LOST, NOTHING, REFUSED, STORED, Attempt
from tests.simulation.senders.scene import Scene
from tests.simulation.senders.sender import SLOWEST

__all__ = ["Fates"]

IN_FLIGHT = 4.0
"""Seconds after the beginning of an attempt in which its first bytes must have arrived."""

_OWN_FAULT = {
    "timeout": ("raw-slow", "raw-no-end", "http-slow-body", "raw-vanish"),
    "bad-request": ("http-cut", "http-form", "http-slow-body", "raw"),
    "digest-mismatch": ("http-put", "http-keep-alive"),
    "too-large": ("http-form",),
}


class Fates:
    """What has become of the senders of a scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._judged: dict[int, None] = {}

    def check_reasons(self) -> None:
        """Nobody is refused without a reason."""
        allowed = self._scene.facts.allowed
        if allowed is None:
            return
        for attempt in self._scene.history.attempts.values():
            if attempt.told == REFUSED and attempt.number not in self._judged:
                self._judged[attempt.number] = None
                if attempt.code not in allowed and not self._is_to_blame(attempt):
                    raise self._scene.history.wrong(f"refused without a reason: {attempt!r}")

    def _is_to_blame(self, attempt: Attempt) -> bool:
        facts, code = self._scene.facts, attempt.code or ""
        if code == "empty":
            return attempt.size == 0 and not facts.allow_empty
        if code == "too-large" and 0 < facts.max_size < attempt.size:
            return True
        return not attempt.honest and attempt.kind in _OWN_FAULT.get(code, ())

    def check_changes(self, events: Iterable[Mapping[str, Any]], drain: float) -> None:
        """
        A reload ends no connection, and a stop lets uploads in flight finish.

        To be called if nothing else has happened that could have ended them.

        :param events: what has happened to daemons: all of it.
        :param drain: seconds for which uploads may continue.
        """
        history = self._scene.history
        for attempt in history.attempts.values():
            if not (attempt.honest and attempt.sent and attempt.kind.startswith("raw")):
                continue
            ended = history.now() if attempt.ended is None else attempt.ended
            for event in events:
                since = ended - float(event["at"])
                if attempt.began > float(event["at"]) - IN_FLIGHT or since < 0:
                    continue
                if event["do"] == "reload" and attempt.told == LOST and since < 1.0:
                    raise history.wrong(f"ended by a reload: {attempt!r}")
                if event["do"] == "term" and attempt.told == REFUSED and since < drain - 1.0:
                    raise history.wrong(f"refused {since:.1f} s after a stop: {attempt!r}")

    def check_ended(self) -> None:
        """Each sender comes to its end: no connection stays open for ever."""
        running = self._scene.running
        if running:
            who = [f"{it.kind} {key}" for key, it in running.items()]
            raise self._scene.history.wrong(f"still there: {who[:10]}")

    def check_served(self, *, within: float) -> None:
        """
        Honest senders are served when nothing is in their way any more.

        :param within: seconds from the beginning of their attempt; more for large files.
        """
        facts, history = self._scene.facts, self._scene.history
        for attempts in history.contents.values():
            first, last = attempts[0], attempts[-1]
            if first.began < facts.served_from or not last.honest or last.partial:
                continue
            took = (history.now() if last.ended is None else last.ended) - last.began
            if last.told in (NOTHING, LOST) or (
                last.told == STORED and took > within + last.size / SLOWEST
            ):
                raise history.wrong(f"not served in {took:.1f} s: {last!r}")
