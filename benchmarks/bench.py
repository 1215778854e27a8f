"""What every case works with: one run's tools, places and results."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from traceback import format_exception
from typing import TypeVar

from .build import Toolbox
from .errors import UnavailableError
from .figures import Results
from .load import Job
from .peers import Ours, Peer, Place
from .process import Receiver, free_port
from .settings import Settings
from .storage import Storage

P = TypeVar("P", bound=Peer)


class Bench:
    """One run."""

    def __init__(self, settings: Settings, tools: Toolbox, storage: Storage, source: Path) -> None:
        self.settings, self.tools, self.storage, self.source = settings, tools, storage, source
        self.results = Results()
        self._serial = 1

    def say(self, text: str) -> None:
        """Report progress to the user."""
        print(text, file=sys.stderr, flush=True)

    def ours(
        self, *, fsync: bool = False, workers: int = 1, slow: tuple[int, float] | None = None
    ) -> Ours:
        """Return our daemon, with the options that were given on the command line."""
        return Ours(fsync=fsync, workers=workers, slow=slow, more=self.settings.daemon_options)

    def serials(self, count: int) -> int:
        """Return the first of `count` serials that no other upload of this run has."""
        first, self._serial = self._serial, self._serial + count
        return first

    def job(
        self,
        peer: Peer,
        port: int,
        count: int,
        size: int,
        parallel: int = 1,
        *,
        source: bool = False,
        habit: str = "ready",
    ) -> Job:
        """Return a job for `peer`, with new serials; `source`: send from the page-cached file."""
        return Job(
            port=port, count=count, size=size, parallel=parallel,
            # curl sends the file as it is, and that is number 0.
            base=0 if peer.sender == "curl" else self.serials(count),
            protocol=peer.protocol, path=peer.path, answer=peer.answer, habit=habit,
            source=self.source if source else None, sender=peer.sender, chunk=peer.chunk,
        )  # fmt: skip

    @contextmanager
    def receiver(self, peer: Peer, directory: Path) -> Iterator[tuple[Receiver, Path]]:
        """
        Start a new receiver; yield it and the empty directory below `directory` that it
        uses.

        Both are gone afterwards.
        """
        inbox, scratch = directory / peer.name, self.storage.root / f"scratch-{peer.name}"
        for folder in (inbox, scratch):
            folder.mkdir()
            folder.chmod(0o777)
        try:
            place = Place(free_port(), inbox, scratch)
            command = peer.command(self.tools, place)
            log = scratch / "log"
            with Receiver(command, place.port, log, peer.environment(self.tools)) as receiver:
                yield receiver, inbox
        finally:
            shutil.rmtree(inbox, ignore_errors=True)
            shutil.rmtree(scratch, ignore_errors=True)

    def leave_out(self, case: str, contender: str, error: Exception) -> None:
        """Record why there is no figure; an unforeseen error is printed with its traceback."""
        reason = str(error)
        if not isinstance(error, UnavailableError | OSError):
            reason = f"{type(error).__name__}: {error}"
            self.say("".join(format_exception(error)))
        self.results.skip(case, contender, reason)
        self.say(f"{case}: {contender} left out: {reason}")

    def interleave(self, case: str, peers: Sequence[P], once: Callable[[P, int], None]) -> None:
        """
        Measure A B C, B C A, ...: changes on the machine during the run then affect all
        alike.

        A contender that cannot be measured, for whatever reason, is left out from then on,
        and the results say why; the others continue.
        """
        wanted = [peer for peer in peers if self.settings.wants_peer(peer.name)]
        for number in range(self.settings.rounds):
            first = number % len(wanted) if wanted else 0
            for peer in [*wanted[first:], *wanted[:first]]:
                self.say(f"{case}: round {number + 1} of {self.settings.rounds}: {peer.name}")
                try:
                    once(peer, number)
                except Exception as error:
                    self.leave_out(case, peer.name, error)
                    wanted.remove(peer)
