"""
The story of a world: what happens when, and what must hold in between and at the end.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from tests.simulation.filesystem.content import PAGE
from tests.simulation.history import Violation
from tests.simulation.reasons import leaves_files, turns_away
from tests.simulation.visitors import visit
from tests.simulation.workload import SETTLE, populate
from tests.simulation.world import INBOX, World
from twisted_upload.daemon.service import MAX_STOP_TIME

__all__ = ["tell"]

SERVED_WITHIN = 60.0
"""Seconds in which an honest sender is served when nothing goes wrong any more."""

PATIENCE = 2400.0
"""Seconds, after the last fault, in which all senders must have come to their end."""

LINGER = 240.0
"""Seconds until nothing is left of the last connection, nor of programs and objects."""

SYNCS = ("fsync", "datasync")
"""System calls that make a file durable."""

STEP = 15.0
"""Seconds between two looks whether that is so already."""


EXPIRES_WITHIN = 180.0
"""Seconds after which an upload that has expired is removed: some scans later."""

SPARE = 6
"""File descriptors that a daemon opens when it first needs them: a record, a folder."""

THREADS = 32
"""How many disk threads there are for large uploads, each with a pipe; see `DiskThreads`."""


def tell(world: World) -> None:
    """
    Run a world from its beginning to its end.

    :raises Violation: a promise is broken.
    """
    plan, scheduler, scene = world.plan, world.scheduler, world.scene
    _work_as_usual(world)
    world.start_all()
    scheduler.run(until=5.0, condition=lambda: len(world.living) == plan.daemons)
    populate(scene, plan)
    for event in plan.events:
        scheduler.call_at(float(event["at"]), _do, world, event)
    for fault in plan.faults:
        scheduler.call_at(float(fault["at"]), _begin_fault, world, fault)
    scheduler.run(until=plan.calm - SETTLE / 2)
    world.disarm()
    scheduler.run(until=plan.calm)
    _complain(world)
    scheduler.run(until=plan.calm + 6.0)
    scheduler.run(until=plan.calm + PATIENCE, condition=lambda: not scene.running)
    _all_serve(world)
    world.fates.check_ended()
    world.fates.check_served(within=SERVED_WITHIN)
    world.fates.check_reasons()
    _check_changes(world)
    _linger(world)
    world.check(deep=True)
    world.queues.check_finally(world.collect, clock_is_wrong=abs(world.machine.clock_offset) > 900)
    _all_is_quiet(world)
    _all_expires(world)
    _end(world)
    _complain(world)


def _linger(world: World) -> None:
    """Wait until nothing is left of the last connection, or until nothing may be left."""
    scheduler, plan = world.scheduler, world.plan
    end = scheduler.now + LINGER
    queues = any(it in plan.options for it in ("on-upload", "store", "forward"))
    while scheduler.now < end:
        scheduler.run(until=min(end, scheduler.now + STEP))
        services = [it.service for it in world.living if it.service is not None]
        if not queues and not any(it.slots.taken for one in services for it in one.frontends):
            break


def _do(world: World, event: dict[str, Any]) -> None:
    """Let something happen to a daemon, or to its machine."""
    place, down = int(event.get("daemon", 0)), float(event.get("down", 0.0))
    match event["do"]:
        case "kill":
            world.kill(place, down)
            world.check()
        case "kill-at":
            world.kill_before(place, event["call"], int(event["after"]), down)
        case "cut":
            world.cut_power(down)
        case "cut-at":
            world.cut_before(place, event["call"], int(event["after"]), down)
        case "term":
            world.stop(place, down)
        case "clock":
            world.machine.clock_offset += float(event["by"])
        case "reload":
            world.reload(place, event["options"])
        case "collect" | "sweep" | "clean" as what:
            if "call" in event:
                call, after = event["call"], int(event["after"])
                world.do_before(place, call, after, partial(visit, world, INBOX, what))
            else:
                visit(world, INBOX, what)


def _begin_fault(world: World, fault: dict[str, Any]) -> None:
    # Only now: if the daemons took long to start, both times may be over already.
    world.scheduler.call_at(float(fault["until"]), _end_faults, world, fault)
    faults = world.disk.faults
    if fault["do"] not in ("objects", "partition"):
        world.queues.disk_fails()
    match fault["do"]:
        case "fail":
            faults.fail(
                fault["call"],
                fault["errno"],
                times=fault["times"],
                chance=fault["chance"],
                after=fault["after"],
            )
        case "slow":
            faults.slow(fault["call"], fault["low"], fault["high"], fault["chance"])
        case "stall":
            faults.stall(fault["call"])
        case "shorten":
            faults.shorten(fault["chance"])
        case "read-only":
            faults.make_read_only()
        case "capacity":
            faults.capacity = world.disk.used * PAGE + int(fault["bytes"])
        case "inodes":
            faults.inodes = world.disk.used_inodes + int(fault["number"])
        case "quota":
            faults.quota = world.disk.used * PAGE + int(fault["bytes"])
        case "objects":
            world.queues.fail(fault["faults"])
        case "partition":
            for address in world.scene.addresses[::2]:
                world.network.cut_off(address, float(fault["until"]) - float(fault["at"]))


def _end_faults(world: World, fault: dict[str, Any]) -> None:
    if fault["do"] == "objects":
        world.queues.heal()
    elif fault["do"] != "partition":
        world.disk.faults.none()
        _work_as_usual(world)


def _work_as_usual(world: World) -> None:
    """Have syncs and writes take their time, as on a disk with which nothing is wrong."""
    plan, faults = world.plan, world.disk.faults
    if plan.sync_time:
        faults.slow("fsync", 0.0, plan.sync_time, 1.0)
    if plan.write_time:
        for call in ("write", "writev", "splice"):
            faults.slow(call, 0.0, plan.write_time, 1.0)


def _all_serve(world: World) -> None:
    """All daemons have started again."""
    if len(world.living) != world.plan.daemons:
        refused = [it.refused for it in world.daemons if it is not None]
        raise world.history.wrong(f"not all daemons serve: {refused}")


def _all_is_quiet(world: World) -> None:
    """Nothing is left of any connection."""
    quiet = world.quiet
    threads = int(world.plan.options.get("disk-threads", THREADS))
    for daemon in world.living:
        quiet.check_descriptors(daemon.process, SPARE, pipes=threads)
        service = daemon.service
        assert service is not None
        quiet.check_frontends(service.frontends)
        quiet.check_budgets(
            store.memory for storage in service.storages for store in storage.stores
        )
    if leaves_files(world.plan):
        return
    undisturbed = world.history.disturbed < 0
    quiet.check_incoming(world.disk, INBOX, whole=undisturbed and not world.plan.faults)
    if not world.history.ends_by_idle:
        world.files.check_given_up(max(world.history.disturbed, world.history.stopped))


def _all_expires(world: World) -> None:
    """What was not completed in time is removed."""
    plan, facts = world.plan, world.scene.facts
    if "resume-for" in plan.options and not any(it["do"] == "clock" for it in plan.events):
        world.scheduler.run(until=world.scheduler.now + facts.resume_for + EXPIRES_WITHIN)
        world.offsets.expect_none()


def _end(world: World) -> None:
    """Daemons stop in time, and what they promised survives that, a power cut and a start."""
    scheduler = world.scheduler
    began = scheduler.now
    world.stop_all()
    longest = float(world.options.get("drain", 10)) + MAX_STOP_TIME + 1.0
    processes = [it.process for it in world.daemons if it is not None]
    if not scheduler.run(
        until=began + longest, condition=lambda: not any(it.alive for it in processes)
    ):
        raise world.history.wrong(f"a daemon has not stopped in {longest:g} s")
    world.check()
    world.outcomes.check_told(world.files.visible)
    world.outcomes.check_each(refused_at_gate=turns_away(world.plan))
    _check_reports(world)
    if "no-fsync" not in world.options:  # then it may take anything
        world.cut_power(0.0)
    world.start_again()
    scheduler.run(
        until=scheduler.now + 10.0, condition=lambda: len(world.living) == world.plan.daemons
    )
    _all_serve(world)
    world.check()


def _check_changes(world: World) -> None:
    """What was done to daemons in order has ended nothing."""
    plan, events = world.plan, world.plan.events
    kinds = [it["do"] for it in events]
    in_order = not plan.faults and not plan.network.get("loss") and world.history.disturbed < 0
    if in_order and len(events) == 1 and kinds[0] in ("reload", "term"):
        world.fates.check_changes(events, float(world.options.get("drain", 10)))


def _check_reports(world: World) -> None:
    """Everybody was told the same."""
    world.reports.check_metrics()
    path = world.options.get("journal", "")
    if path and world.disk.exists(path):
        plan = world.plan
        kept = world.history.disturbed < 0 and not (
            plan.faults and any(it["do"] == "term" for it in plan.events)
        )
        # What was written before a sync that fails may be lost; the operator is told.
        kept = kept and not any(it.get("call") in SYNCS for it in plan.faults)
        world.reports.check_journal(world.disk.content(path), complete=kept)


def _complain(world: World) -> None:
    if world.history.violations:
        raise Violation(world.history.violations[0])
