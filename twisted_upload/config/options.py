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

from twisted_upload.config.listener_options import ListenerSettings
from twisted_upload.config.option import Option, option, options_of, repeatable
from twisted_upload.config.values import (
    parse_connections,
    parse_host,
    parse_keep,
    parse_log_format,
    parse_metrics,
    parse_node,
    parse_path,
    parse_protocol,
    parse_threads,
    parse_workers,
)
from twisted_upload.core.log_format import LogFormat
from twisted_upload.core.text import parse_duration, parse_size

__all__ = [
    "CHECK",
    "CONFIG",
    "OPTIONS",
    "PRINT_CONFIG",
    "PROTOCOL",
    "DaemonSettings",
    "ListenerSettings",
]


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """Options of the whole daemon."""

    max_connections: int | None = option(
        parse_connections,
        "auto",
        "Maximum simultaneous connections; further ones are refused with busy. auto: derived from"
        " the file-descriptor limit (raised to the hard limit; two per connection, four with"
        " --store), at most 32768.",
        reloadable=True,
        after="min-rate",
    )
    drain: float = option(
        parse_duration,
        "10s",
        "Time that uploads in flight have to finish when the daemon stops.",
        reloadable=True,
        after="proxy-from",
    )
    workers: int = option(
        parse_workers,
        "1",
        "Processes that share the ports, 1 to 64; auto: one per core. Limits apply to each"
        " process.",
        after="drain",
    )
    node: str = option(
        parse_node,
        "",
        "Name of this machine among those behind a load balancer: a to z, 0 to 9 and -, at most 32."
        " It is in the ids of resumable uploads, so that the load balancer can route by them, and"
        " in the names of files, so that no two machines give the same. Empty for a daemon that is"
        " alone; with --store or --forward, the host name is then used.",
        after="workers",
    )
    disk_threads: int = option(
        parse_threads,
        "32",
        "Threads for disk operations, 1 to 256.",
    )
    metrics: str = option(
        parse_metrics,
        "",
        "Port on 127.0.0.1, or server endpoint (tcp:9464:interface=192.0.2.1, unix:...), for"
        " /metrics, /healthz and /readyz; empty for none.",
    )
    metrics_host: tuple[str, ...] = repeatable(
        parse_host,
        "Public host name under which the metrics pages are requested. Repeatable.",
    )
    log_format: LogFormat = option(
        parse_log_format,
        "text",
        "Format of the log: text, for people, or json, one object per line.",
    )
    journal: str | None = option(
        parse_path,
        None,
        "File to which a line of JSON is appended for each upload: stored, refused or aborted.",
        path=True,
    )
    journal_size: int = option(
        parse_size,
        "64M",
        "Size at which the journal is renamed to FILE.1 and a new one is begun; 0 for never.",
    )
    journal_keep: int = option(
        parse_keep,
        "10",
        "Number of old journal files to keep, 0 to 1000.",
    )


OPTIONS = options_of(ListenerSettings, DaemonSettings)
"""All options, in the order of ``--help``."""

CONFIG = Option(
    "config",
    None,
    "Configuration file (TOML). Options override environment variables (TWISTED_UPLOAD_MAX_SIZE),"
    " which override the file (max-size), which overrides the defaults.",
    path=True,
)
"""The option that names the configuration file; it may be set in the environment too."""

PROTOCOL = Option(
    "protocol",
    "raw",
    "What a listener speaks: raw (each connection is one upload) or http.",
    convert=parse_protocol,
    per_listener=True,
)
"""The key of a listener in a configuration file; elsewhere there is ``--http``."""

CHECK = Option(
    "check",
    None,
    "Check the configuration, ports, directories and limits, print a line for each result, and"
    " exit.",
    flag=True,
)

PRINT_CONFIG = Option(
    "print-config",
    None,
    "Print the settings in effect as a configuration file, with the source of each value, and"
    " exit.",
    flag=True,
)
