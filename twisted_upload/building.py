"""
What a listener is made of, by its configuration: endpoints, the settings of its
door, its store.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet.interfaces import IStreamServerEndpoint

from twisted_upload.configuration import Configuration, Listener
from twisted_upload.directory import MOST_HELD_BY_ALL, DirectoryStore
from twisted_upload.disk import DiskThreads
from twisted_upload.errors import WrongConfiguration
from twisted_upload.facing import limits_of
from twisted_upload.health import Reserve
from twisted_upload.hook_command import HookCommand
from twisted_upload.hooks import HookRunner
from twisted_upload.keeping import LANES, MOST_FILES
from twisted_upload.listening import endpoint_from_string, tcp_endpoint
from twisted_upload.names import told_suffix
from twisted_upload.service import Storage
from twisted_upload.settings import DoorSettings

__all__ = [
    "Endpoints",
    "Stores",
    "descriptors_of_programs",
    "door_settings",
    "endpoints_of",
    "hook_command",
]

_OF_PROGRAMS = ("on-upload", "on-upload-jobs", "on-upload-timeout", "on-upload-attempts")

Endpoints = Sequence[tuple[str, IStreamServerEndpoint]]
"""Endpoints, each with its name for people: who wants it, and what it is."""


def endpoints_of(listener: Listener, reactor: Any) -> Endpoints:
    """
    What a listener listens on.

    :raises WrongConfiguration: an endpoint is not one.
    """
    endpoints: list[tuple[str, IStreamServerEndpoint]] = []
    port, interface = listener.settings["port"], listener["interface"]
    if port.value is not None:
        name = port.named(str(port.value))
        if interface:
            name += f" ({listener.settings['interface'].named(interface)})"
        endpoints.append((name, tcp_endpoint(reactor, port.value, interface)))
    listen = listener.settings["listen"]
    for description in listen.value:
        try:
            endpoint = endpoint_from_string(reactor, description)
        except ValueError as error:
            raise WrongConfiguration(f"{listen.source}: {error}") from error
        endpoints.append((listen.named(description), endpoint))
    return endpoints


def door_settings(values: Mapping[str, Any]) -> DoorSettings:
    """How a raw door behaves that has these values of the options."""
    return DoorSettings(
        answer=values["answer"],
        receipts=values["receipts"],
        max_size=values["max-size"],
        idle_timeout=values["idle-timeout"],
        finish_after_idle=values["finish-after-idle"],
        allow_empty=values["allow-empty"],
        **limits_of(values),
    )


def hook_command(listener: Listener) -> HookCommand | None:
    """The program that is to be started for each file, where there is one."""
    if not listener["on-upload"]:
        return None
    return HookCommand(listener["on-upload"], listener["on-upload-timeout"], os.environ)


def descriptors_of_programs(configuration: Configuration) -> int:
    """How many descriptors programs and their queues take, at the most."""
    # A marker for each file that is being kept; for each program a file to hash,
    # and a socket to hear of its end; the folders of the queue.
    files = LANES * MOST_FILES + configuration["disk-threads"]
    ways = {_way(it): it["on-upload-jobs"] for it in configuration.listeners if it["on-upload"]}
    return sum(files + 3 * jobs + 8 for jobs in ways.values())


class Stores:
    """
    The stores of all listeners, not opened.

    Listeners that keep files in the same directory in the same way share a
    store.  Each directory has disk threads of its own, so that a disk which
    stands still holds up nobody else's; and the memory that uploads may take is
    divided, for the same reason.

    :ivar all: every one of them, once.
    :ivar storages: the same, by directories.
    """

    def __init__(self, configuration: Configuration, reactor: Any) -> None:
        ways = [_way(listener) for listener in configuration.listeners]
        most_held = MOST_HELD_BY_ALL // len(set(ways))
        disks: dict[str, DiskThreads] = {}
        self._stores: dict[tuple[Any, ...], DirectoryStore] = {}
        for listener, way in zip(configuration.listeners, ways, strict=True):
            path, suffix, durable, mode, reserve, *_ = way
            if path not in disks:
                disks[path] = DiskThreads(reactor, configuration["disk-threads"])
            if way not in self._stores:
                self._stores[way] = DirectoryStore(
                    path,
                    disks[path],
                    reactor,
                    time.time,
                    suffix=_suffixes(suffix),
                    durable=durable,
                    mode=mode,
                    reserve=reserve,
                    hooks=_hooks(listener, reactor),
                    most_held=most_held,
                    after_turn=partial(reactor.callLater, 0),
                )
        self.all = [*self._stores.values()]
        self.storages = [
            Storage(path, disk, [store for store in self.all if store.path == path])
            for path, disk in disks.items()
        ]

    def of(self, listener: Listener) -> DirectoryStore:
        """The store of one listener."""
        return self._stores[_way(listener)]


def _hooks(listener: Listener, reactor: Any) -> HookRunner | None:
    command, jobs = hook_command(listener), listener["on-upload-jobs"]
    if command is None:
        return None
    return HookRunner(
        command,
        DiskThreads(reactor, jobs + 1, "on-upload"),
        reactor,
        time.time,
        jobs=jobs,
        attempts=listener["on-upload-attempts"],
        chance=random.random,
    )


def _suffixes(suffix: str) -> Callable[[bytes], str]:
    return told_suffix if suffix == "auto" else lambda _: suffix


def _way(listener: Listener) -> tuple[str, str, bool, int, Reserve, tuple[Any, ...]]:
    """All that makes a store differ from another."""
    program = listener["on-upload"] and tuple(listener[name] for name in _OF_PROGRAMS)
    return (
        listener["directory"],
        listener["suffix"],
        not listener["no-fsync"],
        listener["mode"],
        listener["reserve"],
        program,
    )
