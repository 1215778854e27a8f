"""
A simulated network: TCP and unix sockets, and the reactors of the processes that use them.
"""

from __future__ import annotations

from tests.simulation.network.network import Network
from tests.simulation.network.peers import Connection, Peer
from tests.simulation.network.profile import INSTANT, NetworkProfile
from tests.simulation.network.reactor import SimulatedReactor
from tests.simulation.network.sockets import SimulatedSocket, SimulatedSockets

__all__ = [
    "INSTANT",
    "Connection",
    "Network",
    "NetworkProfile",
    "Peer",
    "SimulatedReactor",
    "SimulatedSocket",
    "SimulatedSockets",
]
