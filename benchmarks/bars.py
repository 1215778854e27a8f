"""The targets of the daemon's speed, and the figures it reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .figures import Results
from .peers import BEFORE

Figure = Callable[[Results], "float | None"]


@dataclass(frozen=True)
class Bar:
    """One target."""

    case: str
    text: str
    limit: float
    figure: Figure
    at_most: bool = False
    unit: str = "x"

    def met(self, reached: float) -> bool:
        """Return whether a figure meets the target."""
        return reached <= self.limit if self.at_most else reached >= self.limit

    def words(self) -> str:
        """Return the target as text, for a table."""
        return f"{'at most' if self.at_most else 'at least'} {self.limit:g} {self.unit}"


def figure(case: str, contender: str, name: str) -> Figure:
    """Return a figure as it was measured."""
    return lambda results: results.value(case, contender, name)


def best(case: str, name: str, among: Callable[[str], bool], *, least: bool = False) -> Figure:
    """Return the best figure among some contenders: the greatest, or the least."""

    def find(results: Results) -> float | None:
        found = [results.value(case, one, name) for one in results.contenders(case) if among(one)]
        known = [value for value in found if value is not None]
        return (min(known) if least else max(known)) if known else None

    return find


def ratio(above: Figure, below: Figure) -> Figure:
    """Return one figure divided by another."""

    def divide(results: Results) -> float | None:
        a, b = above(results), below(results)
        return None if a is None or b is None or b == 0 else a / b

    return divide


def is_floor(contender: str) -> bool:
    """Return whether this is one of the C receivers."""
    return contender.startswith("floor")


def is_peer(contender: str) -> bool:
    """Return whether this is another project's program."""
    return not is_floor(contender) and not contender.startswith("ours")


def of(case: str, name: str, ours: str, other: str) -> Figure:
    """Return one of our figures divided by another contender's, in the same case."""
    return ratio(figure(case, ours, name), figure(case, other, name))


def cpu(case: str, ours: str, other: str) -> Figure:
    """Return the CPU per upload of one of our contenders, divided by another contender's."""
    return of(case, "cpu_us_per_upload", ours, other)


def rate(case: str, ours: str, other: str) -> Figure:
    """Return the uploads per second of one of our contenders, divided by another contender's."""
    return of(case, "uploads_per_s", ours, other)


RATE_TO_TEXTBOOK = "uploads per second, relative to the textbook server"


def _small() -> Iterator[Bar]:
    """Yield the targets that apply to each kind of sender."""
    for case, limit in (("small", 2.2), ("small-single", 3), ("small-slow", 3)):
        text = "CPU per upload, relative to the C floor"
        yield Bar(case, text, limit, cpu(case, "ours", "floor-loop"), at_most=True)
        yield Bar(case, RATE_TO_TEXTBOOK, 3, rate(case, "ours", "textbook"))
        lost = figure(case, "ours", "lost")
        yield Bar(case, "uploads lost", 0, lost, at_most=True, unit="uploads")


def _clients() -> Iterator[Bar]:
    for case, where in (
        ("client", "to our daemon"),
        ("client-sink", "to a C receiver that stores nothing"),
    ):
        fastest = best(case, "gib_per_s", is_peer)
        for contender, who in (("ours-api", "the Python API"), ("ours-command", "the command")):
            text = f"throughput of {who}, relative to the faster of ncat and socat ({where})"
            yield Bar(case, text, 1, ratio(figure(case, contender, "gib_per_s"), fastest))


def by_curl(contender: str) -> bool:
    """Return whether this is another project's server, to which curl sends."""
    return is_peer(contender) and not contender.endswith("-sendfile")


def least(*figures: Figure) -> Figure:
    """Return the least of some figures."""

    def find(results: Results) -> float | None:
        known = [value for it in figures if (value := it(results)) is not None]
        return min(known) if known else None

    return find


def _http_large() -> Iterator[Bar]:
    name = "cpu_s_per_gib"
    peers = [best(case, name, by_curl, least=True) for case in ("http-large", "tus-large")]
    nginx = figure("http-large", "nginx", name)
    for case, ours, others in (
        ("http-large", "ours-put", peers[0]),
        ("tus-large", "ours-tus", least(*peers)),
    ):
        used = figure(case, ours, name)
        for text, limit, other in (
            ("our raw upload of the same size", 1.25, figure(case, "ours", name)),
            ("the best peer by HTTP", 0.6, others),
            ("nginx", 0.4, nginx),
        ):
            words = f"receiver CPU per GiB sent by curl, relative to {text}"
            yield Bar(case, words, limit, ratio(used, other), at_most=True)
    yield Bar(
        "http-large",
        "receiver CPU per GiB sent by sendfile, relative to nginx",
        1,
        of("http-large", name, "ours-put-sendfile", "nginx-sendfile"),
        at_most=True,
    )
    yield Bar(
        "http-large-fsync",
        "throughput of a PUT by curl with fsync, relative to dd conv=fsync",
        0.9,
        of("http-large-fsync", "gib_per_s", "ours-put-fsync", "dd"),
    )
    chunks = best("tus-chunks", "gib_per_s", is_peer)
    yield Bar(
        "tus-chunks",
        "throughput, relative to the best peer by tus",
        3,
        ratio(figure("tus-chunks", "ours-tus", "gib_per_s"), chunks),
    )


def _http_small() -> Iterator[Bar]:
    for limit, other, text in (
        (1.5, "nginx", "nginx"),
        (1.3, "ours", "a raw upload, each with its own connection"),
    ):
        words = f"CPU per PUT, relative to {text}"
        yield Bar("http-small", words, limit, cpu("http-small", "ours-put", other), at_most=True)
    yield Bar(
        "http-small-durable",
        "PUTs per second with fsync, relative to raw uploads",
        0.8,
        rate("http-small-durable", "ours-put-fsync", "ours-fsync"),
    )


def _http_memory() -> Iterator[Bar]:
    yield Bar(
        "http-idle",
        "memory per idle connection",
        6,
        figure("http-idle", "ours-put", "kib_per_connection"),
        at_most=True,
        unit="KiB",
    )
    for kind in ("put", "chunked", "form", "tus"):
        grown = figure("http-bodies", f"ours-{kind}", "growth_mib")
        text = f"growth of memory with a large body ({kind})"
        yield Bar("http-bodies", text, 8, grown, at_most=True, unit="MiB")


_LARGE = figure("large", "ours", "gib_per_s")
_LARGE_CPU = figure("large", "ours", "cpu_s_per_gib")
_MANY = figure("many", "ours", "beside_gib_per_s")

BARS = (
    *_small(),
    Bar(
        "small",
        "CPU per upload with log, journal and metrics, relative to none of them",
        1.2,
        cpu("small", "ours-all", "ours-silent"),
        at_most=True,
    ),
    Bar(
        "small-durable",
        "uploads per second with fsync, relative to the plain order, one after another",
        6.5,
        rate("small-durable", "ours-fsync", "sequence"),
    ),
    Bar(
        "small-durable",
        "CPU per upload with fsync, relative to ours with --no-fsync",
        1.4,
        cpu("small-durable", "ours-fsync", "ours"),
        at_most=True,
    ),
    Bar(
        "medium",
        "CPU per upload, relative to the earlier version",
        0.6,
        cpu("medium", "ours", BEFORE),
        at_most=True,
    ),
    Bar(
        "workers",
        "uploads per second with two workers, relative to one; sender on the same two cores",
        1,
        rate("workers", "ours-2-workers", "ours"),
    ),
    Bar(
        "latency",
        "p99 latency of 4 KiB during large uploads, relative to the C receiver",
        2,
        of("latency", "p99_ms", "ours-fsync-busy", "floor-durable-busy"),
        at_most=True,
    ),
    Bar(
        "latency-ext4",
        "p50 latency of 4 KiB, one at a time, relative to the C receiver with the same fsyncs",
        1.6,
        of("latency-ext4", "p50_ms", "ours-fsync-idle", "floor-durable-idle"),
        at_most=True,
    ),
    Bar(
        "large",
        "receiver CPU per GiB, relative to the best C receiver",
        1.15,
        ratio(_LARGE_CPU, best("large", "cpu_s_per_gib", is_floor, least=True)),
        at_most=True,
    ),
    Bar(
        "large",
        "throughput, relative to the best peer",
        1.3,
        ratio(_LARGE, best("large", "gib_per_s", is_peer)),
    ),
    Bar(
        "large",
        "throughput, relative to the textbook server",
        3,
        of("large", "gib_per_s", "ours", "textbook"),
    ),
    Bar(
        "large-fsync",
        "throughput with fsync, relative to dd conv=fsync",
        0.9,
        of("large-fsync", "gib_per_s", "ours-fsync", "dd"),
    ),
    Bar(
        "large4",
        "throughput of four uploads at once, relative to one",
        1,
        ratio(figure("large4", "ours", "gib_per_s"), _LARGE),
    ),
    Bar(
        "many",
        "memory per idle connection",
        3,
        figure("many", "ours", "kib_per_connection"),
        at_most=True,
        unit="KiB",
    ),
    Bar(
        "many",
        "throughput of a large upload while all are connected, relative to alone",
        0.9,
        ratio(_MANY, figure("many", "ours", "alone_gib_per_s")),
    ),
    Bar(
        "many",
        "time to connect all, relative to plain Twisted",
        2,
        of("many", "connect_s", "ours", "plain"),
        at_most=True,
    ),
    *_clients(),
    *_http_large(),
    *_http_small(),
    *_http_memory(),
)
