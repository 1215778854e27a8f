"""
The rows of the table.
"""

from __future__ import annotations

from tests.proofs.abuse import acts, attacks, ciphers, http_acts, places, standstill
from tests.proofs.abuse.crowd import Task
from tests.proofs.abuse.row import Row, Run

__all__ = ["ROWS"]

BOUND = "--max-per-address=50"
HTTP = "--http=tcp:0:interface=127.0.0.1"


def slow(run: Run) -> None:
    """They disconnect, then reconnect and stay until the daemon ends them, after 30 s."""
    count = run.scale.count(5000)
    task = Task(acts.slow, count, rate=2000, sources=acts.addresses(125))
    run.waves(task, 5, 50)


def idle(run: Run) -> None:
    """They disconnect, then reconnect and stay until the daemon ends them."""
    task = Task(acts.idle, run.scale.count(9000), rate=2000, sources=acts.addresses(200))
    run.waves(task, 7, 40)


def one_address(run: Run) -> None:
    """50 are accepted; the others are told why not, and stay connected."""
    task = Task(acts.stay, run.scale.count(10_000), rate=2500, sources=acts.addresses(1))
    run.waves(task, 8, 8)


def refused_address(run: Run) -> None:
    """They are told that they are not allowed, and reconnect."""
    task = Task(acts.idle, rate=5000, at_a_time=2000, sources=acts.addresses(4))
    report = run.waves(task, 5, 10)
    run.notes.append(f"{report.begun / report.seconds:.0f} connections/s")


def storm(run: Run) -> None:
    """One half of them close, the others reset."""
    task = Task(acts.storm, rate=5000, at_a_time=2000, sources=acts.addresses(50))
    report = run.waves(task, 5, 10)
    run.notes.append(f"{report.begun / report.seconds:.0f} connections/s")


def deaf(run: Run) -> None:
    """They stay connected until they are cut off."""
    task = Task(acts.deaf, at_a_time=run.scale.count(1000), rate=300, sources=acts.addresses(40))
    run.waves(task, 6, 12)


def resets(run: Run) -> None:
    """They reset one after the other, many at a time."""
    task = Task(acts.resets, at_a_time=200, rate=200, sources=acts.addresses(10))
    run.waves(task, 5, 10)


def disk(run: Run) -> None:
    """The disk is full again and again."""
    task = Task(acts.endless, at_a_time=4, sources=acts.addresses(2))
    run.waves(task, 5, 10)
    if not run.did["no-space"]:
        run.wrong.append("the disk was never full")
    run.honest.say("abuse")
    run.watch.until(lambda: False, 1.5)  # the daemon checks the free space once a second


def balancers(run: Run) -> None:
    """They send anything but a valid header."""
    task = Task(
        acts.balancer, at_a_time=run.scale.count(1000), rate=500, sources=acts.addresses(20)
    )
    run.waves(task, 7, 12)


ROWS = (
    Row("slow", "5,000 slow senders, 1 B/s each", (BOUND, "--idle-timeout=20s"), slow),
    Row("idle", "9,000 idle connections", (BOUND, "--idle-timeout=12s"), idle),
    Row("one-address", "one address opens 10,000, and stays", (BOUND,), one_address),
    Row(
        "refused-address",
        "5,000 connects a second from a refused address",
        (BOUND, "--deny=127.66.0.0/16"),
        refused_address,
    ),
    Row("storm", "connect and close, or reset, 5,000 a second", (BOUND,), storm),
    Row(
        "deaf",
        "peers that never read the answer",
        (BOUND, "--max-size=1M", "--idle-timeout=5s"),
        deaf,
    ),
    Row(
        "resets",
        "resets in every state",
        (BOUND, "--max-size=1M", "--deny=127.99.0.0/16"),
        resets,
    ),
    Row(
        "disk",
        "uploads larger than the disk",
        (BOUND,),
        disk,
        allowed=frozenset({"no-space"}),
        place=places.small_disk,
    ),
    Row(
        "proxy",
        "garbage, oversized and slow PROXY headers",
        (BOUND, "--proxy-protocol", "--proxy-from=127.0.0.0/8"),
        balancers,
        header=b"PROXY TCP4 192.0.2.7 198.51.100.1 50123 6666\r\n",
    ),
    Row(
        "link",
        "half-open peers, their link cut; --idle-timeout 5s",
        ("--max-per-address=0", "--idle-timeout=5s"),
        places.cut_the_link,
        place=places.other_network,
    ),
    Row(
        "link-kernel",
        "the same; no idle timeout, but keepalive, after 6 s instead of 60 s",
        ("--max-per-address=0", "--idle-timeout=0", "--min-rate=0"),
        places.cut_the_link,
        place=places.impatient_kernel,
    ),
    Row(
        "places",
        "all places taken (256 descriptors)",
        (BOUND,),
        places.take_all_places,
        allowed=frozenset({"busy"}),
        place=places.few_descriptors,
    ),
    Row(
        "descriptors",
        "no descriptors left: the limit sinks below what is in use",
        (BOUND,),
        places.take_the_descriptors,
        allowed=frozenset({"busy"}),
    ),
    Row(
        "urgent",
        "40 urgent marks in large files, then silence",
        (BOUND,),
        attacks.urgent,
        longest=2.0,
    ),
    Row(
        "reserve",
        "uploads that grow into the reserve, or up to it, and stay",
        (BOUND,),
        attacks.reserve,
        place=attacks.half_reserved,
    ),
    Row(
        "metrics",
        "malformed, slow and silent requests at the metrics port",
        (BOUND, "--metrics=0"),
        attacks.metrics,
    ),
    Row(
        "new-keys",
        "records of TLS with hardly any data: new keys again and again, unread replies",
        (BOUND,),
        ciphers.new_keys,
        place=ciphers.with_tls,
    ),
    Row(
        "clock",
        "the time of day is set forward and back, up to a day",
        (BOUND,),
        standstill.clock,
        place=standstill.a_clock,
    ),
    Row(
        "stopped",
        f"the process is stopped for {standstill.STOPPED:g} s; --finish-after-idle 1s",
        (BOUND, f"--finish-after-idle={standstill.SILENCE:g}s"),
        standstill.stopped,
    ),
    Row(
        "stuck",
        "nobody reads the log",
        (BOUND,),
        standstill.stuck,
        place=standstill.a_reader,
    ),
    Row(
        "http-heads",
        "HTTP: 5,000 slow heads, a byte or a field each second",
        (HTTP, BOUND, "--idle-timeout=20s"),
        http_acts.slow_heads,
        honest=http_acts.honest_put,
    ),
    Row(
        "http-bodies",
        "HTTP: 5,000 slow bodies, 1 B/s each",
        (HTTP, BOUND, "--idle-timeout=20s"),
        http_acts.slow_bodies,
        honest=http_acts.honest_put,
    ),
    Row(
        "http-idle",
        "HTTP: 9,000 connections that are idle after a request",
        (HTTP, BOUND, "--idle-timeout=12s"),
        http_acts.idle_connections,
        honest=http_acts.honest_put,
    ),
    Row(
        "http-tokens",
        "HTTP: wrong tokens, 2,000 a second",
        (HTTP, BOUND),
        http_acts.wrong_tokens,
        header=http_acts.AUTHORIZATION,
        honest=http_acts.honest_put,
        place=http_acts.with_tokens,
    ),
    Row(
        "http-partials",
        "HTTP: 12,000 uploads by tus that are begun, and never finished",
        (HTTP, BOUND),
        http_acts.partials,
        honest=http_acts.honest_put,
    ),
)
