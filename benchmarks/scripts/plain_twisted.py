"""A Twisted server that does nothing: what connections cost before anybody has written a line."""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.internet.protocol import Protocol, ServerFactory

if __name__ == "__main__":
    reactor.listenTCP(int(sys.argv[1]), ServerFactory.forProtocol(Protocol), interface="127.0.0.1")  # type: ignore[attr-defined]
    reactor.run()  # type: ignore[attr-defined]
