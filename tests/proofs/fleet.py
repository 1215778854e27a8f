"""
``python -m tests.proofs.fleet --rounds 20 --partitions 3``: three nodes behind HAProxy, each a
network namespace, under the load of raw senders, of PUTs and of resumable uploads.

In turns, the daemon of a node is stopped and started, or killed with -9 and started; then a
node is cut off from the network for a while.  No acknowledged upload may be lost, no file may
be partial or exist twice, and every resumable upload is completed in the end.  A stop and a
start must not affect any sender.

With ``--store``, the files go to an object store (SeaweedFS).  That is then killed and started;
it stalls, throttles, loses answers; and a node is cut off from it alone.

The configurations are those of ``docs/guide/fleet.md``.  The table shows what the senders
heard.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.engines.seaweedfs import MISSING, program
from tests.proofs import rigs
from tests.proofs.load import Contents, Ledger, Senders, Verdict
from tests.proofs.put_load import PutSenders, put_in_parts
from tests.proofs.tus_load import PartialLedger, TusSenders
from tests.support.fleet import OURS, Fleet, Node
from tests.support.fleet_store import FleetStore
from tests.support.namespaces import Network, NoNetwork

SIZES = (100, 4_000, 20_000, 100_000, 1_000_000)
RESUMABLE_SIZES = (20_000, 300_000, 3_000_000)

RAW, PUT, TUS = 12, 4, 4
"""Senders of each kind."""

JOINED, PARTS = 5, 4
"""Uploads that are sent in parts that the server joins, and in how many."""

WAITS = 8.0
"""Seconds for which requests for a node that restarts wait at the load balancer, at least."""

PAUSE = 0.005
"""Seconds that raw senders wait after a failure."""

FIRST_PUT, FIRST_TUS = 1 << 40, 1 << 41

PATIENCE = 40.0


class Load:
    """
    All senders, and what they heard.

    :param enough: acknowledgements to wait for at each step of a round.
    :ivar heard: for each kind of sender and each thing that was done to a node.
    """

    def __init__(self, fleet: Fleet, chance: random.Random, enough: int) -> None:
        self._enough = enough
        contents = Contents(SIZES)
        self.fleet = fleet
        self.raw = Ledger(contents)
        self.put = Ledger(contents, FIRST_PUT)
        self.tus = PartialLedger(Contents(RESUMABLE_SIZES), first=FIRST_TUS, forgets=True)
        self.heard: dict[str, dict[str, Counter[str]]] = {}
        self._chance = chance
        self._raw = Senders(fleet.raw, self.raw, at_a_time=RAW, pause=PAUSE)
        self._put = PutSenders(fleet.http, self.put, at_a_time=PUT)
        self._tus = TusSenders(fleet.http, self.tus, at_a_time=TUS, chance=chance)
        self._before = self._counts()

    def start(self) -> None:
        """Begin to send."""
        for senders in self._raw, self._put, self._tus:
            senders.start()

    def finish(self) -> None:
        """Complete all uploads."""
        self._raw.finish()
        self._put.finish()
        self._tus.stop()
        last = TusSenders(self.fleet.http, self.tus, at_a_time=TUS, chance=self._chance, new=False)
        last.start()
        last.join(PATIENCE)
        last.stop()

    def wait(self) -> None:
        """Wait for some more successes of every kind of sender."""
        for ledger in self.raw, self.put:
            ledger.wait_for(len(ledger.acknowledged) + self._enough, PATIENCE)
        with self.tus.changed:
            told = self.tus.told
            self.tus.changed.wait_for(lambda: self.tus.told > told + self._enough // 4, PATIENCE)

    def note(self, way: str) -> dict[str, Counter[str]]:
        """
        Note what has been heard since the last time, while something was done to a node.

        :return: what was not success, by the kind of sender.
        """
        now, bad = self._counts(), {}
        rows = self.heard.setdefault(way, {kind: Counter() for kind in now})
        for kind, counts in now.items():
            new = counts - self._before[kind]
            rows[kind] += new
            bad[kind] = Counter({it: number for it, number in new.items() if it != "success"})
        self._before = now
        return bad

    def _counts(self) -> dict[str, Counter[str]]:
        counts = {"raw": _heard(self.raw), "PUT": _heard(self.put)}
        with self.tus.changed:
            stored = sum(upload.stored for upload in self.tus.uploads)
            counts["tus"] = Counter({"success": stored, **self.tus.heard})
        return counts


def _heard(ledger: Ledger) -> Counter[str]:
    with ledger.answered:
        counts = Counter({"success": len(ledger.acknowledged), "broken": ledger.lost})
        for answer, times in [*ledger.refused.items()]:
            words = answer.decode(errors="replace").split()
            counts[words[1] if len(words) > 1 else words[0]] += times
    return counts


class Rounds:
    """What is done to the nodes, and the errors found."""

    def __init__(self, fleet: Fleet, load: Load) -> None:
        self.fleet = fleet
        self.load = load
        self.wrong: list[str] = []

    def stop(self, node: Node) -> None:
        """Stop and start a node, as for an upgrade: no sender notices, if it is quick."""
        began = time.monotonic()
        node.stop()
        self.load.wait()
        node.start()
        quick = time.monotonic() - began < WAITS
        self.fleet.wait_for(node.name, "UP")
        self.load.wait()
        for kind, bad in self.load.note("stopped and started").items():
            if bad and (quick or kind != "tus"):
                self.wrong.append(f"a stop was felt by {kind}: {dict(bad)}")

    def kill(self, node: Node) -> None:
        """Kill and start a node."""
        node.kill()
        self.load.wait()
        node.start()
        self.fleet.wait_for(node.name, "UP")
        self.load.wait()
        self.load.note("killed and started")

    def cut_off(self, node: Node, seconds: float) -> None:
        """Cut a node off from the network, and connect it again."""
        node.machine.disconnect()
        began = time.monotonic()
        self.fleet.wait_for(node.name, "DOWN")
        self.load.wait()
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        node.machine.connect()
        self.fleet.wait_for(node.name, "UP")
        self.load.wait()
        self.load.note(f"cut off for {seconds:g} s")


def fail(rounds: Rounds, store: FleetStore, seconds: float) -> None:
    """Let the object store fail in each way, and cut a node off from it."""
    fleet, load = rounds.fleet, rounds.load
    ways = {
        "the store was killed and started": store.dies,
        "the store stalled": store.stalls,
        "the store throttled": store.throttles,
        "the store lost answers": store.loses_answers,
    }
    for way, happen in ways.items():
        happen(seconds)
        fleet.wait_until_up()
        load.wait()
        load.note(f"{way}, {seconds:g} s")
    node = fleet.nodes[0]
    node.machine.block(OURS)
    time.sleep(seconds)
    load.wait()
    node.machine.unblock(OURS)
    fleet.wait_until_up()
    load.wait()
    load.note(f"cut off from the store, {seconds:g} s")


def contents_of(fleet: Fleet, store: FleetStore | None) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each file."""
    if store is None:
        yield from ((f"{name}/{path.name}", path.read_bytes()) for name, path in fleet.files())
        return
    yield from store.objects()


def verdict_of(
    load: Load, fleet: Fleet, store: FleetStore | None
) -> tuple[Counter[str], list[str]]:
    """Compare all files with what was acknowledged; return the counts, and the errors."""
    verdict, partials = Verdict(load.raw.contents), Verdict(load.tus.contents)
    sizes = Counter[str]()
    for name, data in contents_of(fleet, store):
        kind = verdict if _is_whole(load.raw.contents, data) else partials
        kind.see(name, data)
        sizes["files"] += 1
    missing = verdict.missing([*load.raw.acknowledged, *load.put.acknowledged])
    missing += partials.missing([it.number for it in load.tus.uploads if it.stored])
    twice = verdict.twice(FIRST_TUS) + partials.twice(2 * FIRST_TUS)
    wrong = [f"lost upload {number}" for number in missing]
    wrong += verdict.partial + partials.partial
    wrong += [f"twice: upload {number}" for number in twice]
    wrong += [
        f"never completed: upload {it.number} of {it.path}"
        for it in load.tus.uploads
        if it.path is not None and not it.stored
    ]
    counts = Counter(lost=len(missing), partial=len(partials.partial), twice=len(twice))
    return counts + sizes, wrong


def _is_whole(contents: Contents, data: bytes) -> bool:
    with contextlib.suppress(ValueError):
        return (contents.number(data) or 0) < FIRST_TUS
    return False


def show(load: Load) -> None:
    """Print what the senders heard."""
    rigs.heading("a node was", "senders", "success", "anything else")
    for way, rows in load.heard.items():
        for kind, counts in rows.items():
            others = [
                f"{times} {what}" for what, times in sorted(counts.items()) if what != "success"
            ]
            rigs.row(way, kind, counts["success"], ", ".join(others) or "-")


def prove(
    work: Path,
    rounds: int,
    partitions: int,
    seconds: float,
    enough: int,
    *,
    steal: bool,
    in_store: bool,
) -> Sequence[str]:
    """
    Run the proof; return the errors found.

    :param steal: remove a stored file, which must be found.
    :param in_store: store the files in an object store, and let that fail.
    """
    with contextlib.ExitStack() as stack:
        store = None
        try:
            network = Network(OURS)
            if in_store:
                store = stack.enter_context(FleetStore(work, OURS))
                fleet = Fleet(work, network, {"store": f'"{store.url}"'}, store.environment)
            else:
                fleet = Fleet(work, network)
        except NoNetwork as reason:
            raise rigs.Skip(str(reason)) from None
        stack.enter_context(fleet)
        load = Load(fleet, random.Random(1), enough)
        turns = Rounds(fleet, load)
        load.start()
        load.wait()
        for _ in range(JOINED):
            number = load.put.next()
            status = put_in_parts(fleet.http, load.put.contents[number], PARTS)
            if status != http.client.CREATED:
                turns.wrong.append(f"an upload in {PARTS} parts was answered with {status}")
                continue
            load.put.acknowledge(number)
        load.note("left alone")
        for number in range(rounds):
            node = fleet.nodes[number // 2 % len(fleet.nodes)]
            (turns.kill if number % 2 else turns.stop)(node)
        for number in range(partitions):
            turns.cut_off(fleet.nodes[number % len(fleet.nodes)], seconds)
        if store is not None:
            fail(turns, store, seconds)
        load.finish()
        load.note("left alone")
        for node in fleet.nodes:
            node.stop()
        if steal:
            next(fleet.files())[1].unlink() if store is None else store.remove_one()
        counts, wrong = verdict_of(load, fleet, store)
        if store is not None:
            # What was begun right before a kill, or while answers were lost, is aborted within
            # an hour.
            counts["pending"] = store.pending()
            if counts["pending"] > rounds + partitions + len(fleet.nodes):
                wrong.append(f"pending multipart uploads: {counts['pending']}")
        wrong += turns.wrong + load.tus.wrong + [it for node in fleet.nodes for it in node.wrong]
    show(load)
    print(f"resumed {load.tus.resumed} times; files: {dict(counts)}")
    rigs.heading("acknowledged", "lost", "partial", "twice")
    acknowledged = sum(rows[kind]["success"] for rows in load.heard.values() for kind in rows)
    rigs.row(acknowledged, counts["lost"], counts["partial"], counts["twice"])
    if not (load.raw.acknowledged and load.put.acknowledged and load.tus.told):
        wrong.append("nothing was acknowledged, so it proves nothing")
    return wrong


def main() -> Sequence[str]:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.fleet")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--partitions", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30, help="how long a node is cut off")
    parser.add_argument("--enough", type=int, default=60, help="successes in each step")
    parser.add_argument("--folder", help="where to work; needs some GB")
    parser.add_argument("--store", action="store_true", help="store in an object store")
    parser.add_argument("--steal", action="store_true", help="remove a file: the proof must fail")
    arguments = parser.parse_args()
    rigs.needs("haproxy", "ip", "nsenter", "unshare")
    if arguments.store and program() is None:
        raise rigs.Skip(MISSING)
    with rigs.workplace(arguments.folder) as work:
        turns = arguments.rounds, arguments.partitions, arguments.seconds, arguments.enough
        return prove(work, *turns, steal=arguments.steal, in_store=arguments.store)


if __name__ == "__main__":
    rigs.command(main)
