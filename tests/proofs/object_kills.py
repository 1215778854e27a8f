"""
``python -m tests.proofs.object_kills --daemons 100 --engines 50``: the daemon stores into an
object store, and is killed with -9 at a random moment, under load; or the object store is.

After each kill, no visible object is partial, and every upload whose success had been read is
in the bucket, whole, once.  After each start of the daemon, what it had begun is aborted: no
multipart upload is pending, and so nothing that nobody sees is stored.

The uploads are small and large, over raw TCP and HTTP.  With the argument ``ceph``
it is Ceph (`tests.engines.ceph`), which is not killed.  ``--steal`` removes an object before
each comparison, to show that it is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.engines import ceph
from tests.engines.engine import Engine
from tests.engines.seaweedfs import MISSING, SeaweedFS, program
from tests.proofs import rigs
from tests.proofs.http_load import HttpSenders
from tests.proofs.load import MIXED, Contents, Ledger, Senders, visible
from tests.proofs.object_verdict import ObjectVerdict
from tests.proofs.servant import Servant

SIZES = (*MIXED, 7_000_000, 18_000_000)
"""Size of the largest upload of each kind in bytes: also what takes several parts."""

RAW_AT_A_TIME, HTTP_AT_A_TIME = 16, 6
HTTP = "--http=tcp:0:interface=127.0.0.1"
RAW = "--port=0", "--interface=127.0.0.1"


class Load:
    """Senders of both kinds for one daemon."""

    def __init__(self, daemon: Servant, ledger: Ledger) -> None:
        (raw, http) = [address for _, address in daemon.addresses if isinstance(address, tuple)]
        self._raw = Senders(raw, ledger, at_a_time=RAW_AT_A_TIME)
        self.http = HttpSenders(http, ledger, at_a_time=HTTP_AT_A_TIME)

    def start(self) -> None:
        """Begin."""
        self._raw.start()
        self.http.start()

    def stop(self) -> None:
        """Stop; the uploads in flight are reset."""
        self._raw.stop()
        self.http.stop()


class Kills:
    """
    The rounds of one engine.

    :ivar verdict: the comparison, with the errors found.
    """

    def __init__(
        self, work: Path, engine: Engine, chance: random.Random, *, steal: bool = False
    ) -> None:
        self._place = place = engine.place()
        self._steal = steal
        self.ledger = Ledger(Contents(SIZES))
        self.verdict = ObjectVerdict(place, self.ledger)
        self._work = work
        self._chance = chance
        self._options = [*RAW, HTTP, f"--store={place.url}", "--node=one"]
        self._environment = engine.environment()
        self._names: dict[int, str] = {}
        self._left = self.verdict.left()

    @property
    def wrong(self) -> list[str]:
        """Return the errors found."""
        return self.verdict.wrong

    def kill_daemon(self) -> None:
        """Run the daemon until it is killed."""
        with self._daemon() as daemon:
            self.verdict.wait_until_gone(self._left)
            load = Load(daemon, self.ledger)
            load.start()
            try:
                self._wait()
                if self._chance.random() < 0.1:  # sometimes, while it stops
                    daemon.signal(signal.SIGTERM)
                    time.sleep(self._chance.uniform(0, 0.3))
                daemon.signal(signal.SIGKILL)
                daemon.wait_for_end()
            finally:
                load.stop()
            self._heard(load, daemon)
        if self._steal:
            self._lose_an_object()
        self.verdict.look()
        self._left = self.verdict.left()

    def kill_engine(self, server: SeaweedFS, times: int) -> None:
        """Kill the engine of one daemon, and start it again, a number of times."""
        with self._daemon() as daemon:
            self.verdict.wait_until_gone(self._left)
            for _ in range(times):
                load = Load(daemon, self.ledger)
                load.start()
                try:
                    self._wait()
                    server.kill()
                    time.sleep(self._chance.uniform(0, 1))
                    server.start()
                    if not self.ledger.wait_for(len(self.ledger.acknowledged) + 10, 60):
                        self.wrong.append("nothing is stored after the engine is back")
                finally:
                    load.stop()
                self._heard(load, daemon)
                self.verdict.look()
            daemon.signal(signal.SIGTERM)
            daemon.wait_for_end()
        self._left = self.verdict.left()

    def finish(self) -> None:
        """Start the daemon once more, and compare everything."""
        with self._daemon() as daemon:
            self.verdict.wait_until_gone(self.verdict.left())
            daemon.stop()
        self.verdict.look_at_the_end(self._names)
        self.verdict.clear()

    def _daemon(self) -> Servant:
        return Servant(self._work, *self._options, environment=self._environment)

    def _wait(self) -> None:
        """Wait until the moment of a kill."""
        if self._chance.random() < 0.5 and not self._steal:  # at any moment, ...
            time.sleep(self._chance.uniform(0, 2))
        else:  # ... or right after a success has been read
            before = len(self.ledger.acknowledged)
            self.ledger.wait_for(before + 10, 20)
            self.ledger.wait_for(before + self._chance.randint(10, 200), 2)

    def _lose_an_object(self) -> None:
        """Remove an object, as an object store does that loses it."""
        witness, acknowledged = self._place.witness, {*self.ledger.acknowledged}
        for key in witness.objects(self._place.prefix):
            if self.ledger.contents.number(witness.get(key)) in acknowledged:
                witness.remove(key)
                return

    def _heard(self, load: Load, daemon: Servant) -> None:
        self._names.update(load.http.names)
        self.wrong.extend(load.http.wrong)
        if "Traceback" in daemon.log.read_text(errors="replace"):
            self.wrong.append("a traceback in the log")
        self.wrong.extend(f"visible on the node: {name}" for name in visible(str(daemon.directory)))


@contextlib.contextmanager
def seaweedfs(work: Path) -> Iterator[SeaweedFS]:
    """
    Run SeaweedFS.

    :raises rigs.Skip: it is not installed.
    """
    if program() is None:
        raise rigs.Skip(MISSING)
    with SeaweedFS(work / "weed") as server:
        yield server


def chosen(engine: str, work: Path, stack: contextlib.ExitStack) -> tuple[Engine, SeaweedFS | None]:
    """
    Return an engine, and what can kill it.

    :raises rigs.Skip: it is not installed.
    """
    if engine == "ceph":
        found = ceph.running()
        if found is None:
            raise rigs.Skip(ceph.MISSING)
        return found, None
    server = stack.enter_context(seaweedfs(work))
    return server.engine, server


def rounds(arguments: argparse.Namespace, work: Path) -> Sequence[str]:
    """Kill, restart, compare, print the table."""
    chance = random.Random(arguments.seed)
    with contextlib.ExitStack() as stack:
        found, server = chosen(arguments.engine, work, stack)
        kills = Kills(work, found, chance, steal=arguments.steal)
        for _ in range(arguments.daemons):
            kills.kill_daemon()
        if server is not None and arguments.engines:
            kills.kill_engine(server, arguments.engines)
        kills.finish()
    ledger, verdict = kills.ledger, kills.verdict.verdict
    titles = ("daemon kills", "engine kills", "sent", "acknowledged", "missing", "partial")
    rigs.heading("engine", *titles, "pending, and aborted")
    missing = len(verdict.missing(ledger.acknowledged))
    killed = (arguments.daemons, arguments.engines if server is not None else 0)
    told = (ledger.begun, len(ledger.acknowledged), missing, len(verdict.partial))
    rigs.row(arguments.engine, *killed, *told, kills.verdict.pending)
    if not ledger.acknowledged:
        kills.wrong.append("nothing was acknowledged, so it proves nothing")
    return kills.wrong


def main() -> Sequence[str]:
    """Run the rounds."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.object_kills")
    parser.add_argument("engine", nargs="?", choices=["seaweedfs", "ceph"], default="seaweedfs")
    parser.add_argument("--daemons", type=int, default=100, help="kills of the daemon")
    parser.add_argument("--engines", type=int, default=50, help="kills of SeaweedFS")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--steal", action="store_true", help="lose objects")
    parser.add_argument("--folder", help="where to work; needs some GB")
    arguments = parser.parse_args()
    with rigs.workplace(arguments.folder) as work:
        return rounds(arguments, work)


if __name__ == "__main__":
    rigs.command(main)
