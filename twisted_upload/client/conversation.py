"""
What a client says to a server, without sockets, threads and clocks.

A *conversation* is a generator: it yields one command after the other, and is sent the
result of each, or an exception that is thrown into it.  What it returns is the result of
the upload.  A *driver* carries the commands out: one on sockets, and one in the tests without
any.

Rules for both sides:

1. There is at most one connection at a time.  `Connect` replaces a former one.
2. A command that sends returns early if the server has sent something, and says how much
   has been sent: a refusal in the middle of a file is seen there.  Whether the connection
   can still be used is up to the conversation.
3. What breaks is one of `ConnectionBroken`, `UploadTimedOut`, `CouldNotConnect`,
   `SourceFailed`.  After `ConnectionBroken`, a conversation may still `Receive` what the
   server had sent before.
4. A driver that is cancelled closes the generator, and resets the connection.  It does so
   too with whatever a conversation leaves open at its end.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from twisted_upload.client.targets import Target

__all__ = [
    "Abort",
    "Close",
    "Command",
    "Connect",
    "ConnectionBroken",
    "Conversation",
    "HalfClose",
    "IContent",
    "Read",
    "Receive",
    "Send",
    "SendFrom",
    "Sha256",
    "Sleep",
]

T = TypeVar("T")


class ConnectionBroken(Exception):
    """
    The connection is gone.

    :ivar sent: bytes that the command had sent before.
    """

    def __init__(self, reason: str, sent: int = 0) -> None:
        super().__init__(reason)
        self.sent = sent


class IContent(Protocol):
    """What is sent, as a conversation sees it."""

    @property
    def total(self) -> int | None:
        """Its length in bytes; `None` if it is unknown."""

    @property
    def again(self) -> bool:
        """Whether any part of it can be read at any time, and several times."""

    def check(self, size: int) -> None:
        """
        Do nothing if it is what it was, and has this many bytes.

        :raises SourceChanged: it was modified or truncated meanwhile.
        :raises SourceFailed: it can no longer be checked.
        """


@dataclass(frozen=True, slots=True)
class Connect:
    """
    Connect to a server; returns the name of the peer, as in a receipt.

    :ivar timeout: seconds; 0 for no limit.
    :ivar reset_if_killed: have the kernel reset the connection if the process dies, so that
        the server does not take its end for the end of the file.
    """

    target: Target
    timeout: float
    reset_if_killed: bool = False


@dataclass(frozen=True, slots=True)
class Send:
    """Send bytes; returns how many were sent (rule 2)."""

    data: bytes
    timeout: float = 0


@dataclass(frozen=True, slots=True)
class SendFrom:
    """
    Send a part of content that can be read again; returns how many bytes were sent (rule 2).

    :ivar offset: of its first byte.
    :ivar size: number of bytes.
    :ivar moved: called with the offset that has been reached, now and then.
    :ivar hashed: whether `Sha256` will be wanted.
    :ivar timeout: seconds within which at least some bytes must get through; 0 for no limit.
    """

    content: IContent
    offset: int
    size: int
    timeout: float
    moved: Callable[[int], object]
    hashed: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """
    Read the next bytes of content that cannot be read again; returns them, none at its end.

    :ivar some: as soon as there are any; otherwise all of them, or all up to the end.
    """

    content: IContent
    size: int
    some: bool = False


@dataclass(frozen=True, slots=True)
class Sha256:
    """Return the SHA-256 of the first bytes of the content, in hexadecimal."""

    content: IContent
    size: int


@dataclass(frozen=True, slots=True)
class HalfClose:
    """Signal the end of what is sent."""


@dataclass(frozen=True, slots=True)
class Receive:
    """
    Receive some bytes; returns none at the orderly end.

    :ivar timeout: seconds; 0 for no limit.
    """

    timeout: float


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection in an orderly way."""


@dataclass(frozen=True, slots=True)
class Abort:
    """Reset the connection."""


@dataclass(frozen=True, slots=True)
class Sleep:
    """Do nothing for this many seconds."""

    seconds: float


Command: TypeAlias = (
    Connect | Send | SendFrom | Read | Sha256 | HalfClose | Receive | Close | Abort | Sleep
)

Conversation: TypeAlias = Generator[Command, Any, T]
