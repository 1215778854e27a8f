"""
What a command uses of its process: standard output and standard error, the signals,
and the exit status.

Imports nothing slow, because every command begins with it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import IO

from twisted_upload.cli.interrupts import Interrupts

__all__ = ["PROGRAM", "ExitStatus", "Output", "Streams"]

PROGRAM = "twisted-upload"


class ExitStatus:
    """The exit statuses of the command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_CONNECTION = 3
    REFUSED = 4
    SOURCE = 5
    UNKNOWN = 6
    TIMED_OUT = 124
    INTERRUPTED = 130


class Output:
    """
    Standard output or standard error.

    If its reader leaves, nothing more is written to it, and nothing else stops.

    :ivar error: why it could not be written; a reader that has left, as ``head`` does,
        is not an error.
    """

    def __init__(self, stream: IO[str] | None) -> None:
        self.stream = stream
        self.error: OSError | None = None
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")

    @property
    def is_terminal(self) -> bool:
        """Whether it is a terminal."""
        return self.stream is not None and self.stream.isatty()

    def line(self, text: str) -> None:
        """Write a line, and flush it."""
        if self.stream is None:
            return
        try:
            self.stream.write(f"{text}\n")
            self.stream.flush()
        except OSError as error:
            self.give_up(error)

    def give_up(self, error: OSError) -> None:
        """Stop writing, and let the interpreter flush to ``/dev/null`` at exit."""
        if not isinstance(error, BrokenPipeError):
            self.error = error
        stream, self.stream = self.stream, None
        if stream is not None:
            nothing = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nothing, stream.fileno())
            os.close(nothing)

    def is_same_terminal_as(self, other: Output) -> bool:
        """Whether lines written to this one move what is drawn on the other."""
        if self.stream is None or other.stream is None:
            return False
        here, there = os.fstat(self.stream.fileno()), os.fstat(other.stream.fileno())
        return self.is_terminal and here.st_rdev == there.st_rdev


@dataclass(frozen=True, slots=True)
class Streams:
    """What a command uses of its process."""

    out: Output
    err: Output
    interrupts: Interrupts
