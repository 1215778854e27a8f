"""
``twistd upload``: its options, and the service made of them.

The only server module that meets a reactor.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python import usage
from twisted.python.util import runAsEffectiveUser

from twisted_upload.directory import DirectoryStore
from twisted_upload.disk import DiskThreads
from twisted_upload.errors import CannotStart
from twisted_upload.listening import endpoint_from_string, tcp_endpoint
from twisted_upload.logs import observer_for
from twisted_upload.names import told_suffix
from twisted_upload.options import OPTIONS, Option
from twisted_upload.raw import DoorSettings, UploadFactory
from twisted_upload.service import STOPPING, UploadService
from twisted_upload.workers import Supervisor

__all__ = ["Options", "door_settings", "makeService", "make_service", "upload_service"]

DEFAULT_PORT = 6666


def _fail(text: str, status: int) -> NoReturn:
    sys.stderr.write(f"twistd upload: {text}\n")
    raise SystemExit(status)


def _say(text: str) -> None:
    """To standard output, which may not know all characters."""
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


class Options(usage.Options):
    """
    The options of ``twistd upload``.

    Once parsed, each value is what it means: bytes, seconds, numbers.

    :ivar arguments: as they were given.
    """

    synopsis = "[options]"
    longdesc = (
        "A drop box for files: every TCP connection is one upload, from its first byte to"
        " the sender's half-close. When the sender has read the answer, the file is whole,"
        " on disk, under a name of its own. Sizes are bytes, or 512K, 20M, 4G (powers of"
        " 1024); durations are seconds, or 500ms, 30s, 5m, 2h."
    )

    optFlags = tuple((option.name, None, option.help) for option in OPTIONS if option.flag)
    optParameters = tuple(
        (option.name, None, option.default, option.help) for option in OPTIONS if not option.flag
    )

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.arguments: list[str] = []
        for option in OPTIONS:
            if option.repeatable:
                self[option.name] = []
                self._dispatch[option.name] = self._one_more

    def _one_more(self, name: str, value: str) -> None:
        self[name].append(value)

    def opt_help(self) -> None:
        """Display this help and exit."""
        _say(str(self))
        raise SystemExit(0)

    def parseArgs(self, *arguments: str) -> None:
        """Take no arguments."""
        if arguments:
            raise usage.UsageError(f"{arguments[0]!r} is not an option")

    def postOptions(self) -> None:
        """Understand every value, or say which one cannot be."""
        for option in OPTIONS:
            try:
                self[option.name] = _understood(option, self[option.name])
            except ValueError as error:
                raise usage.UsageError(f"--{option.name}: {error}") from None
        if self["interface"] and self["listen"] and self["port"] is None:
            raise usage.UsageError(
                "--interface: it goes with --port; a --listen endpoint names its own"
                " (tcp:6666:interface=127.0.0.1)"
            )
        if self["finish-after-idle"] and 0 < self["idle-timeout"] <= self["finish-after-idle"]:
            raise usage.UsageError(
                "--finish-after-idle: it must be shorter than --idle-timeout"
                f" ({self['idle-timeout']:g} s)"
            )

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse the command line.

        A wrong value is one line on standard error and exit status 2, without
        the page of help that twistd would print around it.
        """
        self.arguments = list(options or ())
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            _fail(str(error).replace("option --", "--"), 2)


def _understood(option: Option, given: Any) -> Any:
    if option.flag:
        return bool(given)
    if option.repeatable:
        return [option.convert(one) for one in given]
    return None if given is None else option.convert(given)


Endpoints = Sequence[tuple[str, IStreamServerEndpoint]]


def _endpoints(options: Options, reactor: Any) -> Endpoints:
    descriptions = list(options["listen"])
    endpoints = []
    if options["port"] is not None or not descriptions:
        port = DEFAULT_PORT if options["port"] is None else options["port"]
        interface = options["interface"]
        where = f" (--interface {interface})" if interface else ""
        endpoints.append((f"--port {port}{where}", tcp_endpoint(reactor, port, interface)))
    for description in descriptions:
        try:
            endpoints.append(
                (f"--listen {description}", endpoint_from_string(reactor, description))
            )
        except ValueError as error:
            raise CannotStart(f"--listen: {error}") from error
    return endpoints


def _store(options: Options, reactor: Any, disk: DiskThreads) -> DirectoryStore:
    suffix = options["suffix"]
    return DirectoryStore(
        _path(options),
        disk,
        reactor,
        time.time,
        suffix=told_suffix if suffix == "auto" else lambda _: suffix,
        durable=not options["no-fsync"],
        mode=options["mode"],
        reserve=options["reserve"],
        after_turn=partial(reactor.callLater, 0),
    )


def door_settings(values: Mapping[str, Any]) -> DoorSettings:
    """How a raw door behaves that has these values of the options."""
    return DoorSettings(
        answer=values["answer"],
        receipts=values["receipts"],
        max_size=values["max-size"],
        idle_timeout=values["idle-timeout"],
        finish_after_idle=values["finish-after-idle"],
        allow_empty=values["allow-empty"],
    )


def upload_service(options: Options, reactor: Any, endpoints: Endpoints) -> UploadService:
    """A daemon of one process, not started."""
    disk = DiskThreads(reactor, options["disk-threads"])
    store = _store(options, reactor, disk)
    factory = UploadFactory(store, reactor, door_settings(options))
    return UploadService(endpoints, factory, store, disk, reactor, drain=options["drain"])


def make_service(options: Options, reactor: Any) -> UploadService | Supervisor:
    """
    The daemon as the options want it, not started.

    :raises CannotStart: an endpoint is not one.
    """
    endpoints = _endpoints(options, reactor)
    if options["workers"] == 1:
        return upload_service(options, reactor, endpoints)
    return Supervisor(
        endpoints,
        options["workers"],
        # The last of two counts; a worker is not where we are.
        [*options.arguments, "--directory", _path(options)],
        _store(options, reactor, DiskThreads(reactor)),
        reactor,
        patience=options["drain"] + STOPPING,
    )


def makeService(options: Options) -> IService:
    """
    What twistd calls.

    Under twistd the ports are bound and the directory is opened here already:
    before it goes into the background, while there is a terminal to say on
    what is wrong.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - twistd has chosen it by now

    try:
        service = make_service(options, reactor)
        twistd = getattr(options, "parent", None)
        if twistd is not None:
            if not twistd.get("logger") and not twistd.get("syslog"):
                service.observer = observer_for(twistd)
            if not twistd.get("chroot"):
                service.bind()
                _as_its_user(twistd, service.open)
                if not twistd.get("nodaemon"):
                    _say(service.description)
    except CannotStart as error:
        _fail(str(error), 1)
    return service


def _as_its_user(twistd: Any, function: Callable[[], None]) -> None:
    """Do it as the user that twistd will run as (``--uid``, ``--gid``)."""
    uid, gid = twistd.get("uid"), twistd.get("gid")
    if uid is None and gid is None:
        function()
        return
    uid = os.geteuid() if uid is None else uid
    gid = os.getegid() if gid is None else gid
    try:
        runAsEffectiveUser(uid, gid, function)
    except PermissionError as error:
        raise CannotStart(f"cannot run as uid {uid} and gid {gid}: {error.strerror}") from error


def _path(options: Options) -> str:
    twistd = getattr(options, "parent", None)
    rundir = (twistd.get("rundir") if twistd is not None else None) or "."
    return os.path.abspath(os.path.join(rundir, options["directory"]))
