"""
What happens in a world: who sends what, to which daemons, and what goes wrong meanwhile.

Each plan leaves out much of what could happen, and exaggerates some of the rest (swarm
testing): what a daemon does about one thing would otherwise hide what it does about
another.
"""

from __future__ import annotations

import errno
import json
from dataclasses import asdict, dataclass, field, fields
from operator import itemgetter
from typing import Any, Self

from tests.simulation.choices import Choices
from tests.simulation.queue_plans import KILL_CALLS, add_queues, object_faults
from tests.simulation.senders.kinds import KINDS
from tests.simulation.senders.scene import Scene, Sizes
from tests.simulation.themes import apply_theme
from tests.simulation.troubles import cuts, stalls, sync_errors, visits, without_known_gaps

__all__ = ["CALM_KINDS", "HOSTILE", "SETTLE", "TOKEN", "Plan", "populate"]

TOKEN = "tok_" + "S" * 43
"""What honest senders present, if daemons require a token."""

CALM_KINDS = ("raw-whole", "http-put", "tus-resume")
"""The kinds of honest senders that come when all faults have stopped."""

HOSTILE = tuple(kind for kind in KINDS if kind.startswith("hostile"))
"""The kinds of senders that mean harm."""

SETTLE = 60.0
"""Seconds after the last fault until honest senders must be served."""

_CALLS = ("create", "write", "fsync", "rename", "link", "unlink", "close", "truncate", "lock")
_FAULTS = (
    *("fail", "fail", "slow", "slow", "stall", "shorten", "read-only"),
    *("capacity", "inodes", "quota", "partition"),
)
_KILL_CALLS = (*_CALLS, "open_record_to_create", "replace", "splice", "chmod", "datasync")


@dataclass
class Plan:
    """
    What happens in a world: plain data.

    :ivar seed: decides everything that the plan does not say.
    :ivar senders: how many there are.
    :ivar weights: how likely each kind of them is.
    :ivar arrival: ``burst``, ``steady`` or ``storm``.
    :ivar seconds: in which they arrive.
    :ivar sizes: weights of the sizes of contents; see `Sizes`.
    :ivar addresses: how many addresses they have.
    :ivar options: of the daemon, by name.
    :ivar http: whether it listens for HTTP, too.
    :ivar daemons: how many processes share the directory.
    :ivar file_system: its profile: ``ext4``, ``xfs``, ``btrfs`` or ``weakest``.
    :ivar network: what differs from the ordinary profile of the network.
    :ivar sync_time: how many seconds a sync takes at most when nothing is wrong with the disk.
    :ivar write_time: how many seconds a write takes at most then.
    :ivar events: what happens to daemons and machine: each has ``at`` (seconds) and ``do``:
        ``kill``, ``kill-at`` (a system call), ``cut``, ``cut-at``, ``term``, ``reload``,
        ``clock``; or what visitors do with the directory, perhaps at a system call:
        ``collect``, ``sweep``, ``clean``.
    :ivar faults: of the disk and the network: each has ``at``, ``until`` and ``do``.
    :ivar late: how many honest senders come when all faults have stopped.
    :ivar without: the numbers of senders that are left out.
    """

    seed: int
    senders: int = 20
    weights: dict[str, float] = field(default_factory=dict)
    arrival: str = "steady"
    seconds: float = 5.0
    sizes: dict[str, float] = field(default_factory=dict)
    addresses: int = 10
    options: dict[str, str | int] = field(default_factory=dict)
    http: bool = True
    daemons: int = 1
    file_system: str = "ext4"
    sync_time: float = 0.0
    write_time: float = 0.0
    network: dict[str, Any] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    late: int = 3
    without: list[int] = field(default_factory=list)

    @classmethod
    def from_seed(cls, seed: int) -> Self:
        """Return the plan of a seed."""
        choices = Choices(seed).fork("plan")
        plan = cls(seed)
        plan.senders = int(1.5 * 12 ** (choices.random() ** 3))
        plan.arrival = choices.pick(("burst", "steady", "steady", "storm"))
        plan.seconds = choices.pick((0.5, 3.0, 10.0, 60.0))
        plan.http = choices.chance(0.7)
        plan.daemons = choices.weighted({1: 0.7, 2: 0.2, 3: 0.1})
        plan.addresses = choices.pick((1, 3, 10, 50))
        plan.file_system = choices.weighted({"ext4": 4, "xfs": 3, "btrfs": 2, "weakest": 2})
        lean = choices.chance(0.6)
        plan.weights = _weights(choices, http=plan.http, lean=lean)
        plan.senders *= 4 if lean else 1
        plan.sizes = _sizes(choices)
        plan.network = _network(choices)
        plan.options = _options(choices, http=plan.http)
        plan.events = _events(choices, plan)
        plan.sync_time = choices.fork("syncs").pick((0.0, 0.001, 0.02, 0.05))
        plan.events += cuts(choices.fork("cuts"), plan.seconds, plan.daemons)
        plan.events.sort(key=itemgetter("at"))
        plan.faults = _faults(choices, plan)
        plan.faults += stalls(choices.fork("stalls"), plan.seconds)
        plan.faults += sync_errors(choices.fork("sync errors"), plan.seconds)
        plan.faults.sort(key=itemgetter("at"))
        queues = choices.fork("queues")
        if queues.chance(0.3):
            plan.use_queues(queues)
        else:
            if lean:
                plan.crowd(choices.fork("crowd"))
            plan.events += visits(choices.fork("visits"), plan.seconds)
            plan.events = without_known_gaps(plan.events, plan.file_system)
            plan.events.sort(key=itemgetter("at"))
        apply_theme(choices.fork("theme"), plan)
        return plan

    def crowd(self, choices: Choices) -> None:
        """Have many senders come, perhaps, and more go wrong: starts and ends take most time."""
        if choices.chance(0.4):
            return
        self.senders = choices.pick((100, 200, 400))
        for _ in range(choices.pick((0, 2, 4))):  # faults are as dense as they are elsewhere
            self.events += _events(choices, self)
            self.events += cuts(choices, self.seconds, self.daemons)
            self.faults += _faults(choices, self)
            self.faults += sync_errors(choices, self.seconds)
        self.faults.sort(key=itemgetter("at"))

    def use_queues(self, choices: Choices) -> None:
        """Have it use programs, or an object store, and let them fail."""
        add_queues(choices, self.options)
        end = self.seconds * 1.5
        for event in self.events:
            if event["do"] == "kill-at" and choices.chance(0.7):
                event["call"] = choices.pick(KILL_CALLS)
        if "store" not in self.options and "forward" not in self.options:
            return
        for _ in range(choices.below(4)):
            at = choices.between(0, end)
            until = at + choices.pick((1.0, 20.0, 300.0)) * choices.random()
            fault = {"do": "objects", "faults": object_faults(choices)}
            self.faults.append({"at": round(at, 4), "until": round(until, 4), **fault})

    @property
    def calm(self) -> float:
        """When all that goes wrong is over, and its consequences too, in virtual seconds."""
        ends = [float(it.get("until", it["at"])) for it in self.faults]
        ends += [float(it["at"]) + float(it.get("down", 0.0)) for it in self.events]
        return max(self.seconds, *ends, 0.0) + SETTLE

    def keeps(self, number: int) -> bool:
        """Return whether a sender is not left out."""
        return number not in self.without

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(asdict(self))  # its order counts, too: a choice depends on it

    @classmethod
    def from_json(cls, text: str) -> Self:
        """
        Return a plan from its text.

        :raises ValueError: it is none.
        """
        value = json.loads(text)
        known = {it.name for it in fields(cls)}
        if not isinstance(value, dict) or not known.issuperset(value) or "seed" not in value:
            raise ValueError(f"this is no plan: {text[:100]}")
        return cls(**value)


_RARE = {
    "raw-client": 0.1,
    "raw-huge": 0.05,
    "raw-slow": 0.5,
    "http-slow-body": 0.4,
    "http-slow-head": 0.4,
    "tus-client": 0.1,
    "tus-resume": 0.2,
    "tus-defer": 0.2,
    "tus-checksum": 0.2,
    "tus-rivals": 0.15,
    "tus-delete": 0.3,
    "tus-expire": 0.3,
    "tus-overrun": 0.3,
    "tus-concat": 0.06,
    "tus-empty": 0.5,
    "hostile-crowd": 0.1,
    "hostile-guess": 0.3,
    "hostile-partials": 0.03,
    "watch": 0.03,
}
"""How often those come, compared with others, that take as long as several others."""

_LEAN = (
    *("raw-whole", "raw-pieces", "raw-no-end", "raw-reset", "raw-urgent", "raw-vanish"),
    *("raw-leaves", "raw-empty", "http-put", "http-keep-alive", "http-pipelining", "http-form"),
    *("http-cut", "hostile-idle", "hostile-deaf", "hostile-garbage"),
)
"""Those that take little time, so that there can be many."""

_FIRST = [kind for kind in KINDS if kind != "tus-empty"]  # others came later


def _weights(choices: Choices, *, http: bool, lean: bool) -> dict[str, float]:
    kinds = [it for it in (_LEAN if lean else _FIRST) if http or not KINDS[it].needs_http]
    some = choices.between(0.1, 1.0)
    weights = {kind: choices.pick((0.2, 1.0, 1.0, 5.0)) for kind in kinds if choices.chance(some)}
    if choices.chance(0.6):
        weights = {kind: it for kind, it in weights.items() if kind not in HOSTILE}
    for kind, factor in _RARE.items():
        if kind in weights:
            weights[kind] *= factor
    weights.setdefault("raw-whole", choices.pick((0.5, 3.0)))
    chosen = {kind: weights[kind] for kind in kinds if kind in weights}
    if not lean and http and choices.fork("empty").chance(0.5):
        chosen["tus-empty"] = _RARE["tus-empty"]
    return chosen


def _sizes(choices: Choices) -> dict[str, float]:
    sizes = Sizes()._asdict()
    for name in sizes:
        sizes[name] *= choices.pick((0.0, 0.3, 1.0, 1.0, 3.0))
    sizes["small"] = max(sizes["small"], 1.0)
    return sizes


def _network(choices: Choices) -> dict[str, Any]:
    network: dict[str, Any] = {}
    if choices.chance(0.4):
        network["latency"] = [0.0, choices.pick((0.0, 0.001, 0.3))]
    if choices.chance(0.2):
        network["loss"] = choices.pick((0.01, 0.1))
    if choices.chance(0.3):
        network["split"] = choices.pick((0.0, 0.6))
        network["segment"] = choices.pick((100, 1448, 65536))
    if choices.chance(0.2):
        network["receive_buffer"] = network["send_buffer"] = choices.pick((4096, 1 << 20))
    return network


def _options(choices: Choices, *, http: bool) -> dict[str, str | int]:
    def some(name: str, chance: float, *values: str | int) -> None:
        if choices.chance(chance):
            options[name] = choices.pick(values)

    options: dict[str, str | int] = {}
    some("receipts", 0.4, 1)
    some("allow-empty", 0.2, 1)
    some("max-size", 0.3, 1000, 50_000, 1_000_000)
    some("suffix", 0.2, ".jpg", "")
    some("reserve", 0.3, 0, "64K", "50%")
    some("idle-timeout", 0.4, 2, 10, 20)
    some("min-rate", 0.3, 0, 2000)
    some("finish-after-idle", 0.1, 1, 5)
    if int(options.get("finish-after-idle", 0)) >= int(options.get("idle-timeout", 60)):
        del options["finish-after-idle"]
    some("max-connections", 0.15, 5, 40)
    some("max-per-address", 0.3, 0, 3, 20)
    some("disk-threads", 0.3, 1, 2, 4)
    some("journal", 0.4, "/var/journal")
    some("metrics", 0.08, "9464")
    some("drain", 0.3, 0, 2)
    if http:
        some("names", 0.3, "time-original")
        some("tokens", 0.2, "/etc/tokens")
        some("resume-for", 0.4, "1m", "5m")
        some("max-partials", 0.15, 3, 20)
        some("max-partials-per-address", 0.15, 2, 10)
        some("max-partials-size", 0.15, 50_000, 3_000_000)
    return options


def _events(choices: Choices, plan: Plan) -> list[dict[str, Any]]:
    end = plan.seconds * 1.5
    events: list[dict[str, Any]] = []
    names = ("kill", "kill-at", "cut", "term", "clock")
    kinds = {it: choices.pick((0.0, 0.0, 1.0, 3.0)) for it in names}
    kinds["reload"] = choices.pick((0.0, 0.0, 0.5))
    if not any(kinds.values()):
        return events
    for _ in range(choices.below(7)):
        kind = choices.weighted(kinds)
        event: dict[str, Any] = {"at": round(choices.between(0, end), 4), "do": kind}
        if kind != "cut" and kind != "clock":
            event["daemon"] = choices.below(plan.daemons)
        if kind == "kill-at":
            event["call"] = choices.pick(_KILL_CALLS)
            event["after"] = choices.below(1 + choices.below(30))
        if kind in ("kill", "kill-at", "cut", "term"):
            event["down"] = round(choices.pick((0.0, 0.1, 2.0)) * choices.random(), 4)
        if kind == "clock":
            event["by"] = choices.pick((-86400, -3600, -1, 1, 3600, 86400))
        if kind == "reload":
            event["options"] = {"max-per-address": choices.pick((0, 5, 50))}
        events.append(event)
    return events


def _faults(choices: Choices, plan: Plan) -> list[dict[str, Any]]:
    faults: list[dict[str, Any]] = []
    if choices.chance(0.4):
        return faults
    end = plan.seconds * 1.5
    for _ in range(1 + choices.below(4)):
        at = choices.between(0, end)
        fault: dict[str, Any] = {
            "at": round(at, 4),
            "until": round(at + choices.pick((0.1, 2.0, 20.0)) * choices.random(), 4),
            "do": choices.pick(_FAULTS),
        }
        kind = fault["do"]
        if kind in ("fail", "slow", "stall"):
            fault["call"] = choices.pick(_CALLS)
        if kind == "fail":
            names: tuple[str, ...] = (
                "EIO",
                "EIO",
                "ENOSPC",
                "EDQUOT",
                "EMFILE",
                "ENOMEM",
                "EACCES",
            )
            if fault["call"] == "close":  # close(2): only what writing may fail with
                names = names[:4]
            fault["errno"] = getattr(errno, choices.pick(names))
            fault["times"] = choices.pick((1, 1, 3, 1_000_000))
            fault["chance"] = choices.pick((1.0, 1.0, 0.2))
            fault["after"] = choices.below(1 + choices.below(20))
        elif kind == "slow":
            fault["low"], fault["high"] = choices.pick(((0.0, 0.05), (0.0, 3.0), (5.0, 30.0)))
            fault["chance"] = choices.pick((1.0, 0.1))
        elif kind == "shorten":
            fault["chance"] = choices.pick((0.1, 1.0))
        elif kind == "capacity":
            fault["bytes"] = choices.pick((0, 100_000, 2_000_000))
        elif kind == "quota":
            fault["bytes"] = choices.pick((0, 50_000, 1_000_000))
        elif kind == "inodes":
            fault["number"] = choices.pick((0, 30))
        faults.append(fault)
    return faults


def populate(scene: Scene, plan: Plan) -> None:
    """Have all senders of a plan arrive in their time."""
    root = Choices(plan.seed)
    for number in range(plan.senders):
        if not plan.keeps(number):
            continue
        choices = root.fork(f"sender {number}")
        kind = choices.weighted(plan.weights)
        scene.scheduler.call_at(
            _arrival(plan, choices, number), _start, scene, kind, choices, number
        )
    late = [it for it in CALM_KINDS if plan.http or not KINDS[it].needs_http]
    for number in range(plan.senders, plan.senders + plan.late):
        if not plan.keeps(number):
            continue
        choices = root.fork(f"sender {number}")
        when = plan.calm + choices.between(0, 5.0)
        kind = late[number % len(late)]
        scene.scheduler.call_at(when, _start, scene, kind, choices, number)


def _arrival(plan: Plan, choices: Choices, number: int) -> float:
    if plan.arrival == "burst":
        return choices.between(0, 0.001)
    if plan.arrival == "storm":  # in three waves
        return plan.seconds * (number % 3) / 3 + choices.between(0, 0.05)
    return choices.between(0, plan.seconds)


def _start(scene: Scene, kind: str, choices: Choices, number: int) -> None:
    KINDS[kind](scene, choices, number).start()
