"""A Twisted server that does nothing: measures the cost of connections alone."""

from __future__ import annotations

import sys
from typing import Any

from twisted.internet import reactor as installed
from twisted.internet.protocol import Protocol, ServerFactory


class DoNothing(ServerFactory):
    """Discards what arrives."""

    protocol = Protocol


if __name__ == "__main__":
    reactor: Any = installed
    reactor.listenTCP(int(sys.argv[1]), DoNothing(), interface="127.0.0.1")
    reactor.run()
