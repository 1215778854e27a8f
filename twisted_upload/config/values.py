"""
Convert option values from text, as on the command line, to bytes, seconds, numbers.

Each function raises `ValueError` with a text that says what is accepted.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex

from twisted_upload.core.answers import FAILURE
from twisted_upload.core.log_format import LogFormat
from twisted_upload.core.name_form import NameForm
from twisted_upload.core.nodes import LONGEST_NODE, is_node
from twisted_upload.core.object_url import AfterForward, ObjectURL
from twisted_upload.core.text import Reserve, is_suffix, parse_duration, parse_size
from twisted_upload.net.networks import Network, parse_network

__all__ = [
    "parse_after_forward",
    "parse_answer",
    "parse_attempts",
    "parse_command",
    "parse_connections",
    "parse_count",
    "parse_directory",
    "parse_host",
    "parse_http",
    "parse_interface",
    "parse_jobs",
    "parse_keep",
    "parse_log_format",
    "parse_metrics",
    "parse_mode",
    "parse_names",
    "parse_node",
    "parse_number",
    "parse_object_url",
    "parse_page_text",
    "parse_page_title",
    "parse_path",
    "parse_port",
    "parse_protocol",
    "parse_reserve",
    "parse_resume_for",
    "parse_suffix",
    "parse_text",
    "parse_threads",
    "parse_trusted_proxy",
    "parse_workers",
]

PROTOCOLS = ("raw", "http")
"""What listeners speak."""

_UNIX = "unix"

# Only ASCII digits, unlike int(), and a limited number of them.
_NUMBER = re.compile("[0-9]{1,20}")
_MODE = re.compile("(?:0o?)?[0-7]{3}")
_SHARE = re.compile(r"[0-9]{1,20}(?:\.[0-9]{1,20})?")


def parse_text(text: str) -> str:
    """Accept any text."""
    return text


def parse_number(text: str, most: int, least: int = 1) -> int:
    """Parse a whole number within bounds, both inclusive."""
    number = int(text) if _NUMBER.fullmatch(text) else -1
    if not least <= number <= most:
        raise ValueError(f"{text!r} is not a number from {least} to {most}")
    return number


def parse_port(text: str) -> int:
    """Parse a TCP port; 0 means any free port."""
    try:
        return parse_number(text, 65535, 0)
    except ValueError:
        raise ValueError(f"{text!r} is not a port number from 0 to 65535") from None


def parse_interface(text: str) -> str:
    """Parse an address of this machine; empty means all of them."""
    if text:
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise ValueError(f"{text!r} is not an IPv4 or IPv6 address") from None
    return text


def parse_http(text: str) -> str:
    """Parse a TCP port, or the description of an endpoint."""
    if text.isdecimal():
        return str(parse_port(text))
    if ":" not in text:
        raise ValueError(f"{text!r} is neither a port number nor an endpoint such as tls:8443:...")
    return text


def parse_resume_for(text: str) -> float:
    """Parse a duration of at least a minute."""
    seconds = parse_duration(text)
    if seconds < 60:
        raise ValueError(f"{text!r} is less than a minute")
    return seconds


def parse_page_title(text: str) -> str:
    """Parse the title of the page: a line, or nothing."""
    return _shown(text, 200)


def parse_page_text(text: str) -> str:
    """Parse the text of the page: lines, or nothing."""
    _shown(text.replace("\n", ""), 4000)
    return text


def _shown(text: str, most: int) -> str:
    if len(text) > most:
        raise ValueError(f"it has more than {most} characters")
    if not text.isprintable():
        raise ValueError("it contains characters that cannot be shown")
    return text


def parse_protocol(text: str) -> str:
    """Parse the name of a protocol."""
    if text not in PROTOCOLS:
        raise ValueError(f"{text!r} is none of {', '.join(PROTOCOLS)}")
    return text


def parse_suffix(text: str) -> str:
    """Parse ``auto``, or a file name suffix."""
    if text != "auto" and not is_suffix(text):
        raise ValueError(f"{text!r} is neither auto, nor empty, nor a suffix such as .jpg")
    return text


def parse_answer(text: str) -> str:
    """Parse an answer: one line that cannot be mistaken for a refusal."""
    if not text or len(text.encode("utf-8", "replace")) > 1024:
        raise ValueError("the answer must have 1 to 1024 bytes")
    if text.startswith(FAILURE):
        raise ValueError(f"{text!r} would be read as a refusal")
    if any(ord(character) < 32 for character in text):
        raise ValueError("the answer must be one line without control characters")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("the answer is not UTF-8") from None
    return text


def parse_command(text: str) -> tuple[str, ...]:
    """
    Parse a program and its arguments, quoted as for a shell, although none is run.

    Empty means no program.
    """
    if "\0" in text:
        raise ValueError("it must not contain a NUL")
    try:
        arguments = tuple(shlex.split(text))
    except ValueError as error:
        raise ValueError(f"{text!r} is not a command: {str(error).lower()}") from None
    if arguments and not arguments[0]:
        raise ValueError("the name of the program is empty")
    if arguments and "/" in arguments[0] and not os.path.isabs(arguments[0]):
        raise ValueError(
            f"{arguments[0]!r} must be an absolute path, or a name that is on the PATH"
        )
    return arguments


def parse_trusted_proxy(text: str) -> Network | None:
    """
    Parse a network of load balancers; `None` for ``unix``: a unix socket.

    :raises ValueError: it is neither.
    """
    return None if text.strip() == _UNIX else parse_network(text)


def parse_directory(text: str) -> str:
    """Parse the path of a directory, which need not exist."""
    if not text or "\0" in text:
        raise ValueError("it must not be empty")
    return text


def parse_mode(text: str) -> int:
    """Parse permissions from octal digits."""
    mode = int(text, 8) if _MODE.fullmatch(text) else -1
    if not 0o400 <= mode <= 0o777 or not mode & 0o400:
        raise ValueError(f"{text!r} is not an octal mode such as 0640 that lets the owner read")
    return mode


def parse_workers(text: str) -> int:
    """Parse a number of processes; ``auto`` means one for each core available to us."""
    if text == "auto":
        return len(os.sched_getaffinity(0))
    return parse_number(text, 64)


def parse_count(text: str) -> int:
    """Parse a count, from 0."""
    return parse_number(text, 1_000_000, 0)


def parse_connections(text: str) -> int | None:
    """Parse a number of connections; `None` for ``auto``."""
    return None if text == "auto" else parse_number(text, 1_000_000)


def parse_jobs(text: str) -> int:
    """Parse the number of programs that may run at a time."""
    return parse_number(text, 64)


def parse_attempts(text: str) -> int:
    """Parse how often a program may fail."""
    return parse_number(text, 1000)


def parse_threads(text: str) -> int:
    """Parse a number of threads."""
    return parse_number(text, 256)


def parse_keep(text: str) -> int:
    """Parse the number of old files."""
    return parse_number(text, 1000, 0)


def parse_path(text: str) -> str:
    """Parse the path of a file, which need not exist."""
    return parse_directory(text)


def parse_log_format(text: str) -> LogFormat:
    """Parse the format of the log."""
    try:
        return LogFormat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither {' nor '.join(LogFormat)}") from None


def parse_names(text: str) -> NameForm:
    """Parse the form of the names of stored files."""
    try:
        return NameForm(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither {' nor '.join(NameForm)}") from None


def parse_node(text: str) -> str:
    """Accept the name of a node, or nothing."""
    if text and not is_node(text):
        raise ValueError(
            f"{text!r} is not the name of a node: a to z, 0 to 9 and -, not at its ends,"
            f" at most {LONGEST_NODE} characters"
        )
    return text


def parse_object_url(text: str) -> ObjectURL | None:
    """Parse a bucket and a prefix; empty for none."""
    return ObjectURL.parse(text) if text else None


def parse_after_forward(text: str) -> AfterForward:
    """Parse what happens to a forwarded file."""
    try:
        return AfterForward(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither {' nor '.join(AfterForward)}") from None


def parse_reserve(text: str) -> Reserve:
    """Parse a size, or a share of the file system such as ``1%``."""
    if not text.rstrip().endswith("%"):
        return Reserve(size=parse_size(text))
    number = text.strip()[:-1]
    percent = float(number) if _SHARE.fullmatch(number) else -1.0
    if not 0 <= percent < 100:
        raise ValueError(f"{text!r} is not a share such as 1% or a size such as 5G")
    return Reserve(percent=percent)


def parse_host(text: str) -> str:
    """Parse a host name; return it in lower case."""
    name = text.lower().rstrip(".")
    if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name) or len(name) > 253:
        raise ValueError(f"{text!r} is not a host name such as upload.example.com")
    return name


def parse_metrics(text: str) -> str:
    """
    Parse a port or a server endpoint; return a server endpoint.

    It is on the loopback interface unless it names another.  An empty text stays empty.
    """
    if not text:
        return ""
    kind, _, rest = (f"tcp:{text}" if text.isdigit() else text).partition(":")
    if kind not in ("tcp", "tcp4", "tcp6", "unix", "systemd") or not rest:
        raise ValueError(
            f"{text!r} is neither a port such as 9464 nor a server endpoint such as"
            " tcp:9464:interface=192.0.2.1, unix:/run/metrics.sock or systemd:metrics"
        )
    if kind.startswith("tcp"):
        port, *more = rest.split(":")
        parse_port(port.removeprefix("port="))
        if not any(it.startswith("interface=") for it in more):
            loopback = r"\:\:1" if kind == "tcp6" else "127.0.0.1"
            rest += f":interface={loopback}"
    return f"{kind}:{rest}"
