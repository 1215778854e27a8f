"""Peers on raw TCP: the C receivers, the textbook server, socat, plain Twisted."""

from __future__ import annotations

from collections.abc import Mapping

from ..build import Toolbox, command
from ..errors import UnavailableError
from .base import Peer, Place, script, slow_fsync


class Floor(Peer):
    """The least a receiver can do, in C."""

    def __init__(self, mode: str, label: str, kinds: set[str]) -> None:
        self.mode, self.name, self.label = mode, f"floor-{mode}", f"C, {label}"
        self.kinds = frozenset(kinds)

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        return [tools.program("floor"), self.mode, str(place.port), str(place.directory)]


class DurableFloor(Floor):
    """A C receiver that syncs as the daemon does, small and large uploads at the same time."""

    def __init__(self, *, slow: tuple[int, float] | None = None) -> None:
        """Configure it; `slow`: as for our daemon."""
        super().__init__("durable", "with the same fsyncs", {"small", "large"})
        self.slow = slow

    def environment(self, tools: Toolbox) -> Mapping[str, str]:
        return {} if self.slow is None else slow_fsync(tools, *self.slow)


class Textbook(Peer):
    """A thread per connection, files named by the millisecond; in Java if there is a JDK."""

    name = "textbook"
    label = "textbook server"
    kinds = frozenset({"large", "large4", "small", "many"})

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        try:
            line = tools.java("TextbookServer")
        except UnavailableError:
            line = script("textbook_threads")
        return [*line, str(place.port), str(place.directory)]


class PlainTwisted(Peer):
    """A Twisted server that does nothing."""

    name = "plain"
    label = "plain Twisted, does nothing"
    kinds = frozenset({"many"})

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        return [*script("plain_twisted"), str(place.port)]


class SocatToFile(Peer):
    """socat into one file; it has no answer, so the end of the connection has to do."""

    name = "socat"
    label = "socat to one file"
    kinds = frozenset({"large"})
    answer = ""

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        listen = f"TCP-LISTEN:{place.port},bind=127.0.0.1,reuseaddr,fork,backlog=128"
        return [
            command("socat"),
            "-u",
            "-b",
            "262144",
            listen,
            f"CREATE:{place.directory}/upload.bin",
        ]


class SocatToScript(Peer):
    """socat with a shell per connection, which answers: the usual way to receive many files."""

    name = "socat-fork"
    label = "socat, a shell each"
    kinds = frozenset({"large4", "small"})
    share = 0.05

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        receive = place.scratch / "receive.sh"
        receive.write_text(f'cat > "{place.directory}/$$.bin" && printf %s "{self.answer}"\n')
        listen = f"TCP-LISTEN:{place.port},bind=127.0.0.1,reuseaddr,fork,backlog=128"
        return [command("socat"), "-t60", "-b", "262144", listen, f"EXEC:/bin/sh {receive}"]
