"""
Which connections are accepted, and how many: decided when a sender has connected,
before anything is done for it.

The connections of a process are counted in its `ConnectionSlots`, those of one address
in the `Admission` of the listener that they connected to.  What a connection takes of
both is its `ConnectionSlot`.  The slot is passed on with the connection, and released
when the connection is closed and its upload has ended.
"""

from __future__ import annotations

import sys

from twisted_upload.errors import Busy, NotAllowed, UploadRefused
from twisted_upload.net.networks import Rules

__all__ = ["Admission", "ConnectionSlot", "ConnectionSlots"]


class ConnectionSlots:
    """
    The connections of a process.

    :param most: maximum number of simultaneous connections; 0 for no limit.
    :param most_rejected: maximum number of rejected connections, in addition to these
        and for each front end, that stay open until they have been sent the reason.
    :param most_splices: maximum number of sockets that disk threads read from at a
        time.
    :ivar taken: number of connections.
    :ivar splices: number of sockets that disk threads are reading from.
    """

    __slots__ = ("most", "most_rejected", "most_splices", "splices", "taken")

    def __init__(self, most: int = 0, most_rejected: int = 128, most_splices: int = 128) -> None:
        self.most = most or sys.maxsize
        self.most_rejected = most_rejected
        self.most_splices = most_splices
        self.taken = 0
        self.splices = 0

    def change(self, other: ConnectionSlots) -> None:
        """Adopt other limits; existing connections stay, even if they exceed them."""
        self.most = other.most
        self.most_splices = other.most_splices


class Admission:
    """
    Which senders one listener accepts.

    :param slots: the connections of the process, shared by its listeners.
    :param rules: for addresses.  A sender without one, at a unix socket, is not subject
        to them: the permissions of the socket decide.
    :param max_per_address: maximum number of simultaneous connections from one IPv4
        address, or from one IPv6 /64; 0 for no limit.
    :ivar slots: the connections of the process.
    :ivar taken: number of connections of each address group.
    """

    def __init__(
        self,
        slots: ConnectionSlots | None = None,
        rules: Rules | None = None,
        max_per_address: int = 0,
    ) -> None:
        self.slots = slots or ConnectionSlots()
        self.taken: dict[str, int] = {}
        self.change(rules, max_per_address)

    def change(self, rules: Rules | None, max_per_address: int) -> None:
        """Apply these to new connections; existing connections count towards them."""
        self._rules = rules or None
        self._most_each = max_per_address or sys.maxsize

    def __len__(self) -> int:
        """Return the number of address groups that have connections."""
        return len(self.taken)

    def refusal(
        self, host: str | None, group: str | None, *, has_slot: bool = False
    ) -> UploadRefused | None:
        """
        Return why a sender is not accepted at the moment; `None` if it is.

        :param host: its address, for the rules; empty if it has one that is not known;
            `None` if the rules do not apply to it.
        :param group: the address group that it is counted by; `None` if it is not
            counted.
        :param has_slot: whether its connection already has a slot, in another group.
        """
        if self._rules is not None and host is not None and not self._rules.allows(host):
            return _NOT_ALLOWED
        if self.slots.taken >= self.slots.most and not has_slot:
            return _FULL
        if group is not None and self.taken.get(group, 0) >= self._most_each:
            return _TOO_MANY
        return None


class ConnectionSlot:
    """
    What one connection takes of the limits: see
    `twisted_upload.net.gate.IConnectionSlot`.

    :param admission: holds the limits.
    :param group: the address group that it is counted by; `None` if it is not counted.
    :ivar group: the same.
    """

    __slots__ = ("_admission", "_taken", "group")

    def __init__(self, admission: Admission, group: str | None) -> None:
        self._admission = admission
        self._taken = False
        self.group = group

    def take(self) -> None:
        """Count the connection from now on; harmless if it is already counted."""
        if self._taken:
            return
        self._taken = True
        admission, group = self._admission, self.group
        admission.slots.taken += 1
        if group is not None:
            taken = admission.taken
            taken[group] = taken.get(group, 0) + 1

    def release(self) -> None:
        """Stop counting the connection; harmless if it is not counted."""
        if not self._taken:
            return
        self._taken = False
        admission, group = self._admission, self.group
        admission.slots.taken -= 1
        if group is not None:
            taken = admission.taken
            left = taken[group] - 1
            if left:
                taken[group] = left
            else:
                del taken[group]

    def count_by(self, group: str | None) -> None:
        """Count the connection by another group: that of the sender behind a proxy."""
        taken = self._taken
        self.release()
        self.group = group
        if taken:
            self.take()


_NOT_ALLOWED = NotAllowed()
_FULL = Busy("too many connections to this server; try again later")
_TOO_MANY = Busy("too many connections from your address")
