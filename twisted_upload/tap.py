"""
``twistd upload``: its options, and the service made of them.

The only server module that meets a reactor.
"""

from __future__ import annotations

import ipaddress
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python import usage
from twisted.python.util import runAsEffectiveUser

from twisted_upload.answers import FAILURE, SUCCESS
from twisted_upload.directory import DirectoryStore
from twisted_upload.disk import DiskThreads
from twisted_upload.errors import CannotStart
from twisted_upload.health import Reserve
from twisted_upload.listening import endpoint_from_string, tcp_endpoint
from twisted_upload.logs import observer_for
from twisted_upload.names import is_suffix, told_suffix
from twisted_upload.raw import DoorSettings, UploadFactory
from twisted_upload.service import STOPPING, UploadService
from twisted_upload.units import parse_duration, parse_size
from twisted_upload.workers import Supervisor

__all__ = ["Options", "makeService", "make_service", "upload_service"]

DEFAULT_PORT = 6666


def _fail(text: str, status: int) -> NoReturn:
    sys.stderr.write(f"twistd upload: {text}\n")
    raise SystemExit(status)


def _say(text: str) -> None:
    """To standard output, which may not know all characters."""
    encoding = sys.stdout.encoding or "ascii"
    sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    sys.stdout.flush()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 <= int(text) <= 65535:
        raise ValueError(f"{text!r} is not a port number from 0 to 65535")
    return int(text)


def _interface(text: str) -> str:
    if text:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise ValueError(f"{text!r} is not an IPv4 or IPv6 address") from None
    return text


def _suffix(text: str) -> str:
    if text != "auto" and not is_suffix(text):
        raise ValueError(f"{text!r} is neither auto, nor empty, nor a suffix such as .jpg")
    return text


def _answer(text: str) -> str:
    if not text or len(text.encode("utf-8", "replace")) > 1024:
        raise ValueError("the answer must have 1 to 1024 bytes")
    if text.startswith(FAILURE):
        raise ValueError(f"{text!r} would be taken for a refusal")
    if any(ord(character) < 32 for character in text):
        raise ValueError("the answer must be one line without control characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the answer is not UTF-8") from None
    return text


def _directory(text: str) -> str:
    if not text or "\0" in text:
        raise ValueError("it must not be empty")
    return text


def _mode(text: str) -> int:
    try:
        mode = int(text, 8)
    except ValueError:
        mode = -1
    if not 0o400 <= mode <= 0o777 or not mode & 0o400:
        raise ValueError(f"{text!r} is not an octal mode such as 0640 that its owner can read")
    return mode


def _workers(text: str) -> int:
    if text == "auto":
        return len(os.sched_getaffinity(0))
    return _number(text, 64)


def _reserve(text: str) -> Reserve:
    if not text.rstrip().endswith("%"):
        return Reserve(size=parse_size(text))
    try:
        percent = float(text.rstrip()[:-1])
    except ValueError:
        percent = -1
    if not 0 <= percent < 100:
        raise ValueError(f"{text!r} is not a share such as 1% or a size such as 5G")
    return Reserve(percent=percent)


def _number(text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= most:
        raise ValueError(f"{text!r} is not a number from 1 to {most}")
    return int(text)


def _threads(text: str) -> int:
    return _number(text, 256)


# name, default, what it means, how it is understood
_PARAMETERS: Sequence[tuple[str, str | None, str, Callable[[str], Any]]] = (
    ("port", None, "TCP port to listen on. [default: 6666, unless --listen is given]", _port),
    ("interface", "", "Address to listen on with --port, IPv4 or IPv6; empty is all.", _interface),
    (
        "directory",
        "uploads",
        "Where files go; created if it is missing. Unfinished ones are in .incoming/ in it.",
        _directory,
    ),
    (
        "suffix",
        "auto",
        "End of the files' names: auto (told from the first bytes, .bin where they do not"
        " tell), a fixed one such as .jpg, or empty.",
        _suffix,
    ),
    ("mode", "0640", "Permissions of kept files, octal, whatever the umask.", _mode),
    (
        "reserve",
        "1%",
        "Space that uploads leave free on the disk, in bytes (5G) or per cent (1%); 0 is none.",
        _reserve,
    ),
    ("answer", SUCCESS, "What a sender hears when its file is kept.", _answer),
    ("max-size", "0", "Bytes of the largest upload, as in 500M or 4G; 0 is no limit.", parse_size),
    (
        "idle-timeout",
        "60s",
        "Silence after which an unfinished upload is refused; 0 is never.",
        parse_duration,
    ),
    (
        "finish-after-idle",
        "0",
        "Silence that ends an upload as a half-close would, for devices and netcats that"
        " never half-close; 0 is never.",
        parse_duration,
    ),
    (
        "drain",
        "10s",
        "How long uploads in flight may go on when the daemon is told to stop.",
        parse_duration,
    ),
    (
        "workers",
        "1",
        "Processes that share the ports, 1 to 64; auto is one for each core. Limits are for"
        " each of them.",
        _workers,
    ),
    ("disk-threads", "32", "Threads that wait for the disk, 1 to 256.", _threads),
)


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

    optFlags = (
        ("receipts", None, "Answer with name, size in bytes and SHA-256 too."),
        ("allow-empty", None, "Keep uploads of zero bytes instead of refusing them."),
        (
            "no-fsync",
            None,
            "Do not wait for the disk: a kept file then survives the death of the daemon,"
            " but not of the machine.",
        ),
    )
    optParameters = tuple((name, None, default, doc) for name, default, doc, _ in _PARAMETERS)

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self["listen"] = []
        self.arguments: list[str] = []

    def opt_listen(self, endpoint: str) -> None:
        """Twisted server endpoint (tcp:, unix:, ...) to listen on, not --port. Repeatable."""
        self["listen"].append(endpoint)

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
        for name, _, _, convert in _PARAMETERS:
            if self[name] is not None:
                try:
                    self[name] = convert(self[name])
                except ValueError as error:
                    raise usage.UsageError(f"--{name}: {error}") from None
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
    )


def upload_service(options: Options, reactor: Any, endpoints: Endpoints) -> UploadService:
    """A daemon of one process, not started."""
    disk = DiskThreads(reactor, options["disk-threads"])
    store = _store(options, reactor, disk)
    settings = DoorSettings(
        answer=options["answer"],
        receipts=bool(options["receipts"]),
        max_size=options["max-size"],
        idle_timeout=options["idle-timeout"],
        finish_after_idle=options["finish-after-idle"],
        allow_empty=bool(options["allow-empty"]),
    )
    factory = UploadFactory(store, reactor, settings)
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
