"""
Senders, against servers that keep their promises, and against some that do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from tests.simulation.choices import Choices
from tests.simulation.history import ABORTED, LOST, REFUSED, STORED, Attempt, History, Violation
from tests.simulation.model_server import HttpServer, Serve
from tests.simulation.scheduler import Scheduler
from tests.simulation.senders.kinds import KINDS
from tests.simulation.senders.scene import Scene, Sizes, Target

SIZES = Sizes(tiny=0, small=1, middle=0, large=0, huge=0)


class Connection:
    """The sender's side of a connection to a server in memory."""

    def __init__(self, scheduler: Scheduler, line: Any, serve: Serve) -> None:
        self._scheduler = scheduler
        self._line = line
        self._serve = serve
        self._data = b""
        self._over = False
        self.address = ("10.0.0.7", 50000)

    def send(self, data: bytes) -> int:
        self._data += data
        self._scheduler.call_later(0.01, self._answer, False)
        return len(data)

    def urgent(self, data: bytes) -> bool:
        self.send(data)
        return True

    def half_close(self) -> None:
        self._scheduler.call_later(0.01, self._answer, True)

    def reset(self) -> None:
        self._over = True

    close = vanish = reset

    def stop_reading(self) -> None:
        self._line = Silent()

    def _answer(self, ended: bool) -> None:
        while not self._over:
            answer = self._serve(self._data, ended)
            if answer is None:
                if ended:
                    self._over = True
                    self._line.ended()
                return
            data, last = answer
            self._data = b""
            self._line.received(data)
            if last and not self._over:
                self._over = True
                self._line.ended()


class Silent:
    """A sender that does not read."""

    def received(self, data: bytes) -> None:
        pass

    def ended(self) -> None:
        pass


class Net:
    """A network with one server; without one, nobody can connect."""

    def __init__(self, scheduler: Scheduler, server: Callable[[], Serve] | None) -> None:
        self._scheduler = scheduler
        self._server = server

    def connect(self, line: Any, host: str, port: int, *, address: str, choices: Any) -> None:
        if self._server is None:
            self._scheduler.call_later(0.01, line.lost, True)
        else:
            connection = Connection(self._scheduler, line, self._server())
            self._scheduler.call_later(0.01, line.connected, connection)


def run(kind: str, server: Callable[[], Serve] | None, seed: int = 1, **facts: Any) -> History:
    """Run one sender until it ends; return what it was told."""
    scheduler = Scheduler(Choices(seed))
    history = History(lambda: scheduler.now)
    net, ports = Net(scheduler, server), [Target("10.0.0.1", 1)]
    scene = Scene(scheduler, net, history, raw=ports, http=ports, sizes=SIZES)
    for name, value in facts.items():
        setattr(scene.facts, name, value)
    KINDS[kind](scene, Choices(seed), 3).start()
    scheduler.run(until=5000.0)
    assert not scene.running
    assert all(it.ended is not None for it in history.attempts.values())
    return history


def told(history: History) -> list[str]:
    """Return what each attempt was told."""
    return [it.told for it in history.attempts.values()]


def always(answer: bytes) -> Callable[[], Serve]:
    """Return a raw server that answers so at the end."""
    return lambda: lambda data, ended: (answer, True) if ended else None


def with_receipt(data: bytes, ended: bool) -> tuple[bytes, bool] | None:
    """Answer as a raw server with receipts does."""
    if not ended:
        return None
    digest = hashlib.sha256(data).hexdigest()
    return f"上传成功 1.bin {len(data)} {digest}\n".encode(), True


@pytest.mark.parametrize("kind", ["raw-whole", "raw-pieces", "raw-urgent"])
def test_raw(kind: str) -> None:
    """Senders of raw TCP note success, once."""
    assert told(run(kind, always("上传成功".encode()))) == [STORED]


def test_raw_with_receipts() -> None:
    """They compare a receipt with what they have sent."""
    history = run("raw-whole", lambda: with_receipt, receipts=True)
    assert [*history.names] == ["1.bin"]


def test_raw_refused() -> None:
    """They note the code of a refusal, and try again only if that may help."""
    history = run("raw-whole", always("上传失败: too-large no\n".encode()))
    assert [(it.told, it.code) for it in history.attempts.values()] == [(REFUSED, "too-large")]
    history = run("raw-whole", always("上传失败: busy later\n".encode()))
    assert told(history) == [REFUSED] * 3
    assert len(history.contents) == 1


@pytest.mark.parametrize(
    "answer",
    [
        "上传成功\n",
        "上传成",
        "上传成功上传成功",
        "上传失败: nonsense no\n",
        "上传失败: busy no",
        "上传失败: busy no\n上传成功",
        "上传成功 1.bin 3 " + "0" * 64 + "\n",
    ],
)
def test_raw_wrong_answers(answer: str) -> None:
    """An answer that is none of those that there are is a violation."""
    with pytest.raises(Violation, match="wrong answer"):
        run("raw-whole", always(answer.encode()))


def test_raw_wrong_receipt() -> None:
    """A receipt of other bytes is a violation."""
    answer = f"上传成功 1.bin 3 {'0' * 64}\n".encode()
    with pytest.raises(Violation, match="size"):
        run("raw-whole", always(answer), receipts=True)


def test_raw_lost() -> None:
    """A connection that ends without an answer, or that cannot be made, is noted as lost."""
    assert set(told(run("raw-whole", always(b"")))) == {LOST}
    assert set(told(run("raw-whole", None))) == {LOST}


@pytest.mark.parametrize(
    "kind", ["raw-reset", "raw-vanish", "raw-slow", "raw-no-end", "raw-leaves"]
)
@pytest.mark.parametrize("seed", range(4))
def test_those_that_do_not_end_well(kind: str, seed: int) -> None:
    """Senders that break off come to their end."""
    for attempt in run(kind, always("上传成功".encode()), seed).attempts.values():
        assert attempt.told != REFUSED


PLAIN = ("http-put", "http-keep-alive", "http-pipelining")


@pytest.mark.parametrize("kind", PLAIN)
@pytest.mark.parametrize("seed", range(12))
def test_http(kind: str, seed: int) -> None:
    """Senders of HTTP note success for each file; a wrong digest is refused."""
    server = HttpServer()
    history = run(kind, server, seed)
    stored = [it for it in history.attempts.values() if it.told == STORED]
    assert [it.data() for it in stored] == server.files
    assert all(
        it.told == STORED or it.code == "digest-mismatch" for it in history.attempts.values()
    )


@pytest.mark.parametrize("lie", ["twice", "digest", "size", "status"])
def test_http_lies(lie: str) -> None:
    """Two responses, a wrong size, a wrong status, an unchecked digest are violations."""
    seeds = range(30)
    found = 0
    for seed in seeds:
        try:
            run("http-keep-alive", HttpServer(lie), seed)
        except Violation:
            found += 1
    assert found >= (3 if lie == "digest" else 20)


def test_silence_that_nobody_notices() -> None:
    """Who sends nothing must be noticed, if nothing goes wrong that could prevent it."""
    silent = always(b"x")
    run("hostile-idle", silent)
    with pytest.raises(Violation, match="silent for"):
        run("hostile-idle", silent, quiet_from=0.0, idle_timeout=10.0)


LEAVES = (6, 7)
"""Seeds whose senders leave their upload after a piece that does not count."""

RESUMED = ("tus-resume", "tus-defer", "tus-checksum", "tus-rivals", "tus-concat", "tus-overrun")


@pytest.mark.parametrize("kind", RESUMED)
@pytest.mark.parametrize("seed", range(8))
def test_tus(kind: str, seed: int) -> None:
    """Senders of tus resume until all of their file is stored, or leave after a wrong piece."""
    server = HttpServer()
    history = run(kind, server, seed)
    done: list[Attempt] = [it for it in history.attempts.values() if not it.partial]
    if kind == "tus-checksum" and seed in LEAVES:
        assert [it.told for it in done] == [ABORTED]
        return
    assert done[-1].told == STORED
    assert all(kind == "tus-concat" and it.told == LOST for it in done[:-1])  # it has left
    assert done[0].data() in server.files


@pytest.mark.parametrize("kind", ["tus-delete", "tus-expire"])
@pytest.mark.parametrize("seed", range(4))
def test_tus_without_an_end(kind: str, seed: int) -> None:
    """Those that remove, or forget, their upload come to their end."""
    run(kind, HttpServer(), seed)


@pytest.mark.parametrize(
    ("lie", "kind"),
    [
        ("back", "tus-resume"),
        ("nameless", "tus-resume"),
        ("checksum", "tus-checksum"),
        ("past", "tus-overrun"),
        ("twice", "tus-resume"),
    ],
)
def test_tus_lies(lie: str, kind: str) -> None:
    """Offsets that go back, files without a name, wrong checksums that pass are violations."""
    found = 0
    for seed in range(20):
        try:
            run(kind, HttpServer(lie), seed)
        except Violation:
            found += 1
    assert found >= 5


def test_tus_forgotten() -> None:
    """An upload that is gone although it was just there is a violation."""

    class Forgets(HttpServer):
        def _state(self, path: str, status: int, **more: Any) -> bytes:
            state = super()._state(path, status, **more)
            self.partials.clear()
            return state

    with pytest.raises(Violation, match="gone too early"):
        run("tus-resume", Forgets(), 3)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("hostile")])
def test_hostile(kind: str) -> None:
    """Those that abuse a server come to their end."""
    run(kind, lambda: lambda data, ended: None)
