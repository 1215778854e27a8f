"""
``python -m twisted_upload.cli.probe [HOST:PORT]``: whether a daemon answers.

It connects and says nothing, and is well content with being refused as
``empty``: then the reactor works, which a connection alone would not show, as
the kernel takes those for a reactor that stands still.  Nothing is logged, and
nothing is kept, except with ``--allow-empty``.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence

from twisted_upload.core.answers import FAILURE, LONGEST_ANSWER

__all__ = ["main", "probe"]

PATIENCE = 5.0
"""Seconds within which a daemon answers that is well."""

_ILL = ("shutting-down", "store-error")


def probe(host: str, port: int, patience: float = PATIENCE) -> str | None:
    """
    Ask a daemon whether it is well.

    :param patience: seconds for each step.
    :return: what is wrong, in one line; None if nothing is.
    """
    heard = b""
    try:
        with socket.create_connection((host, port), patience) as peer:
            peer.shutdown(socket.SHUT_WR)
            while len(heard) < LONGEST_ANSWER and (piece := peer.recv(LONGEST_ANSWER)):
                heard += piece
    except OSError as error:
        return f"{host}:{port}: {error.strerror or error}"
    failure, _, rest = heard.decode("utf-8", "replace").partition(": ")
    if not failure:
        return f"{host}:{port}: it says nothing"
    code = rest.partition(" ")[0]
    return f"{host}:{port}: {code}" if failure == FAILURE and code in _ILL else None


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the command: exit status 0 for a daemon that is well, 1 for another.

    :param arguments: instead of those of the command line.
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
