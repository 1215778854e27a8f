"""
Who may come in, and how many: decided when a sender has connected, before
anything is done for it.

Connections of a process are counted in its `ConnectionSlots`, those of one address in
the `Admission` of the listener that they came to.  What a connection takes of both is
its `ConnectionSlot`: it is handed on with it, and released when the connection is gone
and its upload has ended.
"""

from __future__ import annotations

import sys

from twisted_upload.errors import Busy, NotAllowed, UploadRefused
from twisted_upload.net.networks import Rules

__all__ = ["Admission", "ConnectionSlot", "ConnectionSlots"]


class ConnectionSlots:
    """
    The connections of a process.

    :param most: of them at a time; 0 for no limit.
    :param most_rejected: beside them, those that stay until they have heard
        why they may not come in.
    :param most_splices: sockets at a time that disk threads take from.
    :ivar taken: how many connections there are.
    :ivar splices: how many of their sockets disk threads take from.
    """

    __slots__ = ("most", "most_rejected", "most_splices", "splices", "taken")

    def __init__(self, most: int = 0, most_rejected: int = 128, most_splices: int = 128) -> None:
        self.most = most or sys.maxsize
        self.most_rejected = most_rejected
        self.most_splices = most_splices
        self.taken = 0
        self.splices = 0

    def change(self, other: ConnectionSlots) -> None:
        """Have as many as others; connections that are there stay, if they are more."""
        self.most = other.most
        self.most_splices = other.most_splices


class Admission:
    """
    Who may come in at one listener.

    :param slots: of the process, shared by its listeners.
    :param rules: for addresses.  Whoever has none, at a unix socket, is not
        bound by them: that is up to the permissions of the socket.
    :param max_per_address: connections of one IPv4 address, or of one /64 of
        IPv6, at a time; 0 for no limit.
    :ivar slots: the same.
    :ivar taken: how many of them each group of addresses has.
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
        """Have others of these for whoever comes from now on; who is there counts."""
        self._rules = rules or None
        self._most_each = max_per_address or sys.maxsize

    def __len__(self) -> int:
        """How many addresses have connections."""
        return len(self.taken)

    def refusal(
        self, host: str | None, group: str | None, *, has_slot: bool = False
    ) -> UploadRefused | None:
        """
        Why a sender may not come in just now; `None` where it may.

        :param host: its address, for the rules; empty where it has one that is
            not known; `None` where they do not bind it.
        :param group: what it is counted by; `None` where it is not.
        :param has_slot: its connection has a slot already, by another group.
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
    What one connection takes of the limits: see `twisted_upload.net.gate.IConnectionSlot`.

    :param admission: whose limits those are.
    :param group: that it is counted by; `None` where it is not.
    :ivar group: the same.
    """

    __slots__ = ("_admission", "_taken", "group")

    def __init__(self, admission: Admission, group: str | None) -> None:
        self._admission = admission
        self._taken = False
        self.group = group

    def take(self) -> None:
        """Count the connection from now on; harmless when it is."""
        if self._taken:
            return
        self._taken = True
        admission, group = self._admission, self.group
        admission.slots.taken += 1
        if group is not None:
            taken = admission.taken
            taken[group] = taken.get(group, 0) + 1

    def release(self) -> None:
        """Count it no more; harmless when it is not."""
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
        """Count the connection by another group: a proxy speaks for somebody there."""
        taken = self._taken
        self.release()
        self.group = group
        if taken:
            self.take()


_NOT_ALLOWED = NotAllowed()
_FULL = Busy("this server has as many connections as it takes; try again later")
_TOO_MANY = Busy("this server has as many connections from your address as it takes")
