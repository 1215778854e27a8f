"""
Which listeners share a store, and which share disk threads.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import pytest
from twisted.internet.testing import MemoryReactorClock

from tests.support.configurations import configured, configured_listeners
from twisted_upload.config.configuration import Configuration
from twisted_upload.daemon.process import FORWARDS, OBJECT_THREADS
from twisted_upload.daemon.stores import (
    StoreSet,
    other_descriptors,
    resumable_stores,
)
from twisted_upload.daemon.system import System
from twisted_upload.errors import CannotStart
from twisted_upload.hooks.folders import FORWARD
from twisted_upload.hooks.marked_file import remove_file
from twisted_upload.observability.metrics import PENDING_MULTIPARTS, combine
from twisted_upload.stores.directory.partial_index import PartialLimits
from twisted_upload.stores.directory.published import forget_first_name
from twisted_upload.stores.directory.resumable_store import ResumableDirectoryStore
from twisted_upload.stores.memory_budget import MOST_BYTES
from twisted_upload.stores.s3.forward import FORWARD_JOBS
from twisted_upload.stores.s3.store import S3Store


def directory_stores(
    stores: StoreSet, configuration: Configuration
) -> list[ResumableDirectoryStore]:
    """Return the store of each listener."""
    found = [stores.of(listener) for listener in configuration.listeners]
    assert all(isinstance(store, ResumableDirectoryStore) for store in found)
    return cast("list[ResumableDirectoryStore]", found)


def test_same_directory_same_options(tmp_path: Path) -> None:
    """Listeners that have the same directory and the same options share a store."""
    configuration = configured_listeners(tmp_path, "max-size = 1", "receipts = true")
    stores = StoreSet(configuration, MemoryReactorClock(), System())
    one, other = directory_stores(stores, configuration)
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
def test_same_directory_other_options(tmp_path: Path, way: str) -> None:
    """Listeners that have the same directory and other options share its disk threads."""
    configuration = configured_listeners(tmp_path, "", way)
    stores = StoreSet(configuration, MemoryReactorClock(), System())
    one, other = directory_stores(stores, configuration)
    assert one is not other
    assert one.disk is other.disk
    ((path, disk, both),) = ((it.path, it.disk, it.stores) for it in stores.storages)
    assert (path, disk, both) == ("/srv/uploads", one.disk, [one, other])


def test_same_directory_same_program(tmp_path: Path) -> None:
    """Limits of programs matter only with a program; then they count as other options."""
    limited = "on-upload-jobs = 7"
    for program, number in ("", 1), ("on-upload = 'true'\n", 2):
        configuration = configured_listeners(tmp_path, program, program + limited)
        assert len(StoreSet(configuration, MemoryReactorClock(), System()).all) == number


def test_other_directory(tmp_path: Path) -> None:
    """Each directory has separate disk threads and a share of the memory."""
    configuration = configured_listeners(
        tmp_path, "directory = 'a'", "directory = 'b'", "directory = 'a'"
    )
    stores = StoreSet(configuration, MemoryReactorClock(), System())
    one, other, again = directory_stores(stores, configuration)
    assert one is again
    assert one.disk is not other.disk
    assert [storage.path for storage in stores.storages] == ["/srv/a", "/srv/b"]
    assert one.memory.most + other.memory.most == MOST_BYTES


def test_other_descriptors(tmp_path: Path) -> None:
    """Programs need file descriptors, once for each store that has one."""
    program = "on-upload = 'true'\n"
    none, one, again, two = (
        other_descriptors(configured_listeners(tmp_path, *listeners))
        for listeners in ([""], [program], [program, program], [program, program + "mode = '0600'"])
    )
    assert (none, again, two) == (0, one, 2 * one)
    assert one > 128
    more = other_descriptors(configured_listeners(tmp_path, f"{program}on-upload-jobs = 14\n"))
    assert more == one + 10 * 4  # for each: its marker, the file, and two sockets


def test_descriptors_of_object_stores(tmp_path: Path) -> None:
    """An object store needs file descriptors: connections once for each directory, and a queue."""
    store, forward = "store = 's3://abc'\n", "forward = 's3://abc'\n"
    none, one, again, two, forwards = (
        other_descriptors(configured_listeners(tmp_path, *listeners))
        for listeners in (
            [""],
            [store],
            [store, store],
            [store, store + "directory = 'b'"],
            [forward, forward + "mode = '0600'"],
        )
    )
    assert (none, again, two) == (0, one, 2 * one)
    assert one > 2 * OBJECT_THREADS
    assert one < forwards < two


def test_hook_command(tmp_path: Path) -> None:
    """A listener has a program if it is configured."""
    configuration = configured_listeners(tmp_path, "", "on-upload = 'no-such-program'")
    none, command = map(System().hook_command, configuration.listeners)
    assert none is None
    assert command is not None
    with pytest.raises(CannotStart, match="no-such-program"):
        command.check()


def test_limits_of_partial_uploads(tmp_path: Path) -> None:
    """The limits of partial uploads are those of the options; 0 is no limit."""
    configuration = configured("http=8080", "max-partials=5", "max-partials-size=1G")
    (store,) = directory_stores(
        StoreSet(configuration, MemoryReactorClock(), System(), 7), configuration
    )
    limits = store.partials.limits
    assert limits == PartialLimits(5, 1000, 2**30, math.inf, 7)


def test_node() -> None:
    """The name of the node is in the ids of partial uploads."""
    configuration = configured("http=8080", "node=one")
    (store,) = directory_stores(
        StoreSet(configuration, MemoryReactorClock(), System()), configuration
    )
    assert store.partials.node == "one"


@pytest.mark.parametrize(("listeners", "number"), [(["http=8080"], 1), (["port=7000"], 0)])
def test_resumable_stores(listeners: list[str], number: int) -> None:
    """Stores of HTTP listeners have partial uploads."""
    assert resumable_stores(configured(*listeners)) == number


STORE = "store = 's3://abc/x'\n"


def test_store_of_objects(tmp_path: Path) -> None:
    """Objects have a store in front of that of their directory, which is the node's disk."""
    configuration = configured_listeners(tmp_path, STORE, STORE, STORE + "suffix = '.jpg'")
    stores = StoreSet(configuration, MemoryReactorClock(), System())
    one, again, other = (stores.of(listener) for listener in configuration.listeners)
    assert isinstance(one, S3Store)
    assert isinstance(other, S3Store)
    assert (one is again, one is other) == (True, False)
    (storage,) = stores.storages
    assert storage.objects is not None
    assert storage.objects.path == one.path == "s3://abc/x"
    assert stores.all == [one, other] == [*storage.in_front]
    assert storage.stores == [one.local, other.local]
    assert one.local.disk is storage.disk is not storage.objects.threads
    assert one.memory is one.local.memory
    assert one.memory.most + other.memory.most == MOST_BYTES


def test_other_object_store(tmp_path: Path) -> None:
    """Each directory has separate threads for its object store."""
    elsewhere = STORE + "directory = 'other'\n"
    configuration = configured_listeners(tmp_path, STORE, elsewhere, "directory = 'plain'")
    one, other, plain = StoreSet(configuration, MemoryReactorClock(), System()).storages
    assert one.objects is not None
    assert other.objects is not None
    assert one.objects.threads is not other.objects.threads
    assert plain.objects is None


@pytest.mark.parametrize(("after", "removes"), [("keep", False), ("remove", True)])
def test_forwarding(tmp_path: Path, after: str, removes: bool) -> None:
    """Files are stored in the directory, and forwarded from there by those that are to do it."""
    forward = f"forward = 's3://abc'\nafter-forward = '{after}'\n"
    configuration = configured_listeners(tmp_path, "", forward)
    stores = StoreSet(configuration, MemoryReactorClock(), System())
    plain, forwarding = directory_stores(stores, configuration)
    assert (plain.queues.names, forwarding.queues.names) == ((), (FORWARD,))
    runner: Any = forwarding.queues._runners[FORWARD]
    assert (runner._command._after is remove_file) == removes
    assert (runner._command._before is forget_first_name) == removes
    (storage,) = stores.storages
    assert storage.objects is not None
    assert (storage.objects.stores, len(storage.objects.forwards)) == ([], 1)
    assert [*storage.in_front] == [plain, forwarding]


def test_files_that_are_forwarded_at_a_time() -> None:
    """The file descriptors are those that forwarding takes."""
    assert FORWARDS == FORWARD_JOBS


def test_counted_with_metrics() -> None:
    """Operations of an object store are counted if anybody asks for metrics."""
    for options, number in ([], 0), (["metrics=9464"], 2):
        configuration = configured("store=s3://abc", *options)
        (storage,) = StoreSet(configuration, MemoryReactorClock(), System()).storages
        assert storage.objects is not None
        assert len(storage.objects.counts) == number
        objects = storage.objects
    samples = combine(counts.samples("s3://abc") for counts in objects.counts)
    assert samples[PENDING_MULTIPARTS.name] == {("s3://abc",): 0}
