"""The speed suite: its limits, its comparisons, and that no failure stops a run."""

from __future__ import annotations

import json
import shutil
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("benchmarks", reason="the sdist has no speed suite")

from benchmarks.__main__ import failures, parse, run_cases
from benchmarks.bars import BARS, Bar
from benchmarks.bench import Bench
from benchmarks.build import Toolbox
from benchmarks.cases import CASES
from benchmarks.content import blocks, inspect, write_source
from benchmarks.errors import UnavailableError
from benchmarks.figures import Results
from benchmarks.job import Job
from benchmarks.load import send
from benchmarks.machine import about, how_built, interpreter
from benchmarks.peers import By, DurableFloor, Everything, Ours, OursHTTP, Peer, Place, Silent
from benchmarks.plot import draw, drawn
from benchmarks.process import Receiver, free_port
from benchmarks.report import write
from benchmarks.settings import KIB, MIB, Settings
from benchmarks.storage import Storage
from tests.support.daemon import connect, finish

CPU, RATE, LARGE_CPU, LARGE = "cpu_us_per_upload", "uploads_per_s", "cpu_s_per_gib", "gib_per_s"

Figure = tuple[str, str, str]

TABLE: tuple[tuple[str, Figure, Figure | None, float], ...] = (
    ("at most", ("small", "ours", CPU), ("small", "floor-loop", CPU), 2.2),
    ("at most", ("small-single", "ours", CPU), ("small-single", "floor-loop", CPU), 3),
    ("at most", ("small-slow", "ours", CPU), ("small-slow", "floor-loop", CPU), 3),
    ("at least", ("small", "ours", RATE), ("small", "textbook", RATE), 3),
    ("at least", ("small-single", "ours", RATE), ("small-single", "textbook", RATE), 3),
    ("at least", ("small-slow", "ours", RATE), ("small-slow", "textbook", RATE), 3),
    ("at most", ("small", "ours", "lost"), None, 0),
    ("at most", ("small-single", "ours", "lost"), None, 0),
    ("at most", ("small-slow", "ours", "lost"), None, 0),
    ("at most", ("small", "ours-all", CPU), ("small", "ours-silent", CPU), 1.2),
    ("at least", ("small-durable", "ours-fsync", RATE), ("small-durable", "sequence", RATE), 6.5),
    ("at most", ("small-durable", "ours-fsync", CPU), ("small-durable", "ours", CPU), 1.4),
    ("at most", ("medium", "ours", CPU), ("medium", "ours-before", CPU), 0.6),
    (
        "at most",
        ("latency-ext4", "ours-fsync-idle", "p50_ms"),
        ("latency-ext4", "floor-durable-idle", "p50_ms"),
        1.6,
    ),
    (
        "at most",
        ("latency", "ours-fsync-busy", "p99_ms"),
        ("latency", "floor-durable-busy", "p99_ms"),
        2,
    ),
    ("at least", ("workers", "ours-2-workers", RATE), ("workers", "ours", RATE), 1),
    ("at most", ("large", "ours", LARGE_CPU), ("large", "floor-splice", LARGE_CPU), 1.15),
    ("at least", ("large4", "ours", LARGE), ("large", "ours", LARGE), 1),
    ("at most", ("many", "ours", "kib_per_connection"), None, 3),
    (
        "at most",
        ("http-large", "ours-put-sendfile", LARGE_CPU),
        ("http-large", "nginx-sendfile", LARGE_CPU),
        1,
    ),
    (
        "at least",
        ("http-large-fsync", "ours-put-fsync", LARGE),
        ("http-large-fsync", "dd", LARGE),
        0.9,
    ),
    ("at least", ("tus-chunks", "ours-tus", LARGE), ("tus-chunks", "tus-node", LARGE), 3),
    ("at most", ("http-small", "ours-put", CPU), ("http-small", "nginx", CPU), 1.5),
    ("at most", ("http-small", "ours-put", CPU), ("http-small", "ours", CPU), 1.3),
    (
        "at least",
        ("http-small-durable", "ours-put-fsync", RATE),
        ("http-small-durable", "ours-fsync", RATE),
        0.8,
    ),
    ("at most", ("http-idle", "ours-put", "kib_per_connection"), None, 6),
    ("at most", ("http-bodies", "ours-put", "growth_mib"), None, 8),
)
"""What is measured, what it is divided by, and its upper or lower limit."""


def settings(folder: Path, *, rounds: int = 1, cases: tuple[str, ...] = ()) -> Settings:
    return Settings(directory=folder, out=None, rounds=rounds, cases=cases)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A run of three rounds that has measured nothing yet."""
    return Bench(
        settings(tmp_path, rounds=3), Toolbox(tmp_path / "tools"), Storage(tmp_path), tmp_path
    )


def results(*figures: tuple[Figure, float]) -> Results:
    """Return the results of a run with these figures."""
    found = Results()
    for (case, contender, name), value in figures:
        found.add(case, contender, contender, 0, {name: value})
    return found


def reached(found: Results) -> dict[Bar, float]:
    """Return the bars for which a run has figures."""
    every = {bar: bar.figure(found) for bar in BARS}
    return {bar: value for bar, value in every.items() if value is not None}


@pytest.mark.parametrize(("way", "ours", "other", "limit"), TABLE)
def test_bars(way: str, ours: Figure, other: Figure | None, limit: float) -> None:
    """A bar is met at its limit, missed beyond it, and not measured if a figure is missing."""
    below = [(other, 1000.0)] if other else []
    scale = 1000 if other else 1
    beyond = 0.1 if way == "at most" else -0.1
    [(bar, value)] = reached(results((ours, limit * scale), *below)).items()
    assert bar.words() == f"{way} {limit:g} {bar.unit}"
    assert value == pytest.approx(limit)
    assert bar.met(limit)
    past = reached(results((ours, (limit + beyond) * scale), *below))
    assert not bar.met(past[bar])
    if other:
        assert bar not in reached(results((ours, 1.0)))
        assert bar not in reached(results((other, 1.0)))


def test_best_http_peer() -> None:
    """A large upload by curl is compared with the best peer to which curl sends, PUT or tus."""
    found = results(
        (("http-large", "ours-put", LARGE_CPU), 0.5),
        (("tus-large", "ours-tus", LARGE_CPU), 0.6),
        (("http-large", "nginx", LARGE_CPU), 2.0),
        (("http-large", "nginx-sendfile", LARGE_CPU), 0.1),
        (("http-large", "aiohttp", LARGE_CPU), 1.0),
    )
    by_text = {(bar.case, bar.limit): value for bar, value in reached(found).items()}
    assert by_text == {
        ("http-large", 0.6): 0.5,
        ("http-large", 0.4): 0.25,
        ("tus-large", 0.6): 0.6,
        ("tus-large", 0.4): 0.3,
    }


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_curl(tmp_path: Path) -> None:
    """What curl sends is acknowledged only with a status of success, and found in the file."""
    source = write_source(tmp_path / "source", MIB)
    peer = By(OursHTTP("put"), "curl")
    with receiving(peer, tmp_path) as (receiver, place):
        job = Job(receiver.port, 1, 64 * KIB, 1, 0, "put", source=source, sender="curl")
        sent = send(Toolbox(tmp_path / "tools"), job)
        refused = send(Toolbox(tmp_path / "tools"), replace(job, path="/no/such/place/"))
        stored = inspect(place.directory, 64 * KIB, source)
    assert (set(sent.acknowledged), sent.failed, stored.whole) == ({0}, 0, {0})
    assert (refused.acknowledged, refused.failed) == (frozenset(), 1)


@pytest.mark.parametrize(("protocol", "chunk"), [("put", 0), ("tus", 20 * KIB)])
def test_connections_that_stay_open(tmp_path: Path, protocol: str, chunk: int) -> None:
    """The C program for HTTP sends many uploads over a few connections, each different."""
    source = write_source(tmp_path / "source", 64 * KIB) if chunk else None
    peer = By(OursHTTP(protocol), "keep-alive", chunk=chunk)
    with receiving(peer, tmp_path) as (receiver, place):
        job = Job(
            receiver.port, 50, 64 * KIB, 4, 7, protocol, path=peer.path, source=source,
            sender="keep-alive", chunk=chunk,
        )  # fmt: skip
        sent = send(Toolbox(tmp_path / "tools"), job)
        stored = inspect(place.directory, 64 * KIB, source)
    assert sent.acknowledged == stored.whole == {*range(7, 57)}
    assert (sent.failed, stored.broken, stored.copies) == (0, 0, 0)


def test_cases_of_bars() -> None:
    """Every bar belongs to a case that is run; `client` has two kinds of receiver."""
    assert {bar.case for bar in BARS} <= {*CASES, "client-sink"}


class Contender(Peer):
    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name = self.label = name
        self.error = error


def rounds_of(bench: Bench, peers: Sequence[Contender]) -> list[tuple[int, str]]:
    """Run rounds without measuring, and return their order."""
    order = []

    def once(peer: Contender, number: int) -> None:
        order.append((number, peer.name))
        if peer.error is not None:
            raise peer.error

    bench.interleave("small", peers, once)
    return order


def test_rounds_are_interleaved(bench: Bench) -> None:
    """Each round has every contender once, and starts with a different one."""
    order = rounds_of(bench, [Contender("a"), Contender("b"), Contender("c")])
    in_turns = ["".join(name for number, name in order if number == it) for it in range(3)]
    assert in_turns == ["abc", "bca", "cab"]


@pytest.mark.parametrize("error", [UnavailableError("no"), OSError("no"), ValueError("no")])
def test_contender_fails(bench: Bench, error: Exception) -> None:
    """A contender that fails, for any reason, is left out from then on; the others continue."""
    order = rounds_of(bench, [Contender("a", error), Contender("b")])
    assert order == [(0, "a"), (0, "b"), (1, "b"), (2, "b")]
    assert "no" in bench.results.skipped["small"]["a"]


def test_case_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing case does not prevent the others, and is reported at the end."""

    def works(bench: Bench) -> None:
        bench.results.add("large4", "ours", "ours", 0, {"lost": 0})

    def fails(bench: Bench) -> None:
        raise KeyError("nobody knows")

    monkeypatch.setitem(CASES, "large", fails)
    monkeypatch.setitem(CASES, "large4", works)
    chosen = settings(tmp_path, cases=("large", "large4"))
    bench = Bench(chosen, Toolbox(tmp_path), Storage(tmp_path), tmp_path)
    run_cases(bench)
    assert bench.results.rounds("large4", "ours")
    assert bench.results.seconds.keys() == {"large", "large4"}
    assert failures(chosen, bench.results) == ["large: KeyError('nobody knows')"]


def test_failures(tmp_path: Path) -> None:
    """A loss in this daemon is a failure, in every variant; one in another receiver is not."""
    others = (("small", "textbook", "lost"), 7.0), (("medium", "ours-before", "lost"), 7.0)
    assert failures(settings(tmp_path), results(*others)) == []
    lost = (("small", "ours-all", "lost"), 2.0)
    assert failures(settings(tmp_path), results(*others, lost)) == ["small: ours-all: 2 lost"]


def test_before(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The interpreter of an earlier version is an error at once if it has no daemon."""
    assert parse([]).before is None
    assert parse(["--before", sys.executable]).before == Path(sys.executable)
    with pytest.raises(SystemExit):
        parse(["--before", str(tmp_path / "python")])
    assert "no twistd beside" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("'--enable-optimizations' '--with-lto'", "with PGO, with LTO"),
        ("--with-lto=full --prefix=/usr", "without PGO, with LTO"),
        ("'--enable-optimizations' --without-lto", "with PGO, without LTO"),
        ("--with-lto=no", "without PGO, without LTO"),
        ("", "without PGO, without LTO"),
        (None, "nobody knows how"),
    ],
)
def test_build(arguments: str | None, words: str) -> None:
    """The optimizations of an interpreter are read from the arguments of its configure."""
    assert how_built(arguments) == words


def test_interpreter() -> None:
    """An interpreter reports its version, its build and its daemon."""
    found = about(Path(sys.executable))
    assert interpreter(found).startswith(f"{sys.version.split()[0]}, ")
    assert found["version"] != "not installed"


def test_report(tmp_path: Path) -> None:
    """The report has the machine, the durations, and each bar with the figure reached."""
    found = results((("small", "ours", CPU), 90.0), (("small", "floor-loop", CPU), 50.0))
    found.seconds.update(small=30, large=90)
    text = write(tmp_path, settings(tmp_path), {"Python": "4"}, found, None).read_text()
    assert "- Python: 4\n" in text
    assert "- took 2 minutes, of it in seconds: large 90, small 30\n" in text
    assert "| at most 2.2 x | 1.80 x | met |" in text
    assert text.count("| - | not measured |") == len(BARS) - 1
    assert json.loads((tmp_path / "results.json").read_text())["seconds"]["large"] == 90


def test_picture(tmp_path: Path) -> None:
    """The picture has synced and unsynced figures; of this daemon, only comparable ones."""
    pytest.importorskip("matplotlib")
    found = results(
        (("large", "ours", LARGE), 2.0),
        (("small", "ours", RATE), 9.0),
        (("small", "ours-silent", RATE), 9.0),
        (("small-durable", "ours-fsync", RATE), 9.0),
        (("small-durable", "ours", RATE), 9.0),
    )
    assert list(drawn(found, "small")) == ["ours"]
    assert list(drawn(found, "small-durable")) == ["ours-fsync"]
    picture = draw(found, tmp_path / "speed.svg").read_text()
    assert "small uploads, synced, per second" in picture


@contextmanager
def receiving(peer: Peer, folder: Path) -> Iterator[tuple[Receiver, Place]]:
    """A receiver as the suite starts it."""
    place = Place(free_port(), folder / "inbox", folder / "scratch")
    place.directory.mkdir()
    place.scratch.mkdir()
    try:
        command = peer.command(Toolbox(folder / "tools"), place)
    except UnavailableError as error:
        pytest.skip(str(error))
    with Receiver(command, place.port, place.scratch / "log") as receiver:
        yield receiver, place


def upload(port: int, data: bytes) -> str:
    """Send one upload; returns the answer."""
    with connect(socket.AF_INET, ("127.0.0.1", port)) as peer:
        peer.sendall(data)
        return finish(peer).decode()


def test_daemon_with_all_output(tmp_path: Path) -> None:
    """The daemon with all output has a log file, a journal and metrics."""
    with receiving(Everything(), tmp_path) as (receiver, place):
        assert upload(receiver.port, b"x" * 16) == "上传成功"
        assert (place.scratch / "metrics").is_socket()
        [file] = place.directory.glob("*.bin")
    assert file.name in (place.scratch / "twistd.log").read_text()
    assert json.loads((place.scratch / "journal").read_text().splitlines()[0])["size"] == 16


@pytest.mark.parametrize(("peer", "tells"), [(Ours(fsync=False), True), (Silent(), False)])
def test_daemon_without_log(tmp_path: Path, peer: Peer, *, tells: bool) -> None:
    """The daemon has a log by default, and the variant for comparison has none."""
    with receiving(peer, tmp_path) as (receiver, place):
        assert upload(receiver.port, b"x" * 16) == "上传成功"
        [file] = place.directory.glob("*.bin")
    assert (file.name in receiver.log.read_text()) is tells


@pytest.mark.parametrize("size", [16, 4 * KIB, 64 * KIB, MIB + 16])
def test_durable_floor(tmp_path: Path, size: int) -> None:
    """The C receiver that syncs has stored what it acknowledges, small or large."""
    with receiving(DurableFloor(), tmp_path) as (receiver, place):
        assert upload(receiver.port, blocks(7, 0, size // 16)) == "上传成功"
        stored = inspect(place.directory, size)
        assert (stored.whole, stored.broken) == ({7}, 0)
        assert len(list(place.directory.iterdir())) == 1


def test_cpu_of_a_receiver(tmp_path: Path) -> None:
    """A receiver's CPU time grows with its work, with a finer resolution than ticks of /proc."""
    with receiving(DurableFloor(), tmp_path) as (receiver, _):
        before = receiver.cpu()
        upload(receiver.port, bytes(16))
        assert 0 < receiver.cpu() - before < 10
