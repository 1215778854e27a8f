"""
Build the endpoints of the listeners in a configuration, and of the metrics port.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted_upload.config.configuration import INHERITED, Configuration
from twisted_upload.config.listener import Listener, Setting
from twisted_upload.daemon.listeners import NamedEndpoint
from twisted_upload.daemon.systemd import InheritedSocket
from twisted_upload.errors import WrongConfiguration
from twisted_upload.net.endpoints import InheritedEndpoint, endpoint_from_string, tcp_endpoint
from twisted_upload.net.sockets import Sockets

__all__ = ["EndpointBuilder"]


class EndpointBuilder:
    """
    Makes the endpoints of one daemon.

    An inherited socket goes to the first listener that names it.

    :param reactor: the reactor of the endpoints.
    :param sockets: those that the service manager has opened.
    :param kernel: the system calls for sockets; the real ones by default.
    :param skip: given a setting and a description in it, tells whether to make no
        endpoint of it.
    """

    def __init__(
        self,
        reactor: Any,
        sockets: Sequence[InheritedSocket] = (),
        *,
        kernel: Sockets | None = None,
        skip: Callable[[Setting, str], bool] = lambda _, __: False,
    ) -> None:
        self._reactor = reactor
        self._left = [*sockets]
        self._kernel = kernel
        self._skip = skip

    def of_status_port(self, configuration: Configuration) -> NamedEndpoint | None:
        """
        Make the endpoint of ``--metrics``, if it is given.

        :raises WrongConfiguration: it is not an endpoint, or it is several.
        """
        description = configuration.settings.metrics
        if not description:
            return None
        setting = configuration.by_name["metrics"]
        found = self._described(setting, description)
        if len(found) > 1:
            raise WrongConfiguration(
                f"{setting.source}: {description}: systemd passed several sockets of that name"
            )
        name = setting.named(str(setting.text))
        return found[0]._replace(name=name) if found else None

    def of_listener(self, listener: Listener) -> list[NamedEndpoint]:
        """
        Make the endpoints of a listener.

        :raises WrongConfiguration: one is invalid.
        """
        endpoints: list[NamedEndpoint] = []
        settings, by_name = listener.settings, listener.by_name
        if settings.port is not None:
            name = by_name["port"].named(str(settings.port))
            if settings.interface:
                name += f" ({by_name['interface'].named(settings.interface)})"
            endpoint = tcp_endpoint(self._reactor, settings.port, settings.interface, self._kernel)
            endpoints.append(NamedEndpoint(name, endpoint))
        for description in settings.listen:
            endpoints += self._described(by_name["listen"], description)
        for description in settings.http:
            endpoints += self._http(listener, description)
        return endpoints

    def _http(self, listener: Listener, description: str) -> list[NamedEndpoint]:
        setting = listener.by_name["http"]
        if not description.isdecimal():
            return self._described(setting, description)
        interface = listener.settings.interface
        endpoint = tcp_endpoint(self._reactor, int(description), interface, self._kernel)
        return [NamedEndpoint(setting.named(description), endpoint)]

    def check_sockets_are_taken(self) -> None:
        """
        Check that each inherited socket has a listener; call after all endpoints are made.

        :raises WrongConfiguration: one has none: its connections would wait forever.
        """
        for one in self._left:
            what = f"systemd:{one.name}" if one.name else "systemd"
            raise WrongConfiguration(
                f"{INHERITED}: no listener uses file descriptor {one.descriptor}; add one that"
                f" listens on {what}"
            )

    def _described(self, setting: Setting, description: str) -> list[NamedEndpoint]:
        if self._skip(setting, description):
            return []
        name = setting.named(description)
        kind, _, which = description.partition(":")
        if kind == "systemd" and "=" not in which:
            return [NamedEndpoint(name, it) for it in self._taken(setting, description, which)]
        try:
            endpoint = endpoint_from_string(self._reactor, description)
        except ValueError as error:
            raise WrongConfiguration(f"{setting.source}: {error}") from error
        if isinstance(endpoint, InheritedEndpoint):
            self._left = [one for one in self._left if one.descriptor != endpoint.descriptor]
        return [NamedEndpoint(name, endpoint)]

    def _taken(self, setting: Setting, description: str, which: str) -> list[InheritedEndpoint]:
        taken = [one for one in self._left if which in ("", one.name)]
        if not taken:
            called = f" named {which}" if which else ""
            raise WrongConfiguration(
                f"{setting.source}: {description}: systemd passed no socket{called}, or another"
                " listener uses it"
            )
        self._left = [one for one in self._left if one not in taken]
        return [InheritedEndpoint(self._reactor, one.descriptor, one.family) for one in taken]
