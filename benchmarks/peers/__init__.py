"""The receivers that we compare with, in the order of the report."""

from __future__ import annotations

from .base import Peer, Place
from .ftp import Pyftpdlib, Vsftpd
from .http import Copyparty, Nginx, Uploadserver
from .ours import BEFORE, Before, Everything, Ours, Silent
from .raw import DurableFloor, Floor, PlainTwisted, SocatToFile, SocatToScript, Textbook

__all__ = [
    "BEFORE",
    "FLOORS",
    "OTHERS",
    "Before",
    "DurableFloor",
    "Everything",
    "Floor",
    "Ours",
    "Peer",
    "Place",
    "PlainTwisted",
    "Silent",
    "Textbook",
]

FLOORS: tuple[Peer, ...] = (
    Floor("loop", "one after another", {"small", "medium"}),
    Floor("splice", "splice", {"large", "large4"}),
    Floor("recv", "recv 1 MiB + write", {"large", "large4"}),
)

OTHERS: tuple[Peer, ...] = (
    SocatToFile(),
    SocatToScript(),
    Pyftpdlib(),
    Vsftpd(),
    Nginx(),
    Uploadserver(),
    Copyparty(),
    Textbook(),
)
