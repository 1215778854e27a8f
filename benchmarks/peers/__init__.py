"""The receivers that we compare with, in the order of the report."""

from __future__ import annotations

from .base import By, Peer, Place
from .ftp import Pyftpdlib, Vsftpd
from .http import (
    Aiohttp,
    Copyparty,
    Nginx,
    ResumableUpload,
    TusNode,
    Tuspyserver,
    Uploadserver,
    Uvicorn,
)
from .ours import BEFORE, Before, Everything, Ours, OursHTTP, Silent
from .raw import DurableFloor, Floor, PlainTwisted, SocatToFile, SocatToScript, Textbook

__all__ = [
    "BEFORE",
    "FLOORS",
    "HTTP",
    "OTHERS",
    "TUS",
    "Before",
    "By",
    "DurableFloor",
    "Everything",
    "Floor",
    "Nginx",
    "Ours",
    "OursHTTP",
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

HTTP: tuple[Peer, ...] = (Nginx(), Uvicorn(), Aiohttp(), Copyparty(), Uploadserver())
"""Those that take uploads by HTTP."""

TUS: tuple[Peer, ...] = (TusNode(), Tuspyserver(), ResumableUpload())
"""Those that take uploads by tus."""
