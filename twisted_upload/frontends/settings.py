"""
The settings of a front end.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted_upload.net.networks import EVERYBODY, Rules, TrustedProxies

__all__ = ["GRACE", "FrontendSettings"]

GRACE = 30.0
"""Minimum number of seconds that a slow sender may go without sending any bytes."""


@dataclass(frozen=True, slots=True)
class FrontendSettings:
    """
    How a front end behaves, whatever protocol it speaks.

    :ivar receipts: tell each sender the SHA-256 of its file.
    :ivar max_size: maximum size of an upload in bytes; 0 for no limit.
    :ivar idle_timeout: seconds without data after which an upload is refused; 0 for
        never.
    :ivar allow_empty: store uploads of zero bytes.
    :ivar min_rate: bytes per second that a sender has to sustain over the last `grace`
        seconds; 0 for no minimum.
    :ivar max_per_address: maximum number of simultaneous connections from one IPv4
        address, or from one IPv6 /64; 0 for no limit.
    :ivar rules: which addresses are allowed.
    :ivar trusted_proxies: the load balancers that connections come from, with a PROXY
        protocol header; `None` if senders connect directly.
    :ivar linger_time: seconds for which data from a refused sender is read and
        discarded, so that it can read the answer.
    :ivar linger_size: maximum number of bytes that are read and discarded.
    """

    receipts: bool = False
    max_size: int = 0
    idle_timeout: float = 60.0
    allow_empty: bool = False
    min_rate: int = 500
    max_per_address: int = 50
    rules: Rules = EVERYBODY
    trusted_proxies: TrustedProxies | None = None
    linger_time: float = 5.0
    linger_size: int = 64 * 1024 * 1024

    @property
    def grace(self) -> float:
        """
        Seconds that a sender may go without sending any bytes; bytes never earn it more
        time than that.

        An idle period that is within the idle timeout must not count as slowness.
        """
        return max(GRACE, self.idle_timeout)
