"""
The options of ``twistd upload``: one table in two parts.

To add an option, add a field.  The command line and its help, the environment
variable (``TWISTED_UPLOAD_MAX_SIZE``) and the key in a configuration file
(``max-size``) are derived from it.  The code that uses the option reads the field.

No option takes a secret.  An option that needs one names a file that contains it,
which may be a systemd credential.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted_upload.config.option import Option, flag, option, options_of, repeatable
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
from twisted_upload.core.log_format import LogFormat
from twisted_upload.core.text import Reserve, parse_duration, parse_size
from twisted_upload.net.networks import Network, parse_network

__all__ = [
    "CHECK",
    "CONFIG",
    "OPTIONS",
    "PRINT_CONFIG",
    "DaemonSettings",
    "ListenerSettings",
]


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """Options that each listener in a configuration file may set."""

    port: int | None = option(
        parse_port,
        None,
        "TCP port to listen on. [default: 6666, unless --listen is given]",
    )
    interface: str = option(
        parse_interface,
        "",
        "Address to listen on with --port, IPv4 or IPv6; empty is all.",
    )
    listen: tuple[str, ...] = repeatable(
        parse_text,
        "Twisted server endpoint (tcp:, tls:, unix:, ...) to listen on, not --port. Repeatable.",
    )
    directory: str = option(
        parse_directory,
        "uploads",
        "Where files go; created if it is missing. Unfinished ones are in .incoming/ in it.",
        path=True,
    )
    suffix: str = option(
        parse_suffix,
        "auto",
        "End of the files' names: auto (told from the first bytes, .txt for text, .bin where"
        " they do not tell), a fixed one such as .jpg, or empty.",
    )
    mode: int = option(
        parse_mode,
        "0640",
        "Permissions of kept files, octal, whatever the umask.",
        digits=True,
    )
    reserve: Reserve = option(
        parse_reserve,
        "1%",
        "Space that uploads leave free on the disk, in bytes (5G) or per cent (1%); 0 is none.",
    )
    no_fsync: bool = flag(
        "Do not wait for the disk: a kept file then survives the death of the daemon,"
        " but not of the machine.",
    )
    answer: str = option(
        parse_answer,
        SUCCESS,
        "What a sender hears when its file is kept.",
        reloadable=True,
    )
    receipts: bool = flag(
        "Answer with name, size in bytes and SHA-256 too.",
        reloadable=True,
    )
    max_size: int = option(
        parse_size,
        "0",
        "Bytes of the largest upload, as in 500M or 4G; 0 is no limit.",
        reloadable=True,
    )
    idle_timeout: float = option(
        parse_duration,
        "60s",
        "Silence after which an unfinished upload is refused; 0 is never.",
        reloadable=True,
    )
    finish_after_idle: float = option(
        parse_duration,
        "0",
        "Silence that ends an upload as a half-close would, for devices and netcats that"
        " never half-close; 0 is never.",
        reloadable=True,
    )
    allow_empty: bool = flag(
        "Keep uploads of zero bytes instead of refusing them.",
        reloadable=True,
    )
    min_rate: int = option(
        parse_size,
        "500",
        "Bytes a second that a sender has to keep up, over the last --idle-timeout, or 30s"
        " where that is less; 0 is none.",
        reloadable=True,
    )
    max_per_address: int = option(
        parse_count,
        "50",
        "Connections at a time of one IPv4 address, or of one /64 of IPv6; 0 is no limit.",
        reloadable=True,
    )
    allow: tuple[Network, ...] = repeatable(
        parse_network,
        "Network whose senders may come in, as in 192.0.2.0/24 or 2001:db8::/32; then all"
        " others may not. The most specific network of --allow and --deny decides."
        " Repeatable.",
        reloadable=True,
    )
    deny: tuple[Network, ...] = repeatable(
        parse_network,
        "Network whose senders may not come in; see --allow. Repeatable.",
        reloadable=True,
    )
    proxy_protocol: bool = flag(
        "Load balancers connect, and tell with a header of the PROXY protocol (version 1 or 2)"
        " whom they speak for.",
        reloadable=True,
    )
    proxy_from: tuple[Network | None, ...] = repeatable(
        parse_trusted_proxy,
        "Network of the load balancers that are believed with --proxy-protocol; nobody else may"
        " connect then. unix is whoever connects to a unix socket. Repeatable.",
        reloadable=True,
    )
    on_upload: tuple[str, ...] = option(
        parse_command,
        "",
        "Program to start for each kept file, with its arguments; no shell sees it. It finds"
        " UPLOAD_NAME, UPLOAD_PATH, UPLOAD_SIZE, UPLOAD_SHA256, UPLOAD_PEER, UPLOAD_LISTENER,"
        " UPLOAD_ARRIVED and UPLOAD_ATTEMPT in its environment.",
    )
    on_upload_jobs: int = option(
        parse_jobs,
        "4",
        "Programs of --on-upload that run at a time, 1 to 64.",
    )
    on_upload_timeout: float = option(
        parse_duration,
        "5m",
        "How long one of them may take; 0 is for ever.",
    )
    on_upload_attempts: int = option(
        parse_attempts,
        "6",
        "Failures after which a file is set aside in .on-upload/failed/, 1 to 1000.",
    )


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """Options of the whole daemon."""

    max_connections: int | None = option(
        parse_connections,
        "auto",
        "Connections at a time; who comes then hears busy. auto is as many as the limit of"
        " descriptors (raised to the hard limit) is enough for with two for each, 32768 at"
        " the most.",
        reloadable=True,
        after="min-rate",
    )
    drain: float = option(
        parse_duration,
        "10s",
        "How long uploads in flight may go on when the daemon is told to stop.",
        reloadable=True,
        after="proxy-from",
    )
    workers: int = option(
        parse_workers,
        "1",
        "Processes that share the ports, 1 to 64; auto is one for each core. Limits are for"
        " each of them.",
        after="drain",
    )
    disk_threads: int = option(
        parse_threads,
        "32",
        "Threads that wait for the disk, 1 to 256.",
    )
    metrics: str = option(
        parse_metrics,
        "",
        "Port of 127.0.0.1, or server endpoint (tcp:9464:interface=192.0.2.1, unix:...), of"
        " /metrics, /healthz and /readyz; empty is none.",
    )
    metrics_host: tuple[str, ...] = repeatable(
        parse_host,
        "A public host name under which those pages are asked for. Repeatable.",
    )
    log_format: LogFormat = option(
        parse_log_format,
        "text",
        "The log: text, for people, or json, an object a line.",
    )
    journal: str | None = option(
        parse_path,
        None,
        "File to which a line of JSON is appended for each upload that was kept, refused or lost.",
        path=True,
    )
    journal_size: int = option(
        parse_size,
        "64M",
        "Bytes of the journal after which it is renamed to FILE.1 and begun anew; 0 is never.",
    )
    journal_keep: int = option(
        parse_keep,
        "10",
        "Old files of the journal that are kept, 0 to 1000.",
    )


OPTIONS = options_of(ListenerSettings, DaemonSettings)
"""All options, in the order of ``--help``."""

CONFIG = Option(
    "config",
    None,
    "Configuration file (TOML). An option goes over an environment variable"
    " (TWISTED_UPLOAD_MAX_SIZE), that over the file (max-size), and that over the default.",
    path=True,
)
"""The option that names the configuration file; it may be set in the environment too."""

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
