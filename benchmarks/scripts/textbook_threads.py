"""
The textbook server of this protocol, for machines without a JDK.

A thread per connection, blocks of 8 KiB, a file named by the current
millisecond: what `java/TextbookServer.java` does.
"""

from __future__ import annotations

import socketserver
import sys
import time


class Receive(socketserver.StreamRequestHandler):
    """One upload."""

    def handle(self) -> None:
        """Copy what arrives into a file, then answer."""
        with open(f"{self.server.directory}/{time.time_ns() // 1_000_000}.jpg", "wb") as file:  # type: ignore[attr-defined]
            while block := self.rfile.read(8192):
                file.write(block)
        self.wfile.write("上传成功".encode())


class Server(socketserver.ThreadingTCPServer):
    """A thread per connection."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 50

    directory = "."


if __name__ == "__main__":
    with Server(("127.0.0.1", int(sys.argv[1])), Receive) as server:
        server.directory = sys.argv[2]
        server.serve_forever()
