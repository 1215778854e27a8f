"""
Real clients among the senders: each on its own machine, killed and started again.
"""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from typing import Any, BinaryIO, ClassVar, cast

from tests.simulation.choices import Choices
from tests.simulation.clients import STATE, ClientMachine, RunningUpload
from tests.simulation.history import Attempt
from tests.simulation.oracles.clients import ClientWords
from tests.simulation.senders.scene import Scene
from tests.simulation.senders.sender import Script, Sender
from twisted_upload.client.system import ClientSystem
from twisted_upload.errors import OutcomeUnknown, UploadError, UploadRefused

__all__ = ["CLIENTS", "ClientSender", "Trickle", "machine_for"]

MOST_RUNS = 4

ENDS_WITHIN = 600.0
"""Seconds in which a client ends: its longest timeouts, one after the other."""

_SENDING = (
    *("connect", "send", "sendfile", "recv", "poll", "shutdown", "close", "setsockopt"),
    *("open", "read_at", "write", "fsync", "replace", "unlink", "lock", "status"),
)


class Trickle(io.RawIOBase):
    """
    A program's output: it can be read once, and reading waits.

    :param pause: waits between two pieces, if it is not 0.
    """

    def __init__(
        self, data: bytes, piece: int, pause: Callable[[float], None], seconds: float
    ) -> None:
        super().__init__()
        self._left = memoryview(data)
        self._piece = piece
        self._pause = pause
        self._seconds = seconds

    def readable(self) -> bool:
        """Return true."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return the next piece."""
        if self._seconds:
            self._pause(self._seconds)
        size = self._piece if size < 0 else min(size, self._piece)
        data, self._left = bytes(self._left[:size]), self._left[size:]
        return data


def machine_for(sender: Sender, name: str) -> ClientMachine:
    """
    Make the machine of a sender.

    :param name: for the trace, without its number.
    """
    scene, choices = sender.scene, sender.choices
    return ClientMachine(
        scene.scheduler,
        scene.network,
        choices.fork("machine"),
        f"{name}{sender.number}",
        address=sender.address,
        profile=choices.weighted({"ext4": 2, "xfs": 1, "btrfs": 1, "weakest": 2}),
        preemption=choices.pick((0.0, 0.0, 0.05, 0.3)),
    )


class ClientSender(Sender):
    """
    Sends a file with the real client, again and again until it is stored, as its user would.

    :cvar scheme: of its target.
    """

    honest: ClassVar[bool] = False  # it may be killed at any moment
    scheme: ClassVar[str] = ""

    def __init__(self, scene: Scene, choices: Choices, number: int) -> None:
        super().__init__(scene, choices, number)
        if not self.needs_http:
            self.target = scene.raw[0]  # a port, and no unix socket
        self._words = ClientWords(scene.history)
        self._machine = machine_for(self, "client")
        self._forgets = False  # whether what it remembers may be lost

    def script(self) -> Script:
        """Send it, and send it again."""
        choices, attempt = self.choices, self.begin()
        self._machine.disk.plant("/home/file.bin", attempt.data())
        is_file = choices.chance(0.8)
        self._source = "/home/file.bin" if is_file else self._stream(attempt, choices)
        arguments = self._arguments(choices)
        resumes = is_file and self.needs_http and choices.chance(0.8)
        for number in range(MOST_RUNS):
            attempt.complete, attempt.sent = True, attempt.size
            running = RunningUpload(
                self._machine,
                self._source,
                self._url,
                ended=self.wake,
                resumes=resumes,
                by_twisted=arguments["retry"] is None and choices.chance(0.3),
                **arguments,
            )
            self._forgets = False
            if number < MOST_RUNS - 1:
                self._disturb(running, choices)
            began = self.scene.scheduler.now
            while not running.is_over:
                yield 100.0
                since = max(began, self.scene.facts.calm)
                self._words.check_ends(attempt, since=since, within=ENDS_WITHIN)
            self._machine.disk.faults.none()
            if running.receipt is not None:
                self._words.check_receipt(attempt, running.receipt)
                return
            error = running.error
            if error is not None:
                finishing = resumes and self._remembers('"finishing": true')
                self._words.check_error(attempt, error, finishing=finishing)
                safe = isinstance(error, UploadError) and error.safe_to_repeat
                if not (safe or choices.chance(0.2)):
                    return
            yield from self.pause(choices.between(0.0, 3.0))
            # What is remembered for certain is the same upload; anything else is another one.
            forgets = self._forgets or (error is None and not self._remembers())
            if not resumes or forgets or isinstance(error, UploadRefused | OutcomeUnknown):
                attempt = self._another(attempt)

    def _remembers(self, what: str = "") -> bool:
        """Return whether an upload is remembered of which this is known."""
        disk = self._machine.disk
        names = disk.names(STATE) if disk.exists(STATE) else []
        return any(
            it.endswith(".json") and what.encode() in disk.content(f"{STATE}/{it}") for it in names
        )

    def _another(self, attempt: Attempt) -> Attempt:
        history = self.scene.history
        history.lost(attempt)
        history.end(attempt)
        again = self.begin(again=attempt)
        again.began = attempt.began  # if something is remembered, it goes on with the former one
        return again

    @property
    def _url(self) -> str:
        host, port = self.target.host, self.target.port
        return f"http://{host}:{port}/" if self.needs_http else f"{host}:{port}"

    def _stream(self, attempt: Attempt, choices: Choices) -> Callable[[ClientSystem], Any]:
        piece = choices.pick((100, 10_000, 1 << 20))
        seconds = choices.pick((0.0, 0.01, 0.3)) if attempt.size / piece < 100 else 0.0

        def make(system: ClientSystem) -> Any:
            return cast(BinaryIO, Trickle(attempt.data(), piece, system.pause, seconds))

        return make

    def _arguments(self, choices: Choices) -> dict[str, Any]:
        facts = self.scene.facts
        arguments: dict[str, Any] = {
            "retry": choices.pick((None, None, 0.0, 5.0, 60.0)),
            "sha256": choices.pick((None, None, True, False)),
            "connect_timeout": choices.pick((5.0, 30.0)),
            "stall_timeout": choices.pick((10.0, 60.0)),
            "answer_timeout": choices.pick((10.0, 100.0)),
        }
        if facts.answer is not None and not self.needs_http:
            arguments["answer"] = facts.answer
        if self.needs_http and facts.token:
            arguments["token"] = facts.token
        return arguments

    def _disturb(self, running: RunningUpload, choices: Choices) -> None:
        """Let something go wrong with this run, or nothing."""
        scheduler, machine = self.scene.scheduler, self._machine
        soon = choices.pick((0.05, 0.5, 5.0)) * choices.random()
        match choices.pick(("nothing", "nothing", "kill", "at", "before", "cut", "break", "disk")):
            case "kill":
                scheduler.call_later(soon, running.process.kill)
            case "at":
                running.process.kill_at = 1 + choices.below(choices.pick((10, 60, 400)))
            case "before":
                running.process.kill_before[choices.pick(_SENDING)] = choices.below(6)
            case "cut":
                scheduler.call_later(soon, self._cut, running)
            case "break":
                for _ in range(1 + choices.below(3)):
                    scheduler.call_later(soon, machine.break_connections)
                    soon += choices.between(0.0, 2.0)
            case "disk":
                self._forgets = True
                call = choices.pick(("write", "fsync", "replace", "open", "read_at", "lock"))
                number = choices.pick((errno.EIO, errno.ENOSPC))
                times, after = choices.pick((1, 1, 1_000_000)), choices.below(8)
                machine.disk.faults.fail(call, number, times=times, after=after)

    def _cut(self, running: RunningUpload) -> None:
        if not running.is_over:
            self._forgets = True
            self._machine.cut()

    def finish(self) -> None:
        """Go away."""
        for process in self._machine.processes:
            process.kill()
        super().finish()


class RawClient(ClientSender):
    """The client by the raw protocol."""

    kind = "raw-client"


class TusClient(ClientSender):
    """The client by HTTP, which goes on after a break."""

    kind = "tus-client"
    needs_http = True


CLIENTS: tuple[type[Sender], ...] = (RawClient, TusClient)
