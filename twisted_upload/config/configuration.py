"""
The configuration in force.

Each option takes its value from the first source that sets it: the command line, the
environment, the configuration file, then the default.

A listener is where it listens, where its files go, and its limits.  A file may define
several listeners.  A listener's own values override the top-level values of the file;
the environment and the command line override both.  If the file defines no listener,
there is one, named after where it listens; with ``--http`` there is one that speaks
HTTP, beside it or alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from twisted_upload.config.listener import DEFAULT, Listener, Setting, values_of
from twisted_upload.config.node import default_node
from twisted_upload.config.option import Option
from twisted_upload.config.options import (
    CONFIG,
    OPTIONS,
    PROTOCOL,
    DaemonSettings,
)
from twisted_upload.config.sources import (
    HTTP,
    File,
    Layer,
    SourcedValue,
    Text,
    absolute,
    from_environment,
    read_file,
)
from twisted_upload.errors import WrongConfiguration

__all__ = ["HOST_NAME", "INHERITED", "Configuration", "configure"]

DEFAULT_PORT = "6666"

HOST_NAME = "host name"
"""The source of a value that is derived from the host name of this machine."""

INHERITED = "LISTEN_FDS"
"""The source of values that are derived from the service manager's sockets."""

_LISTENING_OPTIONS = ("port", "listen", HTTP)

_HTTP_ONLY = ("tokens", "invitation-keys", "cors-origin")
"""Options that protect HTTP listeners alone."""


class Configuration:
    """
    The configuration in force: the values for the whole daemon, and its listeners.

    :param by_name: the value of each option that is not per listener.
    :param listeners: at least one.
    :param named: whether the listeners were named in the file.
    :param file: the absolute path of the file, if there is one.
    :ivar settings: the converted values.
    """

    def __init__(
        self,
        by_name: Mapping[str, Setting],
        listeners: Sequence[Listener],
        *,
        named: bool,
        file: str | None = None,
    ) -> None:
        self.by_name = by_name
        self.settings = DaemonSettings(**values_of(by_name))
        self.listeners = tuple(listeners)
        self.named = named
        self.file = file

    def to_json(self) -> str:
        """Return all of it as one line, for `from_json` in another process."""
        return json.dumps(
            {
                "settings": _plain(self.by_name),
                "listeners": [[it.name, it.protocol, _plain(it.by_name)] for it in self.listeners],
                "named": self.named,
                "file": self.file,
            }
        )

    @classmethod
    def from_json(cls, line: str) -> Configuration:
        """Restore a configuration from `to_json`."""
        plain = json.loads(line)
        return cls(
            _from_plain(plain["settings"]),
            [
                Listener(name, _from_plain(settings), protocol)
                for name, protocol, settings in plain["listeners"]
            ],
            named=plain["named"],
            file=plain["file"],
        )


def configure(
    command_line: Layer,
    environment: Mapping[str, str],
    base: str,
    *,
    inherited: Collection[str] = (),
    host: str = "",
) -> Configuration:
    """
    Determine the configuration in force; read the configuration file if there is one.

    :param base: the folder that relative paths are relative to.
    :param inherited: the names of sockets that the service manager has opened.  Each
        goes to the listener of the same name; if there is only one listener, it gets
        them all.  This does not apply to a listener that sets where it listens.
    :param host: the host name of this machine: the default of ``--node`` if files go to an
        object store.
    :raises WrongConfiguration: a value is invalid; the text names
        the option, the variable, or the file and the key.
    """
    variables = from_environment(environment)
    file, path = File({}), None
    config = command_line.get(CONFIG.name) or variables.get(CONFIG.name)
    if config is not None:
        path = absolute(str(config.text), base)
        file = read_file(path, config.source)
    over = {**variables, **command_line}
    if file.listeners:
        for name in _LISTENING_OPTIONS:
            given = over.get(name) or file.top.get(name)
            if given is not None:
                raise WrongConfiguration(
                    f"{given.source}: not allowed, because the listeners in"
                    f" {path} say where they listen"
                )
        listeners = [
            _listener(
                name,
                _of_listener(f"{path}: listener {name}", own, over, file),
                base,
                _protocol(own),
            )
            for name, own in _where_inherited(file.listeners, inherited)
        ]
    else:
        listeners = [
            _listener("", layer, base, protocol)
            for protocol, layer in _unnamed({**file.top, **over}, inherited)
        ]
    _agree_on_programs(listeners)
    _agree_on_object_stores(listeners)
    _check_http_only(listeners)
    whole = _in_force({**file.top, **over}, base, per_listener=False)
    whole["node"] = _node(whole["node"], listeners, host)
    return Configuration(whole, listeners, named=bool(file.listeners), file=path)


def _of_listener(label: str, own: Layer, over: Layer, file: File) -> Layer:
    given = {**file.top, **own, **over}
    if "port" not in own and ("listen" not in own or not own["listen"].text):
        raise WrongConfiguration(f"{label}: it has neither port nor listen")
    if "port" not in own:
        if "interface" in own and own["interface"].text:
            raise _interface_alone(own["interface"])
        given.pop("interface", None)  # applies only to listeners with a port
    return given


def _where_inherited(
    listeners: Sequence[tuple[str, Layer]], inherited: Collection[str]
) -> Iterator[tuple[str, Layer]]:
    for name, own in listeners:
        if name in inherited and not own.keys() & _LISTENING_OPTIONS:
            yield name, {**own, "listen": SourcedValue((f"systemd:{name}",), INHERITED)}
        else:
            yield name, own


def _protocol(own: Layer) -> str:
    given = own.get(PROTOCOL.name)
    return str(_setting(PROTOCOL, given, "").value)


def _unnamed(given: Layer, inherited: Collection[str]) -> Iterator[tuple[str, Layer]]:
    """Yield the protocol and the values of the listeners that are not named in a file."""
    ports = given[HTTP].text if HTTP in given else ()
    assert isinstance(ports, tuple)
    listen = given.get("listen")
    if "port" in given or (listen is not None and listen.text) or not ports:
        raw = _without(given, HTTP)
        if "port" not in given and any(map(str.isdecimal, ports)):
            raw = _without(raw, "interface")  # it is for the ports of HTTP
        yield "raw", _of_the_only_one(raw, inherited)
    if ports:
        http = _without(given, "port", "listen")
        if not any(map(str.isdecimal, ports)):
            if "port" not in given and "interface" in given and given["interface"].text:
                raise _interface_alone(given["interface"])
            http = _without(http, "interface")
        yield "http", http


def _without(layer: Layer, *names: str) -> Layer:
    return {name: value for name, value in layer.items() if name not in names}


def _of_the_only_one(given: Layer, inherited: Collection[str]) -> Layer:
    if "port" in given:
        return given
    if inherited and "listen" not in given:
        given = {**given, "listen": SourcedValue(("systemd",), INHERITED)}
    if "listen" not in given or not given["listen"].text:
        return {**given, "port": SourcedValue(DEFAULT_PORT, DEFAULT)}
    if "interface" in given and given["interface"].text:
        raise _interface_alone(given["interface"])
    return given


def _interface_alone(interface: SourcedValue) -> WrongConfiguration:
    return WrongConfiguration(
        f"{interface.source}: it needs a port; an endpoint names its own interface"
        " (tcp:6666:interface=127.0.0.1)"
    )


def _listener(name: str, given: Layer, base: str, protocol: str) -> Listener:
    by_name = _in_force(given, base, per_listener=True)
    return Listener(name or _name_of(by_name), by_name, protocol)


def _in_force(given: Layer, base: str, *, per_listener: bool) -> dict[str, Setting]:
    options = [option for option in OPTIONS if option.per_listener == per_listener]
    return {option.name: _setting(option, given.get(option.name), base) for option in options}


def _setting(option: Option, given: SourcedValue | None, base: str) -> Setting:
    if given is None:
        absent: Text | None = option.default
        if option.flag:
            absent = False
        elif option.repeatable:
            absent = ()
        text, source = absent, DEFAULT
    else:
        text, source = given.text, given.source
    if option.path and text:
        # Later stages may run in another directory, and the path must mean the same there.
        text = absolute(str(text), base)
    try:
        return Setting(option, text, source, _value(option, text))
    except ValueError as error:
        raise WrongConfiguration(f"{source}: {error}") from None


def _value(option: Option, text: Text | None) -> Any:
    if isinstance(text, tuple):
        return tuple(option.convert(one) for one in text)
    return option.convert(text) if isinstance(text, str) else text


def _agree_on_programs(listeners: Sequence[Listener]) -> None:
    """
    Check that each directory has at most one program.

    The queue that a dead daemon leaves in a directory belongs to one program.

    :raises WrongConfiguration: two programs are configured for one directory.
    """
    programs: dict[str, Listener] = {}
    for listener in listeners:
        program = listener.settings.on_upload
        if program:
            other = programs.setdefault(listener.settings.directory, listener)
            if other.settings.on_upload != program:
                raise WrongConfiguration(
                    f"{listener.by_name['on-upload'].source}: listener {other.name} starts another"
                    " program for files in the same directory"
                )


def _node(node: Setting, listeners: Sequence[Listener], host: str) -> Setting:
    """
    Return the name of this machine: objects have it in their names.

    :raises WrongConfiguration: there has to be one, and none can be made of the host name.
    """
    in_object_store = any(it.settings.store or it.settings.forward for it in listeners)
    if node.value or not in_object_store:
        return node
    name = default_node(host)
    if not name:
        raise WrongConfiguration("--node: --store and --forward need a name for this machine")
    return Setting(node.option, name, HOST_NAME, name)


def _agree_on_object_stores(listeners: Sequence[Listener]) -> None:
    """
    Check that the files of each directory go to at most one object store.

    The files that a dead daemon leaves in a directory belong to one object store; and a
    directory in front of one contains nothing else, because nobody may take files away.

    :raises WrongConfiguration: two listeners do not agree.
    """
    stores: dict[str, Listener] = {}
    forwards: dict[str, Listener] = {}
    for listener in listeners:
        settings = listener.settings
        other = stores.setdefault(settings.directory, listener)
        if other.settings.store != settings.store:
            raise _disagreement("store", listener, other)
        if settings.forward is not None:
            other = forwards.setdefault(settings.directory, listener)
            for name in "forward", "after-forward":
                if other.by_name[name].value != listener.by_name[name].value:
                    raise _disagreement(name, listener, other)


def _disagreement(name: str, listener: Listener, other: Listener) -> WrongConfiguration:
    return WrongConfiguration(
        f"{listener.by_name[name].source}: listener {other.name} has the same directory and another"
        f" --{name}: give each its own directory"
    )


def _check_http_only(listeners: Sequence[Listener]) -> None:
    """
    Check that no one relies on tokens at a listener that cannot ask for them.

    :raises WrongConfiguration: they are set for such a listener itself, or no listener
        speaks HTTP.
    """
    has_http = any(listener.protocol == "http" for listener in listeners)
    for listener in listeners:
        for name in _HTTP_ONLY:
            setting = listener.by_name[name]
            own = f": listener {listener.name}: " in setting.source
            if setting.value and listener.protocol != "http" and (own or not has_http):
                raise WrongConfiguration(
                    f"{setting.source}: only listeners that speak HTTP have it: see --http"
                )


def _name_of(by_name: Mapping[str, Setting]) -> str:
    """
    Return the name of an unnamed listener: ``tcp-6666``, ``unix-run-upload-sock``,
    ``http-8080``, ``http-tls-8443``.
    """
    port, http = by_name["port"].text, by_name[HTTP].value
    if http:
        before, endpoint = "http ", http[0]
    else:
        before, endpoint = "", f"tcp:{port}" if port is not None else by_name["listen"].value[0]
    kind, _, rest = endpoint.lower().partition(":")
    words = f"{before}{kind} {rest.partition(':')[0]}"
    return re.sub("[^a-z0-9]+", "-", words).strip("-") or "upload"


def _plain(by_name: Mapping[str, Setting]) -> dict[str, list[Any]]:
    return {name: [setting.text, setting.source] for name, setting in by_name.items()}


def _from_plain(plain: Mapping[str, list[Any]]) -> dict[str, Setting]:
    settings = {}
    for option in OPTIONS:
        if option.name in plain:
            text, source = plain[option.name]
            text = tuple(text) if option.repeatable else text
            settings[option.name] = Setting(option, text, source, _value(option, text))
    return settings
