"""The bars that the daemon is to clear, and how far it got."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .results import Results

Figure = Callable[[Results], "float | None"]


@dataclass(frozen=True)
class Bar:
    """One promise about speed."""

    case: str
    text: str
    limit: float
    figure: Figure
    at_most: bool = False
    unit: str = "x"

    def met(self, reached: float) -> bool:
        """Whether a figure clears the bar."""
        return reached <= self.limit if self.at_most else reached >= self.limit

    def words(self) -> str:
        """The bar, for a table."""
        return f"{'at most' if self.at_most else 'at least'} {self.limit:g} {self.unit}"


def figure(case: str, contender: str, name: str) -> Figure:
    """A figure as it was measured."""
    return lambda results: results.value(case, contender, name)


def best(case: str, name: str, of: Callable[[str], bool], *, least: bool = False) -> Figure:
    """The best figure among some contenders: the greatest, or the least."""

    def find(results: Results) -> float | None:
        found = [results.value(case, one, name) for one in results.contenders(case) if of(one)]
        known = [value for value in found if value is not None]
        return (min(known) if least else max(known)) if known else None

    return find


def ratio(above: Figure, below: Figure) -> Figure:
    """One figure through another."""

    def divide(results: Results) -> float | None:
        a, b = above(results), below(results)
        return None if a is None or b is None or b == 0 else a / b

    return divide


def is_floor(contender: str) -> bool:
    """Whether this is one of the C receivers."""
    return contender.startswith("floor")


def is_peer(contender: str) -> bool:
    """Whether this is somebody else's program."""
    return not is_floor(contender) and not contender.startswith("ours")


def _lost(results: Results) -> float | None:
    return results.value("small", "ours", "lost")


BARS = (
    Bar("large", "receiver CPU per GiB, of the best C receiver's", 1.5,
        ratio(figure("large", "ours", "cpu_s_per_gib"), best("large", "cpu_s_per_gib", is_floor, least=True)),
        at_most=True),
    Bar("large", "throughput, of the best peer's", 1.3,
        ratio(figure("large", "ours", "gib_per_s"), best("large", "gib_per_s", is_peer))),
    Bar("large", "throughput, of the textbook server's", 3,
        ratio(figure("large", "ours", "gib_per_s"), figure("large", "textbook", "gib_per_s"))),
    Bar("large-fsync", "throughput with fsync, of dd conv=fsync", 0.9,
        ratio(figure("large-fsync", "ours-fsync", "gib_per_s"), figure("large-fsync", "dd", "gib_per_s"))),
    Bar("large4", "four at once, of one alone", 1,
        ratio(figure("large4", "ours", "gib_per_s"), figure("large", "ours", "gib_per_s"))),
    Bar("small", "rate, of the textbook server's", 2.5,
        ratio(figure("small", "ours", "uploads_per_s"), figure("small", "textbook", "uploads_per_s"))),
    Bar("small", "uploads lost", 0, _lost, at_most=True, unit="uploads"),
    Bar("small", "CPU per upload, of the C floor's", 2.5,
        ratio(figure("small", "ours", "cpu_us_per_upload"), figure("small", "floor-loop", "cpu_us_per_upload")),
        at_most=True),
    Bar("small-durable", "durable rate, of the plain order one after another", 6,
        ratio(figure("small-durable", "ours-fsync", "uploads_per_s"),
              figure("small-durable", "sequence", "uploads_per_s"))),
    Bar("small-durable", "durable rate, of our own with --no-fsync", 0.7,
        ratio(figure("small-durable", "ours-fsync", "uploads_per_s"),
              figure("small-durable", "ours", "uploads_per_s"))),
    Bar("many", "memory of each connection", 4, figure("many", "ours", "kib_per_connection"),
        at_most=True, unit="KiB"),
    Bar("many", "speed of a large upload beside them, of alone", 0.9,
        ratio(figure("many", "ours", "beside_gib_per_s"), figure("many", "ours", "alone_gib_per_s"))),
    Bar("many", "time to connect them, of plain Twisted's", 2,
        ratio(figure("many", "ours", "connect_s"), figure("many", "plain", "connect_s")), at_most=True),
    Bar("workers", "small uploads with two workers, of one", 1.4,
        ratio(figure("workers", "ours-2-workers", "uploads_per_s"), figure("workers", "ours", "uploads_per_s"))),
    Bar("latency", "p99 of 4 KiB when busy, of idle", 3,
        ratio(figure("latency", "ours-fsync-busy", "p99_ms"), figure("latency", "ours-fsync-idle", "p99_ms")),
        at_most=True),
    *(
        Bar(case, f"{who}, of the better of ncat and socat ({where})", 1,
            ratio(figure(case, contender, "gib_per_s"), best(case, "gib_per_s", is_peer)))
        for case, where in (("client", "to our daemon"), ("client-sink", "to a C receiver that keeps nothing"))
        for contender, who in (("ours-api", "Python API"), ("ours-command", "command"))
    ),
)  # fmt: skip
