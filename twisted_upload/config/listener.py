"""
One listener: where it listens, where its files go, and its limits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from twisted_upload.config.option import Option
from twisted_upload.config.options import ListenerSettings
from twisted_upload.config.sources import HTTP, Text
from twisted_upload.core.object_url import AfterForward
from twisted_upload.errors import WrongConfiguration
from twisted_upload.net.networks import EVERYBODY, Network, NetworkSet, Rules, TrustedProxies

__all__ = ["DEFAULT", "Listener", "Setting", "values_of"]

DEFAULT = "default"
"""The source of a value that is set nowhere."""


@dataclass(frozen=True, slots=True)
class Setting:
    """
    A value in force.

    :ivar text: the text as given; None if it was not given and there is no default.
    :ivar source: where it was set: ``--port``, ``TWISTED_UPLOAD_PORT``,
        ``/etc/x.toml: port``, ``default``.
    :ivar value: the converted value.
    """

    option: Option
    text: Text | None
    source: str
    value: Any

    def named(self, value: str) -> str:
        """Return one value of it preceded by its source, for messages."""
        source = f"--{self.option.name}" if self.source == DEFAULT else self.source
        return f"{source} {value}"


class Listener:
    """
    One listener.

    :param name: unique; consists of ``a`` to ``z``, ``0`` to ``9`` and ``-``.
    :param by_name: the value of each per-listener option.
    :param protocol: what it speaks: ``raw`` or ``http``.
    :raises WrongConfiguration: values that are valid alone do not go together.
    :ivar settings: the converted values.
    :ivar rules: which addresses may connect.
    :ivar trust_forwarded: the HTTP proxies that are believed; `None` if there are none.
    :ivar trusted_proxies: the load balancers that connections come from; `None` if
        senders connect directly.
    """

    def __init__(self, name: str, by_name: Mapping[str, Setting], protocol: str = "raw") -> None:
        self.name = name
        self.protocol = protocol
        self.by_name = by_name
        self.settings = ListenerSettings(**values_of(by_name))
        idle, finish = self.settings.idle_timeout, self.settings.finish_after_idle
        if 0 < idle <= finish:
            raise self._wrong(
                "finish-after-idle", f"it must be shorter than idle-timeout ({idle:g} s)"
            )
        self.trusted_proxies = self._proxies()
        self._check_forwarding()
        forwarding = self.settings.trust_forwarded
        self.trust_forwarded = _trusted(forwarding) if forwarding else None
        try:
            self.rules = Rules(self.settings.allow, self.settings.deny) or EVERYBODY
        except ValueError as error:
            raise self._wrong("deny", str(error)) from None

    def _check_forwarding(self) -> None:
        settings = self.settings
        if settings.forward is not None and settings.store is not None:
            raise self._wrong(
                "forward", "it cannot be combined with --store: files are there already"
            )
        if settings.after_forward is AfterForward.KEEP:
            return
        if settings.forward is None:
            raise self._wrong("after-forward", "it needs --forward")
        if settings.on_upload:
            raise self._wrong(
                "after-forward",
                "remove cannot be combined with --on-upload, whose program needs the file",
            )

    def _proxies(self) -> TrustedProxies | None:
        believed = self.settings.proxy_from
        if self.settings.proxy_protocol and not believed:
            raise self._wrong("proxy-protocol", "name the trusted load balancers with --proxy-from")
        if not believed:
            return None
        if not self.settings.proxy_protocol:
            raise self._wrong("proxy-from", "it needs --proxy-protocol")
        for name, descriptions in (("listen", self.settings.listen), (HTTP, self.settings.http)):
            if not any(description.startswith("tls:") for description in descriptions):
                continue
            raise self._wrong(
                name,
                "tls: cannot be combined with proxy-protocol, whose header comes before TLS;"
                " terminate TLS at the load balancer, and listen on tcp:",
            )
        return _trusted(believed)

    def _wrong(self, name: str, why: str) -> WrongConfiguration:
        return WrongConfiguration(f"{self.by_name[name].source}: {why}")


def values_of(by_name: Mapping[str, Setting]) -> dict[str, Any]:
    """Return the converted value of each setting, by the name of its field."""
    return {setting.option.field: setting.value for setting in by_name.values()}


def _trusted(proxies: Collection[Network | None]) -> TrustedProxies:
    networks = NetworkSet(network for network in proxies if network is not None)
    return TrustedProxies(networks, unix=None in proxies)
