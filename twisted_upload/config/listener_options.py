"""
The options that each listener may set; see `twisted_upload.config.options`.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted_upload.config.option import flag, option, repeatable
from twisted_upload.config.values import (
    parse_after_forward,
    parse_answer,
    parse_attempts,
    parse_command,
    parse_count,
    parse_directory,
    parse_http,
    parse_interface,
    parse_jobs,
    parse_mode,
    parse_names,
    parse_object_url,
    parse_page_text,
    parse_page_title,
    parse_path,
    parse_port,
    parse_reserve,
    parse_resume_for,
    parse_suffix,
    parse_text,
    parse_trusted_proxy,
)
from twisted_upload.core.answers import SUCCESS
from twisted_upload.core.name_form import NameForm
from twisted_upload.core.object_url import AfterForward, ObjectURL
from twisted_upload.core.text import Reserve, parse_duration, parse_size
from twisted_upload.net.networks import Network, parse_network
from twisted_upload.net.origins import parse_origin

__all__ = ["ListenerSettings"]


@dataclass(frozen=True, slots=True)
class ListenerSettings:
    """Options that each listener in a configuration file may set."""

    port: int | None = option(
        parse_port,
        None,
        "TCP port to listen on. [default: 6666, unless --listen or --http is given]",
    )
    interface: str = option(
        parse_interface,
        "",
        "IPv4 or IPv6 address to listen on with --port, and the ports of --http; empty for all.",
    )
    listen: tuple[str, ...] = repeatable(
        parse_text,
        "Twisted server endpoint (tcp:, tls:, unix:, ...) to listen on instead of --port."
        " Repeatable.",
    )
    http: tuple[str, ...] = repeatable(
        parse_http,
        "Port, or Twisted server endpoint (tls:, unix:, ...), to listen on for HTTP: curl, browsers"
        " and tus clients. Without --port and --listen, there is only HTTP. Repeatable.",
    )
    directory: str = option(
        parse_directory,
        "uploads",
        "Directory for stored files; created if missing. Unfinished files are in its .incoming/.",
        path=True,
    )
    store: ObjectURL | None = option(
        parse_object_url,
        "",
        "Object store for stored files, as s3://BUCKET/PREFIX, instead of --directory, which then"
        " holds unfinished ones and is the daemon's own. Endpoint, region and credentials are those"
        " of the environment (AWS_*) or of ~/.aws.",
    )
    forward: ObjectURL | None = option(
        parse_object_url,
        "",
        "Object store, as s3://BUCKET/PREFIX, to which each file is forwarded after it was stored"
        " in --directory and its sender was answered; see --store for credentials.",
    )
    after_forward: AfterForward = option(
        parse_after_forward,
        "keep",
        "What happens to a forwarded file in --directory: keep or remove.",
    )
    suffix: str = option(
        parse_suffix,
        "auto",
        "Suffix of file names: auto (detected from the first bytes; .txt for text, .bin if"
        " unknown), a fixed one such as .jpg, or empty.",
    )
    names: NameForm = option(
        parse_names,
        "time",
        "Form of file names: time (1795328130123.jpg), or time-original, with the name that an"
        " HTTP sender gave (1795328130123-photo.jpg).",
    )
    mode: int = option(
        parse_mode,
        "0640",
        "Permissions of stored files, in octal, regardless of the umask.",
        digits=True,
    )
    reserve: Reserve = option(
        parse_reserve,
        "1%",
        "Free space that uploads leave on the disk, as a size (5G) or a share (1%); 0 for none.",
    )
    no_fsync: bool = flag(
        "Do not wait for the disk: a stored file then survives a crash of the daemon, but not of"
        " the machine.",
    )
    answer: str = option(
        parse_answer,
        SUCCESS,
        "Answer to a sender whose file was stored.",
        reloadable=True,
    )
    receipts: bool = flag(
        "Add name, size in bytes and SHA-256 to the answer.",
        reloadable=True,
    )
    max_size: int = option(
        parse_size,
        "0",
        "Maximum size of an upload, as in 500M or 4G; 0 for no limit.",
        reloadable=True,
    )
    idle_timeout: float = option(
        parse_duration,
        "60s",
        "Time without data after which an unfinished upload is refused; 0 for never.",
        reloadable=True,
    )
    finish_after_idle: float = option(
        parse_duration,
        "0",
        "Time without data that ends an upload as a half-close would, for devices and netcats that"
        " never half-close; 0 for never.",
        reloadable=True,
    )
    allow_empty: bool = flag(
        "Store uploads of zero bytes instead of refusing them.",
        reloadable=True,
    )
    min_rate: int = option(
        parse_size,
        "500",
        "Minimum rate of a sender in bytes per second, averaged over --idle-timeout (at least"
        " 30s); 0 for none.",
        reloadable=True,
    )
    max_per_address: int = option(
        parse_count,
        "50",
        "Maximum simultaneous connections from one IPv4 address or IPv6 /64; 0 for no limit.",
        reloadable=True,
    )
    allow: tuple[Network, ...] = repeatable(
        parse_network,
        "Network that may connect, as in 192.0.2.0/24 or 2001:db8::/32; all others are then"
        " rejected. The most specific network of --allow and --deny decides."
        " Repeatable.",
        reloadable=True,
    )
    deny: tuple[Network, ...] = repeatable(
        parse_network,
        "Network that may not connect; see --allow. Repeatable.",
        reloadable=True,
    )
    proxy_protocol: bool = flag(
        "Connections come from load balancers, which name the sender in a PROXY protocol header"
        " (version 1 or 2).",
        reloadable=True,
    )
    proxy_from: tuple[Network | None, ...] = repeatable(
        parse_trusted_proxy,
        "Network of the load balancers to trust with --proxy-protocol; all others are then"
        " rejected. unix means the clients of a unix socket. Repeatable.",
        reloadable=True,
    )
    trust_forwarded: tuple[Network | None, ...] = repeatable(
        parse_trusted_proxy,
        "Network of the HTTP proxies whose X-Forwarded-For and X-Forwarded-Proto are believed; unix"
        " means the clients of a unix socket. Repeatable.",
        reloadable=True,
    )
    resume_for: float = option(
        parse_resume_for,
        "24h",
        "Time for which an unfinished HTTP upload can be resumed after its last request, at least"
        " 1m; then it is removed.",
        reloadable=True,
    )
    page_title: str = option(
        parse_page_title,
        "",
        "Title of the upload page that browsers are shown; empty for one in the reader's language.",
        reloadable=True,
    )
    page_text: str = option(
        parse_page_text,
        "",
        "Plain text below the title of the upload page; empty for none.",
        reloadable=True,
    )
    no_page: bool = flag(
        "Show browsers no upload page; curl and tus clients can upload all the same.",
        reloadable=True,
    )
    tokens: str | None = option(
        parse_path,
        None,
        "File of the tokens that HTTP senders need (see twisted-upload token); read again at a"
        " reload.",
        path=True,
        reloadable=True,
    )
    invitation_keys: str | None = option(
        parse_path,
        None,
        "File of the keys with which invitations are signed (see twisted-upload invite); HTTP"
        " senders then need an invitation or a token. Read again at a reload.",
        path=True,
    )
    cors_origin: tuple[str, ...] = repeatable(
        parse_origin,
        "Origin, as in https://app.example, whose pages may upload here; all others are refused."
        " Repeatable.",
        reloadable=True,
    )
    max_partials: int = option(
        parse_count,
        "10000",
        "Maximum number of unfinished uploads that can be resumed; 0 for no limit.",
    )
    max_partials_per_address: int = option(
        parse_count,
        "1000",
        "Maximum number of them from one IPv4 address or IPv6 /64; 0 for no limit.",
    )
    max_partials_size: int = option(
        parse_size,
        "0",
        "Maximum size of them together, as in 500G; 0 for no limit but --reserve.",
    )
    max_partials_size_per_address: int = option(
        parse_size,
        "0",
        "Maximum size of them from one IPv4 address or IPv6 /64; 0 for no limit.",
    )
    on_upload: tuple[str, ...] = option(
        parse_command,
        "",
        "Program to run for each stored file, with its arguments, without a shell. It gets"
        " UPLOAD_NAME, UPLOAD_PATH, UPLOAD_URL, UPLOAD_SIZE, UPLOAD_SHA256, UPLOAD_PEER,"
        " UPLOAD_LISTENER, UPLOAD_ARRIVED, UPLOAD_ATTEMPT, UPLOAD_ORIGINAL_NAME,"
        " UPLOAD_CONTENT_TYPE, UPLOAD_LABEL and UPLOAD_FOLDER in its environment.",
    )
    on_upload_jobs: int = option(
        parse_jobs,
        "4",
        "Maximum simultaneous --on-upload programs, 1 to 64.",
    )
    on_upload_timeout: float = option(
        parse_duration,
        "5m",
        "Time limit for each --on-upload program; 0 for none.",
    )
    on_upload_attempts: int = option(
        parse_attempts,
        "6",
        "Failures after which the program is given up for a file (see .on-upload/failed/), 1 to"
        " 1000.",
    )
