"""
What the plan of a world gives a reason for: refusals, lines of the log, files that are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.simulation.senders.scene import Facts
from tests.simulation.workload import HOSTILE, TOKEN, Plan

__all__ = ["expected_lines", "facts_of", "leaves_files", "turns_away"]

_SECONDS = {"1m": 60.0, "5m": 300.0}
_DISK_TROUBLE = (
    *("fail", "slow", "stall", "shorten", "read-only", "capacity", "inodes", "quota"),
    "objects",
)


def facts_of(plan: Plan) -> Facts:
    """Return what senders may expect of the daemons of a plan."""
    options: Mapping[str, Any] = plan.options
    facts = Facts()
    facts.max_size = int(options.get("max-size", 0))
    facts.receipts = bool(options.get("receipts", 0))
    facts.allow_empty = bool(options.get("allow-empty", 0))
    facts.token = TOKEN if "tokens" in options else ""
    facts.idle_timeout = float(options.get("idle-timeout", 60))
    facts.finish_after_idle = float(options.get("finish-after-idle", 0))
    facts.min_rate = int(options.get("min-rate", 500))
    facts.names = str(options.get("names", "time"))
    facts.resume_for = _SECONDS.get(str(options.get("resume-for", "")), 86400.0)
    facts.allowed = _allowed(plan)
    happened = {it["do"] for it in (*plan.events, *plan.faults)}
    facts.forgets = bool(
        happened.intersection(("clock", "capacity", "quota", "inodes"))
        or "max-partials" in options
        or "max-partials-size" in options
        or options.get("reserve") == "50%"
    )
    facts.calm = plan.calm
    if not happened and not plan.network.get("loss") and not facts.forgets:
        facts.quiet_from = 0.0
    else:
        facts.quiet_from = plan.calm
    facts.served_from = plan.calm if turns_away(plan) else facts.quiet_from
    return facts


def expected_lines(plan: Plan) -> tuple[str, ...]:
    """Return what critical lines of the log may contain, because the plan gives a reason."""
    troubles = {it["do"] for it in (*plan.events, *plan.faults)}
    if not troubles.intersection((*_DISK_TROUBLE, "clean")):
        return ()
    return "UNHEALTHY", "given up, but its marker cannot be moved"


def leaves_files(plan: Plan) -> bool:
    """Return whether files could not be removed: they are, at the next start."""
    return any(it["do"] == "read-only" or it.get("call") == "unlink" for it in plan.faults)


def turns_away(plan: Plan) -> bool:
    """Return whether connections may be refused before an upload begins."""
    happened = {it["do"] for it in plan.events}
    crowded = plan.senders > 40 or any(it in plan.weights for it in HOSTILE)
    limited = any(it in plan.options for it in ("max-connections", "max-per-address"))
    return crowded or limited or not happened.isdisjoint(("reload", "term"))


def _allowed(plan: Plan) -> set[str]:
    """Return the codes of refusals for which the plan gives a reason."""
    allowed = set()
    happened = {it["do"] for it in (*plan.events, *plan.faults)}
    if "term" in happened:
        allowed.add("shutting-down")
    if happened.intersection(_DISK_TROUBLE) or "max-partials-size" in plan.options:
        allowed.update(("store-error", "no-space", "busy"))
    if "clean" in happened:
        allowed.add("store-error")
    if plan.options.get("reserve") == "50%":
        allowed.add("no-space")
    crowded = plan.senders > 15 or "reload" in happened or any(it in plan.weights for it in HOSTILE)
    limits = ("max-connections", "max-per-address", "max-partials", "max-partials-per-address")
    if crowded or any(name in plan.options for name in limits):
        allowed.add("busy")
    # A sender that has to wait is not silent; but segments that are lost look like silence.
    slow = "partition" in happened or plan.network.get("loss") or plan.network.get("segment") == 100
    if slow or "clock" in happened:
        allowed.add("timeout")
    if "clock" in happened:  # it may expire while it is created
        allowed.add("not-found")
    return allowed
