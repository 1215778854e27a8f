"""
The options of ``twistd upload``: one table.

A row here is all that a new option needs to be understood: the command line and
its help, the names in the environment (``TWISTED_UPLOAD_MAX_SIZE``) and in a
configuration file (``max-size``) are made of it.  What it does is elsewhere.

No option takes a secret.  One that needs a secret names the file that has it,
which may be a credential of systemd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted_upload.config.values import (
    parse_answer,
    parse_attempts,
    parse_command,
    parse_connections,
    parse_count,
    parse_directory,
    parse_host,
    parse_interface,
    parse_jobs,
    parse_keep,
    parse_log_format,
    parse_metrics,
    parse_mode,
    parse_path,
    parse_port,
    parse_reserve,
    parse_suffix,
    parse_text,
    parse_threads,
    parse_trusted_proxy,
    parse_workers,
)
from twisted_upload.core.answers import SUCCESS
from twisted_upload.core.text import parse_duration, parse_size
from twisted_upload.net.networks import parse_network

__all__ = ["CHECK", "CONFIG", "OPTIONS", "PREFIX", "PRINT_CONFIG", "Option"]

PREFIX = "TWISTED_UPLOAD_"
"""With what the names in the environment begin."""


@dataclass(frozen=True)
class Option:
    """
    One option.

    :ivar name: as on the command line, without the dashes.
    :ivar default: as it would be on the command line; None where there is none,
        and for flags and what is repeatable.
    :ivar help: for ``--help``: a sentence.
    :ivar convert: from the text to what it means; raises `ValueError` with a
        text that says what is understood.  Of a repeatable one, each is
        converted.
    :ivar flag: it is true or false and takes no value; false if not given.
    :ivar repeatable: it is a list, empty if not given.
    :ivar path: it is one of the file system; a relative one is relative to where
        the daemon runs.
    :ivar digits: it is a number that must be written as text in a file, where a
        number would be taken for another (an octal one).
    :ivar per_listener: a listener in a configuration file may have its own.
    :ivar reloadable: it can change while the daemon runs.
    """

    name: str
    default: str | None
    help: str
    convert: Callable[[str], Any] = parse_text
    flag: bool = False
    repeatable: bool = False
    path: bool = False
    digits: bool = False
    per_listener: bool = False
    reloadable: bool = False

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return PREFIX + self.name.upper().replace("-", "_")


OPTIONS: tuple[Option, ...] = (
    Option(
        "port",
        None,
        "TCP port to listen on. [default: 6666, unless --listen is given]",
        parse_port,
        per_listener=True,
    ),
    Option(
        "interface",
        "",
        "Address to listen on with --port, IPv4 or IPv6; empty is all.",
        parse_interface,
        per_listener=True,
    ),
    Option(
        "listen",
        None,
        "Twisted server endpoint (tcp:, tls:, unix:, ...) to listen on, not --port. Repeatable.",
        repeatable=True,
        per_listener=True,
    ),
    Option(
        "directory",
        "uploads",
        "Where files go; created if it is missing. Unfinished ones are in .incoming/ in it.",
        parse_directory,
        path=True,
        per_listener=True,
    ),
    Option(
        "suffix",
        "auto",
        "End of the files' names: auto (told from the first bytes, .txt for text, .bin where"
        " they do not tell), a fixed one such as .jpg, or empty.",
        parse_suffix,
        per_listener=True,
    ),
    Option(
        "mode",
        "0640",
        "Permissions of kept files, octal, whatever the umask.",
        parse_mode,
        digits=True,
        per_listener=True,
    ),
    Option(
        "reserve",
        "1%",
        "Space that uploads leave free on the disk, in bytes (5G) or per cent (1%); 0 is none.",
        parse_reserve,
        per_listener=True,
    ),
    Option(
        "no-fsync",
        None,
        "Do not wait for the disk: a kept file then survives the death of the daemon,"
        " but not of the machine.",
        flag=True,
        per_listener=True,
    ),
    Option(
        "answer",
        SUCCESS,
        "What a sender hears when its file is kept.",
        parse_answer,
        per_listener=True,
        reloadable=True,
    ),
    Option(
        "receipts",
        None,
        "Answer with name, size in bytes and SHA-256 too.",
        flag=True,
        per_listener=True,
        reloadable=True,
    ),
    Option(
        "max-size",
        "0",
        "Bytes of the largest upload, as in 500M or 4G; 0 is no limit.",
        parse_size,
        per_listener=True,
        reloadable=True,
    ),
    Option(
        "idle-timeout",
        "60s",
        "Silence after which an unfinished upload is refused; 0 is never.",
        parse_duration,
        per_listener=True,
        reloadable=True,
    ),
    Option(
        "finish-after-idle",
        "0",
        "Silence that ends an upload as a half-close would, for devices and netcats that"
        " never half-close; 0 is never.",
        parse_duration,
        per_listener=True,
        reloadable=True,
    ),
    Option(
        "allow-empty",
        None,
        "Keep uploads of zero bytes instead of refusing them.",
        flag=True,
        per_listener=True,
        reloadable=True,
    ),
    Option(
        "min-rate",
        "500",
        "Bytes a second that a sender has to keep up, over the last --idle-timeout, or 30s"
        " where that is less; 0 is none.",
        parse_size,
        per_listener=True,
        reloadable=True,
    ),
    Option(
        "max-connections",
        "auto",
        "Connections at a time; who comes then hears busy. auto is as many as the limit of"
        " descriptors (raised to the hard limit) is enough for with two for each, 32768 at"
        " the most.",
        parse_connections,
        reloadable=True,
    ),
    Option(
        "max-per-address",
        "50",
        "Connections at a time of one IPv4 address, or of one /64 of IPv6; 0 is no limit.",
        parse_count,
        per_listener=True,
        reloadable=True,
    ),
    Option(
        "allow",
        None,
        "Network whose senders may come in, as in 192.0.2.0/24 or 2001:db8::/32; then all"
        " others may not. The most specific network of --allow and --deny decides."
        " Repeatable.",
        parse_network,
        repeatable=True,
        per_listener=True,
        reloadable=True,
    ),
    Option(
        "deny",
        None,
        "Network whose senders may not come in; see --allow. Repeatable.",
        parse_network,
        repeatable=True,
        per_listener=True,
        reloadable=True,
    ),
    Option(
        "proxy-protocol",
        None,
        "Load balancers connect, and tell with a header of the PROXY protocol (version 1 or 2)"
        " whom they speak for.",
        flag=True,
        per_listener=True,
        reloadable=True,
    ),
    Option(
        "proxy-from",
        None,
        "Network of the load balancers that are believed with --proxy-protocol; nobody else may"
        " connect then. unix is whoever connects to a unix socket. Repeatable.",
        parse_trusted_proxy,
        repeatable=True,
        per_listener=True,
        reloadable=True,
    ),
    Option(
        "drain",
        "10s",
        "How long uploads in flight may go on when the daemon is told to stop.",
        parse_duration,
        reloadable=True,
    ),
    Option(
        "workers",
        "1",
        "Processes that share the ports, 1 to 64; auto is one for each core. Limits are for"
        " each of them.",
        parse_workers,
    ),
    Option(
        "on-upload",
        "",
        "Program to start for each kept file, with its arguments; no shell sees it. It finds"
        " UPLOAD_NAME, UPLOAD_PATH, UPLOAD_SIZE, UPLOAD_SHA256, UPLOAD_PEER, UPLOAD_LISTENER,"
        " UPLOAD_ARRIVED and UPLOAD_ATTEMPT in its environment.",
        parse_command,
        per_listener=True,
    ),
    Option(
        "on-upload-jobs",
        "4",
        "Programs of --on-upload that run at a time, 1 to 64.",
        parse_jobs,
        per_listener=True,
    ),
    Option(
        "on-upload-timeout",
        "5m",
        "How long one of them may take; 0 is for ever.",
        parse_duration,
        per_listener=True,
    ),
    Option(
        "on-upload-attempts",
        "6",
        "Failures after which a file is set aside in .on-upload/failed/, 1 to 1000.",
        parse_attempts,
        per_listener=True,
    ),
    Option("disk-threads", "32", "Threads that wait for the disk, 1 to 256.", parse_threads),
    Option(
        "metrics",
        "",
        "Port of 127.0.0.1, or server endpoint (tcp:9464:interface=192.0.2.1, unix:...), of"
        " /metrics, /healthz and /readyz; empty is none.",
        parse_metrics,
    ),
    Option(
        "metrics-host",
        None,
        "A public host name under which those pages are asked for. Repeatable.",
        parse_host,
        repeatable=True,
    ),
    Option(
        "log-format",
        "text",
        "The log: text, for people, or json, an object a line.",
        parse_log_format,
    ),
    Option(
        "journal",
        None,
        "File to which a line of JSON is appended for each upload that was kept, refused or lost.",
        parse_path,
        path=True,
    ),
    Option(
        "journal-size",
        "64M",
        "Bytes of the journal after which it is renamed to FILE.1 and begun anew; 0 is never.",
        parse_size,
    ),
    Option("journal-keep", "10", "Old files of the journal that are kept, 0 to 1000.", parse_keep),
)

CONFIG = Option(
    "config",
    None,
    "Configuration file (TOML). An option goes over an environment variable"
    " (TWISTED_UPLOAD_MAX_SIZE), that over the file (max-size), and that over the default.",
    path=True,
)
"""The file that may have all the others; it may be named in the environment too."""

CHECK = Option(
    "check",
    None,
    "Test the configuration, the ports, the directories and the limits; say in a line each what"
    " was found, and exit.",
    flag=True,
)

PRINT_CONFIG = Option(
    "print-config",
    None,
    "Print what is in force, as a configuration file with the source of each value, and exit.",
    flag=True,
)
