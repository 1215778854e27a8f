"""
The simulation of a fleet agrees with what is known of queues.
"""

from __future__ import annotations

import pytest

from tests.support import ROOT

if not (ROOT / "benchmarks").exists():
    pytest.skip("the benchmarks are not beside the tests", allow_module_level=True)

from benchmarks.scale_simulation import Closed, Node, Open, nodes_needed, simulate

WORK = 0.001
NODE = Node(WORK)


def mean(latencies: object) -> float:
    assert isinstance(latencies, list)
    return sum(latencies) / len(latencies)


@pytest.mark.parametrize("number", [1, 2, 4])
def test_capacity_adds(number: int) -> None:
    """Busy nodes together do as much as each of them, times their number."""
    result = simulate([NODE] * number, Closed(16 * number))
    assert result.rate == pytest.approx(number / WORK, rel=0.01)


def test_little() -> None:
    """The number of uploads that are there is their rate times their latency (Little's law)."""
    result = simulate([NODE] * 3, Closed(50))
    assert result.rate * mean(result.latencies) == pytest.approx(50, rel=0.02)


def test_idle_node() -> None:
    """An upload that meets nobody takes its CPU time and the delay of its store."""
    result = simulate([Node(WORK, delay=0.05)] * 4, Open(1.0), uploads=500)
    assert result.quantile(0.5) == pytest.approx(WORK + 0.05)


def test_rate_of_arrivals() -> None:
    """As long as there is capacity, as many uploads are answered as come."""
    assert simulate([NODE] * 2, Open(1200.0)).rate == pytest.approx(1200, rel=0.03)


@pytest.mark.parametrize("utilisation", [0.3, 0.6, 0.8])
def test_one_queue(utilisation: float) -> None:
    """At one node, the mean wait is that of an M/D/1 queue: u / (2 (1 - u)) times the CPU time."""
    result = simulate([NODE], Open(utilisation / WORK), uploads=100_000)
    expected = WORK * (1 + utilisation / (2 * (1 - utilisation)))
    assert mean(result.latencies) == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_share_of_a_core(share: float) -> None:
    """A node with a share of a core does that share of the work."""
    result = simulate([Node(WORK, share)], Closed(8))
    assert result.rate == pytest.approx(share / WORK, rel=0.02)


def test_slow_node() -> None:
    """In turn, all wait for the slowest node; by least connections, each does what it can."""
    nodes = [NODE, NODE, NODE, Node(4 * WORK)]
    in_turn = simulate(nodes, Closed(64), balance="roundrobin")
    assert in_turn.rate == pytest.approx(4 * 250, rel=0.05)
    assert simulate(nodes, Closed(64), balance="leastconn").rate == pytest.approx(3250, rel=0.05)


def test_at_random() -> None:
    """At random, the slowest uploads wait longer than by least connections."""
    at_random, least = (
        simulate([NODE] * 4, Open(2800.0), balance=balance).quantile(0.99)
        for balance in ("random", "leastconn")
    )
    assert at_random > 2 * least


def test_repeatable() -> None:
    """The same seed gives the same result."""
    results = [simulate([NODE] * 2, Open(1500.0), seed=seed, uploads=2000) for seed in (1, 1, 2)]
    assert results[0] == results[1] != results[2]


def test_nodes_needed() -> None:
    """There is one more node than the load needs."""
    assert nodes_needed(1667, 400e-6, cores=4, utilisation=0.6) == 2
    assert nodes_needed(166_667, 400e-6, cores=4, utilisation=0.6) == 29
