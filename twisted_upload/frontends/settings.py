"""
How a front end is to behave.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted_upload.core.answers import SUCCESS
from twisted_upload.net.networks import EVERYBODY, Rules, TrustedProxies

__all__ = ["FrontendSettings"]

GRACE = 30.0
"""Seconds that a slow sender has at the least without any bytes."""


@dataclass(frozen=True, slots=True)
class FrontendSettings:
    """
    How a front end behaves.

    :ivar answer: what a sender hears when its file is stored.
    :ivar receipts: say name, size and SHA-256 too.
    :ivar max_size: bytes of the largest upload; 0 for no limit.
    :ivar idle_timeout: seconds of silence after which an upload is refused;
        0 for never.
    :ivar finish_after_idle: seconds of silence that count as the end of the
        file; 0 for never.
    :ivar allow_empty: store uploads of zero bytes.
    :ivar min_rate: bytes a second that a sender has to keep up over the last
        `grace`; 0 for none.
    :ivar max_per_address: connections of one IPv4 address, or of one /64 of
        IPv6, at a time; 0 for no limit.
    :ivar rules: which addresses may come in.
    :ivar trusted_proxies: the load balancers that connections come from, with a
        header of the PROXY protocol; `None` where senders connect themselves.
    :ivar linger_time: seconds for which what a refused sender still sends is
        read and thrown away, so that it can hear why.
    :ivar linger_size: bytes of the same.
    """

    answer: str = SUCCESS
    receipts: bool = False
    max_size: int = 0
    idle_timeout: float = 60.0
    finish_after_idle: float = 0.0
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
        Seconds that a sender has without any bytes; more than that, bytes do not buy.

        Silence that is not too long, and silence that ends an upload, are not
        to be called slowness.
        """
        return max(GRACE, self.idle_timeout) + self.finish_after_idle
