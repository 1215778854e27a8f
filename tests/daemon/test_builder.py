"""
What a listener is made of.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import pytest
from twisted.internet.testing import MemoryReactorClock

from tests.support.tls_peers import files
from twisted_upload.config.configuration import Configuration, configure
from twisted_upload.config.options import ListenerSettings
from twisted_upload.config.sources import SourcedValue
from twisted_upload.daemon.builder import frontend_settings
from twisted_upload.daemon.endpoints import EndpointBuilder
from twisted_upload.daemon.stores import StoreSet, descriptors_of_programs, hook_command
from twisted_upload.errors import CannotStart, WrongConfiguration
from twisted_upload.frontends.settings import FrontendSettings
from twisted_upload.stores.memory_budget import MOST_BYTES


def configured(folder: Path, *listeners: str) -> Configuration:
    """Listeners that say this, on ports of their own."""
    path = folder / "x.toml"
    path.write_text(
        "".join(
            f"[[listener]]\nname = 'l{number}'\nport = {number}\n{own}\n"
            for number, own in enumerate(listeners)
        )
    )
    return configure({"config": SourcedValue(str(path), "--config")}, {}, "/srv")


def test_same_directory_same_way(tmp_path: Path) -> None:
    """Listeners that keep files in one directory in one way share a store."""
    configuration = configured(tmp_path, "max-size = 1", "receipts = true")
    stores = StoreSet(configuration, MemoryReactorClock())
    one, other = (stores.of(listener) for listener in configuration.listeners)
    assert one is other
    assert stores.all == [one]
    assert one.memory.most == MOST_BYTES


@pytest.mark.parametrize(
    "way",
    [
        *("suffix = '.jpg'", "mode = '0600'", "reserve = 0", "no-fsync = true"),
        "on-upload = 'true'",
    ],
)
def test_same_directory_another_way(tmp_path: Path, way: str) -> None:
    """Listeners that keep files in one directory in different ways share its disk threads."""
    configuration = configured(tmp_path, "", way)
    stores = StoreSet(configuration, MemoryReactorClock())
    one, other = (stores.of(listener) for listener in configuration.listeners)
    assert one is not other
    assert one.disk is other.disk
    ((path, disk, both),) = ((it.path, it.disk, it.stores) for it in stores.storages)
    assert (path, disk, both) == ("/srv/uploads", one.disk, [one, other])


def test_same_directory_same_program(tmp_path: Path) -> None:
    """Without a program, its limits do not matter; with one, they make another way."""
    limited = "on-upload-jobs = 7"
    for program, number in ("", 1), ("on-upload = 'true'\n", 2):
        configuration = configured(tmp_path, program, program + limited)
        assert len(StoreSet(configuration, MemoryReactorClock()).all) == number


def test_descriptors_of_programs(tmp_path: Path) -> None:
    """Programs take descriptors, once for each store that has one."""
    program = "on-upload = 'true'\n"
    none, one, again, two = (
        descriptors_of_programs(configured(tmp_path, *listeners))
        for listeners in ([""], [program], [program, program], [program, program + "mode = '0600'"])
    )
    assert (none, again, two) == (0, one, 2 * one)
    assert one > 128
    more = descriptors_of_programs(configured(tmp_path, f"{program}on-upload-jobs = 14\n"))
    assert more == one + 10 * 4  # its marker, the file, and two sockets of each


def test_hook_command(tmp_path: Path) -> None:
    """A listener has a program where it says so."""
    configuration = configured(tmp_path, "", "on-upload = 'no-such-program'")
    none, command = map(hook_command, configuration.listeners)
    assert none is None
    assert command is not None
    with pytest.raises(CannotStart, match="no-such-program"):
        command.check()


def test_other_directory(tmp_path: Path) -> None:
    """A directory has disk threads of its own, and its share of the memory."""
    configuration = configured(tmp_path, "directory = 'a'", "directory = 'b'", "directory = 'a'")
    stores = StoreSet(configuration, MemoryReactorClock())
    one, other, again = (stores.of(listener) for listener in configuration.listeners)
    assert one is again
    assert one.disk is not other.disk
    assert [storage.path for storage in stores.storages] == ["/srv/a", "/srv/b"]
    assert one.memory.most + other.memory.most == MOST_BYTES


def test_frontend_settings(tmp_path: Path) -> None:
    """The values of a listener are those of its front end; so are the defaults."""
    (listener,) = configure({}, {}, "/").listeners
    assert frontend_settings(listener) == FrontendSettings()
    (listener,) = configured(
        tmp_path,
        "answer = 'OK'\nreceipts = true\nmax-size = 1\nidle-timeout = 3\nfinish-after-idle = 2\n"
        "allow-empty = true\nmin-rate = 4\nmax-per-address = 5\nallow = '10.0.0.0/8'\n"
        "proxy-protocol = true\nproxy-from = 'unix'",
    ).listeners
    assert frontend_settings(listener) == FrontendSettings(
        answer="OK",
        receipts=True,
        max_size=1,
        idle_timeout=3.0,
        finish_after_idle=2.0,
        allow_empty=True,
        min_rate=4,
        max_per_address=5,
        rules=listener.rules,
        trusted_proxies=listener.trusted_proxies,
    )


def test_fields_of_the_same_name() -> None:
    """What a front end has of an option has its type, and all but a few of it are options."""
    options = get_type_hints(ListenerSettings)
    others = set()
    for name, wanted in get_type_hints(FrontendSettings).items():
        if name in options:
            assert options[name] is wanted, name
        else:
            others.add(name)
    assert others == {"rules", "trusted_proxies", "linger_time", "linger_size"}


def test_endpoints(tmp_path: Path) -> None:
    """An endpoint is named by who wants it: an option, or a file and its key."""
    configuration = configured(tmp_path, "interface = '::1'\nlisten = ['unix:/a', 'tcp:5']")
    reactor: Any = MemoryReactorClock()
    names = [name for name, _ in EndpointBuilder(reactor).of_listener(configuration.listeners[0])]
    where = f"{tmp_path}/x.toml: listener l0:"
    assert names == [
        f"{where} port 0 ({where} interface ::1)",
        f"{where} listen unix:/a",
        f"{where} listen tcp:5",
    ]
    (listener,) = configure({}, {}, "/").listeners
    assert [name for name, _ in EndpointBuilder(reactor).of_listener(listener)] == ["--port 6666"]


def test_wrong_endpoint(tmp_path: Path) -> None:
    """What is not an endpoint is told with who wants it."""
    configuration = configured(tmp_path, "listen = 'ssl:1'")
    with pytest.raises(WrongConfiguration, match=r"listener l0: listen: .* half-close"):
        EndpointBuilder(MemoryReactorClock()).of_listener(configuration.listeners[0])


def test_tls_behind_a_balancer(tmp_path: Path) -> None:
    """TLS and the header of a load balancer do not go together, and the line says what does."""
    key, chain, _ = files(tmp_path)
    listen = f"listen = 'tls:1:key={key}:cert={chain}'\n"
    configuration = configured(
        tmp_path, listen, listen + "proxy-protocol = true\nproxy-from = '10.0.0.0/8'"
    )
    one, other = configuration.listeners
    assert len(EndpointBuilder(MemoryReactorClock()).of_listener(one)) == 2
    with pytest.raises(WrongConfiguration, match=r"listener l1: listen: tls: does not go with"):
        EndpointBuilder(MemoryReactorClock()).of_listener(other)
