"""
What the options say of who may come in, made into what a door wants.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted_upload.daemon.process import budget, raise_limit
from twisted_upload.frontends.admission import ConnectionSlots, TrustedProxies
from twisted_upload.frontends.settings import EVERYBODY
from twisted_upload.net.networks import NetworkSet, Rules

__all__ = ["limits_of", "slots_for"]


def limits_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """
    Limits for `FrontendSettings`, by name, from the values of the options.

    :raises ValueError: values that make sense alone do not go together; the
        text begins with the name of an option.
    """
    believed = values["proxy-from"]
    if values["proxy-protocol"] and not believed:
        raise ValueError("proxy-protocol: say with --proxy-from which load balancers to believe")
    if believed and not values["proxy-protocol"]:
        raise ValueError("proxy-from: it goes with --proxy-protocol")
    trusted_proxies = None
    if believed:
        networks = NetworkSet(network for network in believed if network is not None)
        trusted_proxies = TrustedProxies(networks, unix=None in believed)
    try:
        rules = Rules(values["allow"], values["deny"]) or EVERYBODY
    except ValueError as error:
        raise ValueError(f"deny: {error}") from None
    return {
        "min_rate": float(values["min-rate"]),
        "max_per_address": values["max-per-address"],
        "rules": rules,
        "trusted_proxies": trusted_proxies,
    }


def slots_for(asked: int | None, others: int = 0) -> ConnectionSlots:
    """
    The places of this process, whose limit of descriptors is raised for them.

    :param asked: connections that the operator wants; `None` for as many as
        the descriptors are enough for.
    :param others: descriptors that are not for them.
    :raises CannotStart: they are not enough.
    """
    share = budget(raise_limit(), asked, others)
    return ConnectionSlots(share.connections, share.rejected, share.lent)
