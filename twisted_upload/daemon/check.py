"""
``--check``: test everything that a start needs, without starting.

Nothing is left behind: no port is listened on, and what had to be created is removed.
Leftovers of dead daemons stay for the next start to remove.
"""

from __future__ import annotations

import os
import stat
import statistics
import threading
from collections.abc import Callable, Sequence
from functools import partial

from twisted_upload.config.configuration import Configuration
from twisted_upload.config.listener import Listener, Setting
from twisted_upload.core.text import counted, format_size, printable
from twisted_upload.daemon.builder import descriptor_budget, journal_files
from twisted_upload.daemon.certificate_expiry import WARNING_DAYS, Certificates
from twisted_upload.daemon.dry_run import DryRunReactor
from twisted_upload.daemon.endpoints import EndpointBuilder
from twisted_upload.daemon.frontends import frontend_settings
from twisted_upload.daemon.process import raise_limit
from twisted_upload.daemon.system import System
from twisted_upload.daemon.systemd import InheritedSocket
from twisted_upload.disk.file_calls import Space
from twisted_upload.disk.files import Files
from twisted_upload.disk.folders import NewFolders
from twisted_upload.disk.mounts import MOUNTS, mount_of
from twisted_upload.disk.timed_files import FilesUnderTest
from twisted_upload.errors import CannotStart
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.hooks.folders import HOOKS, check_folders, queue_folders
from twisted_upload.net.endpoints import InheritedEndpoint
from twisted_upload.observability.journal_files import JournalFiles
from twisted_upload.stores.directory.folder import INCOMING, Folder, folder_test, open_folder

__all__ = ["check"]

TEST_FILES = 5
"""Number of test files in each directory."""

DISK_TIMEOUT = 30.0
"""Seconds after which a disk counts as not responding."""

Say = Callable[[str], None]


def check(
    configuration: Configuration,
    say: Say,
    as_user: Callable[[Callable[[], None]], None],
    sockets: Sequence[InheritedSocket] = (),
) -> None:
    """
    Test everything that a start needs.

    :param say: called with a line for each thing that was tested.
    :param as_user: calls a function as the user that the daemon will run as.
    :param sockets: those that the service manager has opened.
    :raises CannotStart: the first thing that is wrong, and what to change.
    """
    say = _harmless(say)
    _check_configuration(configuration, say)
    _check_ports(configuration, say, sockets)

    def check_what_it_uses() -> None:
        _check_disks(configuration, say)
        _check_object_stores(configuration, say)
        _check_programs(configuration, say)
        _check_credentials(configuration, say)

    as_user(check_what_it_uses)
    _check_descriptors(configuration, say)


def _harmless(say: Say) -> Say:
    return lambda line: say(printable(line))


def _check_configuration(configuration: Configuration, say: Say) -> None:
    listeners = counted(len(configuration.listeners), "listener")
    say(
        f"configuration: {configuration.file or 'no file'}, {listeners},"
        f" workers: {configuration.settings.workers}"
    )


def _check_ports(
    configuration: Configuration, say: Say, sockets: Sequence[InheritedSocket]
) -> None:
    def skip(setting: Setting, description: str) -> bool:
        if sockets or description.partition(":")[0] != "systemd":
            return False
        say(f"warning: {setting.named(description)}: not tested: only systemd can pass it")
        return True

    dry_run = DryRunReactor()
    builder = EndpointBuilder(dry_run, sockets, skip=skip)
    status = builder.of_status_port(configuration)
    endpoints = [
        named for listener in configuration.listeners for named in builder.of_listener(listener)
    ]
    certificates = Certificates([named.endpoint for named in endpoints], System().now)
    _check_certificates(certificates, say)
    for name, endpoint in endpoints if status is None else [*endpoints, status]:
        if isinstance(endpoint, InheritedEndpoint):
            say(f"{name}: passed by systemd")
        elif dry_run.in_use(name, endpoint):
            say(
                f"warning: {name}: in use, by this daemon if it is running, otherwise by another"
                " program"
            )
        else:
            say(f"{name}: free")


def _check_certificates(certificates: Certificates, say: Say) -> None:
    certificates.check()
    for identity, days, text in certificates.expiries():
        say(f"{'warning: ' if days < WARNING_DAYS else ''}certificate {identity.name}: {text}")


def _check_disks(configuration: Configuration, say: Say) -> None:
    # Test each distinct combination once: the first listener that has it, in order.
    kinds = {
        (it.directory, it.mode, it.reserve, bool(it.on_upload)): listener
        for listener in reversed(configuration.listeners)
        for it in [listener.settings]
    }
    for listener in reversed(kinds.values()):
        work = partial(_look_at_directory, listener)
        _in_time(f"directory {listener.settings.directory}", work, say)
    files = journal_files(configuration, System())
    if files is not None:
        _in_time(f"journal {files.path}", partial(_look_at_journal, files), say)


def _in_time(where: str, look: Callable[[Say], None], say: Say) -> None:
    """Look in a separate thread, which a dead disk may block forever."""
    found: list[str] = []
    failed: list[Exception] = []

    def work() -> None:
        try:
            look(found.append)
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(DISK_TIMEOUT)
    for line in [*found]:
        say(line)
    if thread.is_alive():
        raise CannotStart(f"{where}: the disk is not responding")
    if failed:
        raise failed[0]


def _look_at_directory(listener: Listener, say: Say) -> None:
    path = listener.settings.directory
    new = NewFolders(path, Files(), [INCOMING, *queue_folders(HOOKS)])
    try:
        _try_directory(listener, say)
    finally:
        new.remove()


def _try_directory(listener: Listener, say: Say) -> None:
    path = listener.settings.directory
    files = FilesUnderTest()
    folder = open_folder(path, files=files, suffix=str, mode=listener.settings.mode, tidy=False)
    try:
        say(_file_system(path, folder))
        if others := _others(folder):
            say(f"warning: directory {path}: {others}")
        say(f"directory {path}: a test file was stored: {_latency(folder, files)}")
        say(f"directory {path}: {_free_space(listener, files.free(folder.final))}")
        if listener.settings.on_upload:
            check_folders(path, folder.final, files)
    except OSError as error:
        raise CannotStart(f"directory {path}: {error.strerror or error}") from error
    finally:
        folder.close()


def _others(folder: Folder) -> str:
    """Describe what other users may do in the directory beyond adding files, if anything."""
    status = os.fstat(folder.final)
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        return "any user may rename and remove files in it: use chmod o-w or chmod +t"
    if status.st_uid not in (0, os.geteuid()):
        return f"it belongs to uid {status.st_uid}, which may rename and remove files in it"
    return ""


def _file_system(path: str, folder: Folder) -> str:
    with open(MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
        mount = mount_of(os.path.realpath(path), mounts.read())
    publishing = "rename" if folder.by_rename else "link and unlink"
    if mount is None:
        return f"directory {path}: published by {publishing}"
    line = f"directory {path}: {mount.kind} at {mount.point}, published by {publishing}"
    return f"warning: {line}: {mount.doubt}" if mount.doubt else line


def _latency(folder: Folder, files: FilesUnderTest) -> str:
    files.seconds.clear()
    for _ in range(TEST_FILES):
        folder_test(files, folder.final, folder.incoming, folder.temporary, folder.mode)
    return ", ".join(
        f"{call} {statistics.median(seconds) * 1000:.2f} ms (at worst {max(seconds) * 1000:.2f})"
        for call, seconds in files.seconds.items()
    )


def _free_space(listener: Listener, space: Space) -> str:
    reserve = listener.settings.reserve.of(space.total)
    found = (
        f"{format_size(space.free)} of {format_size(space.total)} free,"
        f" the reserve is {format_size(reserve)}"
    )
    if not space.total:
        found = "this file system does not report its size: the reserve has no effect"
    if space.all_inodes and not space.inodes:
        raise CannotStart(
            f"directory {listener.settings.directory}: {found}, but no inodes are free:"
            f" remove files from that file system"
        )
    if space.free < reserve:
        setting = listener.by_name["reserve"]
        raise CannotStart(
            f"directory {listener.settings.directory}: {found}: free some space, or lower"
            f" {setting.named(str(setting.text))}"
        )
    return found


def _look_at_journal(files: JournalFiles, say: Say) -> None:
    existed = os.path.lexists(files.path)
    files.check()
    if not existed and not os.path.getsize(files.path):
        os.unlink(files.path)
    say(f"journal {files.path}: can be written")


def _check_credentials(configuration: Configuration, say: Say) -> None:
    for listener in configuration.listeners:
        settings = frontend_settings(listener, Files())
        if isinstance(settings, HTTPSettings):
            say(f"{listener.name}: {settings.credentials}")


def _check_object_stores(configuration: Configuration, say: Say) -> None:
    used = {it.settings.store or it.settings.forward: it for it in configuration.listeners}
    for url, listener in used.items():
        if url is not None:
            from twisted_upload.daemon.check_objects import check_objects  # noqa: PLC0415

            check_objects(listener, say)


def _check_programs(configuration: Configuration, say: Say) -> None:
    commands = {it.settings.on_upload: System().hook_command(it) for it in configuration.listeners}
    for arguments, command in commands.items():
        if command is not None:
            command.check()
            command.start()
            command.close()
            say(f"program {arguments[0]}: can be started")


def _check_descriptors(configuration: Configuration, say: Say) -> None:
    most = descriptor_budget(configuration, System()).connections
    say(f"file descriptors: {raise_limit()} allowed, enough for {counted(most, 'connection')}")
