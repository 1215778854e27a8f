"""
The effective configuration.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.configurations import configured, wrong
from twisted_upload.config.configuration import Configuration, configure
from twisted_upload.config.listener import Listener
from twisted_upload.config.options import OPTIONS, DaemonSettings, ListenerSettings
from twisted_upload.config.sources import SourcedValue
from twisted_upload.core.text import Reserve
from twisted_upload.errors import WrongConfiguration


def only(configuration: Configuration) -> Listener:
    (listener,) = configuration.listeners
    return listener


TWO = """
max-size = "1M"
interface = "127.0.0.1"
drain = "3s"
[[listener]]
name = "scanner"
port = 7000
max-size = "2M"
[[listener]]
name = "photos"
listen = ["tcp:7001", "unix:/s"]
directory = "photos"
"""


# Precedence of the layers


@pytest.mark.parametrize(
    ("arguments", "variables", "file", "size", "source"),
    [
        (["max-size=1K"], {"MAX_SIZE": "2K"}, "max-size = '3K'", 1, "--max-size"),
        ([], {"MAX_SIZE": "2K"}, "max-size = '3K'", 2, "TWISTED_UPLOAD_MAX_SIZE"),
        ([], {}, "max-size = '3K'", 3, "x.toml: max-size"),
        ([], {}, "", 0, "default"),
    ],
)
def test_order(
    tmp_path: Path,
    arguments: list[str],
    variables: dict[str, str],
    file: str,
    size: int,
    source: str,
) -> None:
    """Precedence: command line, environment, file, default."""
    configuration = configured(*arguments, file=file, folder=tmp_path, **variables)
    setting = configuration.listeners[0].by_name["max-size"]
    assert setting.value == size * 1024
    assert setting.source.replace(f"{tmp_path}/", "") == source


def test_wrong_value_that_is_overridden(tmp_path: Path) -> None:
    """A wrong value that another layer overrides is no error."""
    assert configured("drain=1", file="drain = 'soon'", folder=tmp_path).settings.drain == 1


@pytest.mark.parametrize(
    ("arguments", "variables", "file", "label"),
    [
        (["drain=soon"], {}, "", "--drain"),
        ([], {"DRAIN": "soon"}, "", "TWISTED_UPLOAD_DRAIN"),
        ([], {}, "drain = 'soon'", "x.toml: drain"),
    ],
)
def test_wrong_value(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], file: str, label: str
) -> None:
    """The error for a wrong value names its source."""
    error = wrong(*arguments, file=file, folder=tmp_path, **variables)
    assert error == f"{label}: 'soon' is not a duration such as 30s, 500ms or 5m"


def test_file_named_in_the_environment(tmp_path: Path) -> None:
    """The environment may name the file; the command line overrides that too."""
    (tmp_path / "one.toml").write_text("drain = 1")
    (tmp_path / "two.toml").write_text("drain = 2")
    environment = {"TWISTED_UPLOAD_CONFIG": "one.toml"}
    assert configure({}, environment, str(tmp_path)).settings.drain == 1
    line = {"config": SourcedValue("two.toml", "--config")}
    configuration = configure(line, environment, str(tmp_path))
    assert configuration.settings.drain == 2
    assert configuration.file == f"{tmp_path}/two.toml"


# Without listeners in a file


def test_defaults() -> None:
    """Without any option there is one listener on port 6666, and all values are defaults."""
    configuration = configured()
    (listener,) = configuration.listeners
    every = {**configuration.by_name, **listener.by_name}
    assert {setting.source for setting in every.values()} == {"default"}
    assert (listener.settings.port, listener.settings.listen) == (6666, ())
    assert listener.name == "tcp-6666"
    assert listener.settings.directory == "/srv/uploads"
    assert listener.settings.reserve == Reserve(percent=1)
    assert listener.settings.receipts is False
    assert not configuration.named
    assert configuration.file is None


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["port=80"], "tcp-80"),
        (["listen=tcp:7777:interface=127.0.0.1"], "tcp-7777"),
        (["listen=unix:/run/Upload.sock:mode=660 tcp:1"], "unix-run-upload-sock"),
        (["listen=systemd:domain=INET:index=0"], "systemd-domain-inet"),
        (["listen=tcp:1", "port=2"], "tcp-2"),
        (["listen=:"], "upload"),
    ],
)
def test_name_of_the_only_listener(arguments: list[str], name: str) -> None:
    """An unnamed listener is named after its endpoint."""
    (listener,) = configured(*arguments).listeners
    assert listener.name == name
    assert re.fullmatch("[a-z0-9-]+", name)


def test_listen_without_port() -> None:
    """With an endpoint and no port, it does not also listen on port 6666."""
    assert only(configured("listen=tcp:1")).settings.port is None
    assert only(configured("listen=tcp:1", "port=2")).settings.port == 2


def test_empty_list(tmp_path: Path) -> None:
    """An empty list of endpoints counts as not set."""
    assert only(configured(file="listen = []", folder=tmp_path)).settings.port == 6666


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["listen=tcp:1", "interface=::1"], "--interface: it needs a port"),
        (["finish-after-idle=60s"], "--finish-after-idle: it must be shorter than idle-timeout"),
        (["proxy-protocol"], "--proxy-protocol: name the trusted load balancers"),
        (["proxy-from=unix"], "--proxy-from: it needs --proxy-protocol"),
        (["allow=::/0", "deny=::/0"], "--deny: ::/0 is both allowed and denied"),
        (["store=s3://abc", "forward=s3://abc/x"], "--forward: it cannot be combined with --store"),
        (["after-forward=remove"], "--after-forward: it needs --forward"),
        (
            ["forward=s3://abc", "after-forward=remove", "on-upload=true"],
            "--after-forward: remove cannot be combined with --on-upload",
        ),
    ],
)
def test_conflicting_values(tmp_path: Path, arguments: list[str], says: str) -> None:
    """Values that are valid alone, but conflict, are an error."""
    assert wrong(*arguments, folder=tmp_path).startswith(says)


def test_rules() -> None:
    """Networks become access rules."""
    rules = only(configured("allow=10.0.0.0/8", "deny=10.1.0.0/16")).rules
    assert rules.allows("10.2.0.1")
    assert not rules.allows("10.1.0.1")
    assert not rules.allows("11.0.0.1")


def test_trusted_proxies() -> None:
    """Trusted load balancers are networks or unix; the default is none."""
    assert only(configured()).trusted_proxies is None
    proxies = only(configured("proxy-protocol", "proxy-from=10.0.0.0/8")).trusted_proxies
    assert proxies is not None
    assert "10.1.2.3" in proxies
    assert None not in proxies
    proxies = only(configured("proxy-protocol", "proxy-from=unix")).trusted_proxies
    assert proxies is not None
    assert None in proxies
    assert "10.1.2.3" not in proxies


# Several listeners


def test_listeners(tmp_path: Path) -> None:
    """A listener inherits the values at the top of the file, and may override them."""
    configuration = configured(file=TWO, folder=tmp_path)
    scanner, photos = configuration.listeners
    assert (scanner.name, photos.name) == ("scanner", "photos")
    assert configuration.named
    assert (scanner.settings.max_size, photos.settings.max_size) == (2 * 2**20, 2**20)
    assert scanner.settings.directory == "/srv/uploads"
    assert photos.settings.directory == "/srv/photos"
    assert configuration.settings.drain == 3


def test_interface_for_all_listeners(tmp_path: Path) -> None:
    """An interface at the top applies to listeners with a port; none listens on 6666."""
    scanner, photos = configured(file=TWO, folder=tmp_path).listeners
    one, other = scanner.settings, photos.settings
    assert (one.port, one.interface, one.listen) == (7000, "127.0.0.1", ())
    assert (other.port, other.interface) == (None, "")
    assert other.listen == ("tcp:7001", "unix:/s")


def test_command_line_overrides_listeners(tmp_path: Path) -> None:
    """Values from the command line or the environment apply to every listener."""
    configuration = configured("max-size=5", file=TWO, folder=tmp_path, DIRECTORY="/d")
    for listener in configuration.listeners:
        assert (listener.settings.max_size, listener.settings.directory) == (5, "/d")


@pytest.mark.parametrize(
    ("arguments", "variables", "top", "label"),
    [
        (["port=1"], {}, "", "--port"),
        (["listen=tcp:1"], {}, "", "--listen"),
        ([], {"PORT": "1"}, "", "TWISTED_UPLOAD_PORT"),
        ([], {}, "port = 1\n", "x.toml: port"),
    ],
)
def test_port_outside_of_listeners(
    tmp_path: Path, arguments: list[str], variables: dict[str, str], top: str, label: str
) -> None:
    """If the file has listeners, ports and endpoints may be given only there."""
    error = wrong(*arguments, file=top + TWO, folder=tmp_path, **variables)
    assert error == f"{label}: not allowed, because the listeners in x.toml say where they listen"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "x.toml: listener a: it has neither port nor listen"),
        ("listen = []", "x.toml: listener a: it has neither port nor listen"),
        ("port = 'http'", "x.toml: listener a: port: 'http' is not a port number"),
        (
            "listen = 'tcp:1'\ninterface = '::1'",
            "x.toml: listener a: interface: it needs a port",
        ),
        (
            "port = 1\nfinish-after-idle = 2\nidle-timeout = 1",
            "x.toml: listener a: finish-after-idle: it must be shorter than idle-timeout (1 s)",
        ),
    ],
)
def test_wrong_listener(tmp_path: Path, text: str, says: str) -> None:
    """An error in a listener names the listener."""
    assert wrong(file=f"[[listener]]\nname = 'a'\n{text}", folder=tmp_path).startswith(says)


# Passing it to another process


def test_json(tmp_path: Path) -> None:
    """The line of JSON for another process gives the same configuration there."""
    before = configured("suffix=", file=TWO, folder=tmp_path, RECEIPTS="yes")
    line = before.to_json()
    (tmp_path / "x.toml").unlink()
    after = Configuration.from_json(line)
    assert "\n" not in line
    assert after.by_name == before.by_name
    assert after.settings == before.settings
    assert [it.name for it in after.listeners] == [it.name for it in before.listeners]
    for one, other in zip(after.listeners, before.listeners, strict=True):
        assert one.by_name == other.by_name
        assert one.settings == other.settings
    assert (after.named, after.file) == (True, before.file)


def test_every_option_has_a_value() -> None:
    """Listeners have a value for each option of a listener, the configuration for the others."""
    configuration = configured()
    text = {option.name for option in OPTIONS if option.per_listener}
    assert {*only(configuration).by_name} == text
    assert {*configuration.by_name} == {option.name for option in OPTIONS} - text
    assert only(configuration).settings == replace(
        ListenerSettings(), port=6666, directory="/srv/uploads"
    )
    assert configuration.settings == DaemonSettings()


def test_one_program_for_a_directory(tmp_path: Path) -> None:
    """Listeners that share a directory must agree on the program for its files."""
    listener = "[[listener]]\nname = '{}'\nport = {}\non-upload = '{}'\n"
    file = listener.format("a", 1, "sort") + listener.format("b", 2, "uniq")
    for other in "uniq", "sort -u":
        assert wrong(file=file.replace("uniq", other), folder=tmp_path) == (
            "x.toml: listener b: on-upload: listener a starts another program for files in the"
            " same directory"
        )
    configured(file=file + "directory = 'other'\n", folder=tmp_path)
    configured(file=file.replace("uniq", ""), folder=tmp_path)
    configured(file=file.replace("uniq", "sort"), folder=tmp_path)


FORWARD = "forward = 's3://abc/x'\n"


@pytest.mark.parametrize(
    ("one", "other", "name"),
    [
        ("store = 's3://abc/x'\n", "store = 's3://abc/y'\n", "store"),
        ("store = 's3://abc/x'\n", "", "store"),
        ("store = 's3://abc/x'\n", FORWARD, "store"),
        (FORWARD, "forward = 's3://abc/y'\n", "forward"),
        (FORWARD, f"{FORWARD}after-forward = 'remove'\n", "after-forward"),
    ],
)
def test_one_object_store_for_a_directory(tmp_path: Path, one: str, other: str, name: str) -> None:
    """Listeners that share a directory must agree on the object store for its files."""
    listeners = "[[listener]]\nname = 'a'\nport = 1\n{}[[listener]]\nname = 'b'\nport = 2\n{}"
    for first, second in (one, other), (other, one):
        error = wrong(file=listeners.format(first, second), folder=tmp_path)
        assert error.endswith(
            f": listener a has the same directory and another --{name}: give each its own directory"
        )
    elsewhere = f"{other}directory = 'other'\n"
    configured(file=listeners.format(one, elsewhere), folder=tmp_path)
    configured(file=listeners.format(one, one), folder=tmp_path)


def test_not_all_are_forwarded(tmp_path: Path) -> None:
    """Of listeners that share a directory, some may forward their files."""
    listeners = "[[listener]]\nname = 'a'\nport = 1\n[[listener]]\nname = 'b'\nport = 2\n"
    configured(file=listeners + FORWARD, folder=tmp_path)


@pytest.mark.parametrize("store", ["store=s3://abc", "forward=s3://abc"])
def test_default_node(tmp_path: Path, store: str) -> None:
    """With an object store, the default of --node is the host name; without one, it is empty."""
    assert configured().settings.node == ""
    configuration = configured(store)
    assert configuration.settings.node == "one"
    assert configuration.by_name["node"].source == "host name"
    assert Configuration.from_json(configuration.to_json()).settings.node == "one"
    assert configured(store, "node=two").settings.node == "two"
    layer = {"store": SourcedValue("s3://abc", "--store")}
    with pytest.raises(WrongConfiguration, match="--node: --store and --forward need a name"):
        configure(layer, {}, "/", host="-")
