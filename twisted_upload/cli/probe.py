"""
``python -m twisted_upload.cli.probe [HOST:PORT]``: checks whether a daemon answers.

It connects, sends nothing, and expects to be refused as ``empty``.  That proves
that the reactor works.  A connection alone would not: the kernel accepts it even if
the reactor is stalled.  Nothing is logged, and nothing is stored, except with
``--allow-empty``.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

from twisted_upload.core.answers import FAILURE, LONGEST_ANSWER

__all__ = ["main", "probe"]

TIMEOUT = 5.0
"""Seconds within which a healthy daemon answers."""

_UNHEALTHY = ("shutting-down", "store-error")


def probe(host: str, port: int, timeout: float = TIMEOUT) -> str | None:
    """
    Check whether a daemon is healthy.

    :param timeout: seconds for each step.
    :return: what is wrong, in one line; None if nothing is.
    """
    received = b""
    try:
        with socket.create_connection((host, port), timeout) as peer:
            peer.shutdown(socket.SHUT_WR)
            while len(received) < LONGEST_ANSWER and (piece := peer.recv(LONGEST_ANSWER)):
                received += piece
    except OSError as error:
        return f"{host}:{port}: {error.strerror or error}"
    failure, _, rest = received.decode("utf-8", "replace").partition(": ")
    if not failure:
        return f"{host}:{port}: no answer"
    code = rest.partition(" ")[0]
    return f"{host}:{port}: {code}" if failure == FAILURE and code in _UNHEALTHY else None


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the command: exit status 0 if the daemon is healthy, else 1.

    :param arguments: used instead of those of the command line.
    """
    given = [*(sys.argv[1:] if arguments is None else arguments), "127.0.0.1:6666"]
    host, _, port = given[0].rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or len(given) > 2:
        sys.stderr.write("usage: python -m twisted_upload.cli.probe [HOST:PORT]\n")
        raise SystemExit(2)
    wrong = probe(host.strip("[]"), int(port))
    if wrong is not None:
        sys.stderr.write(f"{wrong}\n")
        raise SystemExit(1)


if __name__ == "__main__":
    main()
