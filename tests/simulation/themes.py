"""
Plans about one thing: what needs several things at once hardly ever comes together by itself.

A theme changes some of a plan, and leaves the rest to chance.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation import moments
from tests.simulation.choices import Choices

if TYPE_CHECKING:
    from tests.simulation.workload import Plan

__all__ = ["THEMES", "UNIX", "Theme", "apply_theme"]

Theme = Callable[[Choices, "Plan"], None]
"""Changes a plan."""

UNIX = "/run/upload.sock"
"""The path of the unix socket, for plans with one."""

_LARGE = ("raw-whole", "raw-pieces", "raw-reset", "raw-urgent", "raw-leaves", "raw-no-end")
_LARGE_HTTP = ("http-put", "http-cut", "tus-resume", "tus-rivals")
_SILENT = ("hostile-idle", "raw-no-end", "raw-slow", "raw-vanish")


def apply_theme(choices: Choices, plan: Plan) -> None:
    """Make some plans about one thing."""
    choices.weighted(THEMES)(choices, plan)


def _none(_: Choices, __: Plan) -> None:
    """All is left to chance."""


def _nothing_goes_wrong(choices: Choices, plan: Plan) -> None:
    """Then all honest senders are served, from the beginning."""
    plan.events, plan.faults = [], []
    plan.network.pop("loss", None)


def _large(choices: Choices, plan: Plan) -> None:
    """A few large files, which the disk takes more slowly than they come."""
    plan.senders = 1 + choices.below(5)
    plan.addresses = 3
    plan.seconds = choices.pick((0.1, 1.0))
    kinds = (*_LARGE, *_LARGE_HTTP) if plan.http else _LARGE
    plan.weights = {kind: 1.0 for kind in kinds if choices.chance(0.5)} or {"raw-whole": 1.0}
    plan.sizes = {"tiny": 0.0, "small": 0.2, "middle": 0.0, "large": 5.0, "huge": 0.5}
    plan.write_time = choices.pick((0.0, 0.002, 0.02, 0.1))
    for name in ("max-size", "receipts", "min-rate"):
        if choices.chance(0.7):
            plan.options.pop(name, None)
    if choices.chance(0.7):
        plan.network = {}
    if choices.chance(0.3):  # the store does not read the sockets itself, and is slow
        plan.options["receipts"] = 1
        plan.options.pop("max-size", None)
        plan.sizes = {"tiny": 0.0, "small": 0.0, "middle": 0.0, "large": 1.0, "huge": 0.7}
        plan.weights.setdefault("raw-whole", 1.0)
        plan.senders, plan.write_time = min(plan.senders, 2), 0.1
    elif choices.chance(0.25):  # it does, and is at a mark when the end comes
        plan.options.pop("receipts", None)
        plan.weights = {"raw-urgent": 1.0}
        plan.sizes = {"tiny": 0.0, "small": 0.0, "middle": 0.0, "large": 1.0, "huge": 0.2}
    if choices.chance(0.6):
        _nothing_goes_wrong(choices, plan)


def _unix_socket(choices: Choices, plan: Plan) -> None:
    """Senders of the same machine, at a unix socket."""
    plan.daemons = 1
    for event in plan.events:
        if "daemon" in event:
            event["daemon"] = 0
    plan.options["listen"] = f"unix:{UNIX}"
    for kind in ("raw-reset", "raw-leaves", "raw-pieces"):
        plan.weights.setdefault(kind, 1.0)


def _silence(choices: Choices, plan: Plan) -> None:
    """Senders that fall silent, and are to be noticed soon."""
    _nothing_goes_wrong(choices, plan)
    plan.weights = {kind: 1.0 for kind in _SILENT if choices.chance(0.6)}
    plan.weights["hostile-idle"] = 1.0
    plan.senders = 2 + choices.below(8)


def _concatenations(choices: Choices, plan: Plan) -> None:
    """Uploads that are put together, and asked for again."""
    plan.http = True
    plan.weights = {"tus-concat": 1.0, "raw-whole": 1.0}
    plan.senders = 1 + choices.below(4)
    if choices.chance(0.7):
        _nothing_goes_wrong(choices, plan)
        plan.daemons = 1


def _not_durable(choices: Choices, plan: Plan) -> None:
    """With ``--no-fsync``, what is stored survives the death of a daemon, and no power cut."""
    plan.options["no-fsync"] = 1
    plan.events = [it for it in plan.events if not it["do"].startswith("cut")]


def _clients(choices: Choices, plan: Plan) -> None:
    """Real clients, which are killed."""
    plan.weights = {"raw-client": 1.0}
    if plan.http and choices.chance(0.5):
        plan.weights["tus-client"] = 1.0
    plan.senders = 1 + choices.below(8)
    if choices.chance(0.6):
        plan.options["allow-empty"] = 1
    if choices.chance(0.7):
        _nothing_goes_wrong(choices, plan)


def _watchers(choices: Choices, plan: Plan) -> None:
    """Watched folders, whose machines are cut off."""
    plan.http = True
    plan.weights = {"watch": 1.0}
    plan.senders = 1 + choices.below(2)
    plan.sizes = {}
    if choices.chance(0.5):
        plan.options.pop("max-partials", None)
    else:
        plan.options["max-partials"] = 3
    if choices.chance(0.7):
        _nothing_goes_wrong(choices, plan)


THEMES: dict[Theme, float] = {
    _none: 0.61,
    _not_durable: 0.02,
    _nothing_goes_wrong: 0.08,
    _large: 0.07,
    _unix_socket: 0.04,
    _silence: 0.03,
    _concatenations: 0.02,
    _clients: 0.02,
    _watchers: 0.02,
    moments.resumptions: 0.05,
    moments.crowd: 0.02,
    moments.cleaning: 0.01,
    moments.names: 0.01,
}
"""What a plan can be about, and how often it is."""
