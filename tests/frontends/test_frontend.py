"""
What every front end has, whatever its protocol: the connections of this one send nothing.
"""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from tests.support.waiting import pass_time
from twisted_upload.errors import TimedOut, UploadRefused
from twisted_upload.frontends.admission import ConnectionSlots
from twisted_upload.frontends.connections import ConnectionProtocol
from twisted_upload.frontends.frontend import CHECK_INTERVAL, Frontend
from twisted_upload.frontends.rejection import RejectedConnection
from twisted_upload.frontends.settings import FrontendSettings
from twisted_upload.net.gate import IConnectionSlot
from twisted_upload.stores.memory import MemoryStore

SENDER = IPv4Address("TCP", "192.0.2.7", 50123)


class Silent(ConnectionProtocol, Protocol):
    """A connection that is too slow after a number of seconds."""

    in_flight = False
    is_new = False

    def __init__(self, frontend: SilentFrontend, slot: IConnectionSlot) -> None:
        self.frontend = frontend
        self.slot = slot
        self.codes: list[str] = []
        self.late = 0

    def connectionMade(self) -> None:
        self.frontend.enter(self)
        self.frontend.progress_check.begin()

    def refuse(self, refusal: UploadRefused) -> None:
        self.codes.append(refusal.code)

    def check(self, now: float) -> bool:
        if self.codes or now < 4 * CHECK_INTERVAL:
            return False
        self.refuse(TimedOut())
        return True

    def stood_still(self, now: float) -> None:
        self.late += 1


class SilentFrontend(Frontend[FrontendSettings]):
    """A front end that reads nothing."""

    settings_type = FrontendSettings

    def serve(self, address: IAddress | None, slot: IConnectionSlot) -> Silent:
        return Silent(self, slot)

    def connected(self, address: IAddress = SENDER) -> Silent:
        """Return one more connection."""
        protocol = self.gate.protocol_for(address)
        assert isinstance(protocol, Silent)
        protocol.makeConnection(StringTransport())  # type: ignore[no-untyped-call]
        return protocol


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def frontend(clock: Clock) -> SilentFrontend:
    slots = ConnectionSlots(3)
    return SilentFrontend(MemoryStore(clock.seconds), clock, FrontendSettings(), slots=slots)


def test_connections_take_slots(frontend: SilentFrontend) -> None:
    """A connection has its slot while it is open; leaving twice is harmless."""
    one, other = frontend.connected(), frontend.connected(UNIXAddress(b""))
    assert (frontend.slots.taken, frontend.gate.admission.taken) == (2, {SENDER.host: 1})
    for _ in range(2):
        frontend.leave(one)
        assert (frontend.slots.taken, frontend.gate.admission.taken) == (1, {})
    frontend.leave(other)
    assert frontend.slots.taken == 0


def test_slots_are_held_while_an_upload_is_in_flight(frontend: SilentFrontend) -> None:
    """A sender that disconnects before its upload has ended leaves its slot to the upload."""
    one = frontend.connected()
    one.in_flight = True
    frontend.leave(one)
    assert (frontend.slots.taken, frontend.uploads_in_flight) == (1, 1)
    frontend.upload_ended(one)
    assert (frontend.slots.taken, frontend.uploads_in_flight) == (0, 0)


def test_rejected(frontend: SilentFrontend) -> None:
    """Connections are rejected if no slot is free, or while the front end stops."""
    for _ in range(3):
        frontend.connected()
    assert isinstance(frontend.gate.protocol_for(SENDER), RejectedConnection)
    assert frontend.slots.taken == 3
    frontend.leave(next(iter(frontend.protocols)))
    drained = frontend.drain()
    assert drained.called
    assert isinstance(frontend.gate.protocol_for(SENDER), RejectedConnection)
    assert {*frontend.refusals.total} == {"busy", "shutting-down"}


def test_reconfigured(frontend: SilentFrontend) -> None:
    """New settings apply to new connections only."""
    frontend.connected()
    frontend.reconfigure(FrontendSettings(max_per_address=1))
    assert isinstance(frontend.gate.protocol_for(SENDER), RejectedConnection)
    assert frontend.slots.taken == 1


def test_progress_is_checked(frontend: SilentFrontend, clock: Clock) -> None:
    """
    While there are connections, their progress is checked; a stalled process blames no
    sender.
    """
    one = frontend.connected()
    pass_time(clock, CHECK_INTERVAL)
    clock.advance(2 * CHECK_INTERVAL)
    assert (one.codes, one.late) == ([], 1)
    pass_time(clock, 2 * CHECK_INTERVAL)
    assert one.codes == ["timeout"]
    frontend.leave(one)
    pass_time(clock, CHECK_INTERVAL)
    assert not frontend.progress_check._timer
