"""
Failures while the configuration is reloaded.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from tests.support.manager import Systemd
from twisted_upload.config.configuration import Configuration, configure
from twisted_upload.config.sources import SourcedValue
from twisted_upload.daemon.certificate_expiry import Certificates, Renewal
from twisted_upload.daemon.control import DaemonControl
from twisted_upload.daemon.notify import Counts
from twisted_upload.daemon.systemd import Manager
from twisted_upload.errors import CannotStart
from twisted_upload.observability.log import LineObserver


class Daemon:
    """A daemon that does nothing."""

    observer: LineObserver | None = None
    disks = ()

    def counts(self) -> Counts:
        return Counts(0, 0)

    def when_ready(self) -> Deferred[None]:
        return succeed(None)

    def end_now(self) -> None:
        raise NotImplementedError


def configuration(answer: str) -> Configuration:
    return configure({"answer": SourcedValue(answer, "--answer")}, {}, "/")


class Rig:
    """
    A management whose steps fail on request.

    :ivar in_force: the answers that were applied.
    :ivar fails: what each step calls first.
    """

    def __init__(self, address: str) -> None:
        self.in_force = ["old"]
        self.fails: dict[str, Callable[[], None]] = {}
        self.management = DaemonControl(
            Clock(),
            Daemon(),
            Manager(address),
            configuration=configuration("old"),
            read=self._read,
            apply=self._apply,
            certificates=Certificates([], lambda: 0.0),
            renew=self._renew,
        )

    def _step(self, name: str) -> None:
        self.fails.pop(name, lambda: None)()

    def _read(self) -> Configuration:
        self._step("read")
        return configuration("new")

    def _apply(self, configuration: Configuration) -> None:
        self.in_force.append(configuration.listeners[0].settings.answer)
        self._step("apply")

    def _renew(self, renewal: Renewal) -> None:
        self._step("renew")


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    return Systemd(f"@{tmp_path.name}-{id(tmp_path)}")


@pytest.mark.parametrize("step", ["read", "apply", "renew"])
@pytest.mark.parametrize(
    "error", [RuntimeError("x"), OverflowError("x"), RecursionError("x"), MemoryError("x")]
)
def test_unexpected_exception(
    systemd: Systemd, step: str, error: Exception, expected_errors: list[str]
) -> None:
    """After any exception systemd gets READY, and the old configuration stays until a good one."""
    expected_errors.append(type(error).__name__)
    rig = Rig(systemd.address)

    def fail() -> None:
        raise error

    rig.fails[step] = fail
    with capturedLogs() as events:
        rig.management.reload()
    systemd.wait_for("RELOADING=1")
    systemd.wait_for("READY=1")
    assert rig.in_force[-1] == "old"
    assert "reload failed" in events[-1]["log_format"]
    with capturedLogs() as events:
        rig.management.reload()
    assert rig.in_force[-1] == "new"
    assert "answer old -> new" in events[-1]["text"]
    rig.management._over()
    systemd.close()


def test_failed(systemd: Systemd) -> None:
    """An expected failure is one line, shortened in the middle if it is long, and READY."""
    rig = Rig(systemd.address)

    def fail() -> None:
        raise CannotStart("begin" + "x" * 10_000 + "\x1b[31mend")

    rig.fails["read"] = fail
    with capturedLogs() as events:
        rig.management.reload()
    systemd.wait_for("READY=1")
    why = events[-1]["why"]
    assert why.startswith("begin")
    assert why.endswith("end")
    assert why.isprintable()
    assert len(why) <= 1000
    rig.management._over()
    systemd.close()
