"""
The manual pages: twisted-upload(1), those of its subcommands, and twistd-upload(8).

Options and exit statuses come from the same tables as the programs; only the rest of the
text is written here.

``python -m docs.man.generate NAME`` prints one page, as in ``... twistd-upload |
man -l -``.  ``python -m docs.man.generate --write FOLDER`` writes all pages: run it with
``twisted_upload/share/man`` whenever an option has changed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from docs.man.commands import (
    DATE,
    synopsis,
    twisted_upload,
    twisted_upload_invite,
    twisted_upload_log,
    twisted_upload_ping,
    twisted_upload_serve,
    twisted_upload_token,
    twisted_upload_watch,
)
from docs.man.roff import item_list, manual_page, paragraphs, verbatim
from twisted_upload.config.option import PREFIX, Option
from twisted_upload.config.options import CHECK, CONFIG, OPTIONS, PRINT_CONFIG, PROTOCOL
from twisted_upload.config.sources import HTTP, LISTENER_OPTIONS
from twisted_upload.config.values import parse_port, parse_resume_for
from twisted_upload.core.answers import CODES, FAILURE, SUCCESS
from twisted_upload.core.text import parse_duration, parse_size
from twisted_upload.daemon.tap import Options
from twisted_upload.net.networks import parse_network

__all__ = ["PAGES", "main", "path_of"]

_VALUES: Mapping[Callable[[str], object], str] = {
    parse_duration: "DURATION",
    parse_resume_for: "DURATION",
    parse_network: "NETWORK",
    parse_port: "PORT",
    parse_size: "SIZE",
}


def _daemon_options() -> Iterator[tuple[str, str]]:
    for option in (*OPTIONS, CONFIG, CHECK, PRINT_CONFIG):
        name = f"--{option.name}"
        if not option.flag:
            value = "PATH" if option.path else _VALUES.get(option.convert, "VALUE")
            name += f" {value}"
        default = f" The default is {option.default}." if option.default else ""
        yield name, f"{option.help}{default}"
    yield "--help", "Show the options, and exit."
    yield "--version", "Show the version of Twisted, and exit."


def _listed(options: Sequence[Option]) -> str:
    return ", ".join(option.name for option in options)


def _twistd_upload(name: str) -> str:
    reloadable = [option for option in OPTIONS if option.reloadable]
    return manual_page(
        name,
        8,
        "daemon providing a drop box for files",
        date=DATE,
        parts=[
            (
                "SYNOPSIS",
                synopsis("twistd", "[OPTION OF TWISTD]... upload [OPTION]..."),
            ),
            (
                "DESCRIPTION",
                paragraphs(
                    f"{Options.longdesc}\n\nIf the file is stored, the answer is {SUCCESS}, without"
                    " a newline, unless --answer or --receipts is given. If the upload is refused,"
                    f" nothing is stored, and the answer is one line: {FAILURE}: CODE"
                    " EXPLANATION.\n\n"
                    "Without -n, twistd runs in the background, and writes its process ID to"
                    " twistd.pid and its log to twistd.log."
                ),
            ),
            ("OPTIONS", item_list(_daemon_options())),
            (
                "CODES",
                item_list((code, f"{it.default_explanation}.") for code, it in CODES.items()),
            ),
            (
                "CONFIGURATION FILE",
                paragraphs(
                    "The file is in TOML. Its keys are the names of the options, without the"
                    " leading dashes. Each [[listener]] table has a name, either port or listen,"
                    f' and {PROTOCOL.name} = "{HTTP}" if it is for HTTP. It can override:'
                    f" {_listed(LISTENER_OPTIONS)}.\n\n"
                    "SIGHUP reloads the file. A reload can change these options:"
                    f" {_listed(reloadable)}."
                ),
            ),
            (
                "ENVIRONMENT",
                paragraphs(
                    f"Every option has a variable, such as {OPTIONS[0].variable} or"
                    f" {PREFIX}MAX_SIZE. Variables take precedence over the configuration file,"
                    " and options over variables. The value of a flag is yes or no. NOTIFY_SOCKET,"
                    " WATCHDOG_USEC and LISTEN_FDS are those of systemd(1)."
                ),
            ),
            (
                "SIGNALS",
                item_list(
                    [
                        (
                            "SIGTERM, SIGINT",
                            "Stop: new uploads are refused, and uploads in flight may continue for"
                            " the duration of --drain. A second signal ends the daemon at once.",
                        ),
                        (
                            "SIGHUP",
                            "Reload the configuration, the certificates, and the files of tokens"
                            " and invitation keys; reopen the log file.",
                        ),
                        ("SIGUSR1", "Rotate the log file."),
                    ]
                ),
            ),
            (
                "EXIT STATUS",
                item_list(
                    [
                        ("0", "--check has found no errors."),
                        ("1", "The daemon cannot start on this machine; the message says why."),
                        ("2", "Invalid configuration or usage; the message says what to change."),
                        ("143, 130", "Stopped by SIGTERM or Ctrl-C, as reported by a shell."),
                    ]
                ),
            ),
            (
                "FILES",
                item_list(
                    [
                        (
                            "DIRECTORY/1795328130123.jpg",
                            "A stored file: complete, and named by its time of arrival in"
                            " milliseconds since the epoch, which --names can extend.",
                        ),
                        (
                            "DIRECTORY/.incoming/",
                            "Unfinished files, removed at the next start; but those of HTTP"
                            " uploads that can be resumed remain for the duration of --resume-for.",
                        ),
                        (
                            "DIRECTORY/.on-upload/waiting/, DIRECTORY/.on-upload/failed/",
                            "A marker for each file whose program has not succeeded yet, or has"
                            " failed too often. To start programs again, move markers from failed/"
                            " to waiting/.",
                        ),
                    ]
                ),
            ),
            (
                "EXAMPLES",
                verbatim(
                    "twistd -n upload --port 6666 --directory inbox\n"
                    "twistd upload --config /etc/twisted-upload.toml --check"
                ),
            ),
            (
                "SEE ALSO",
                paragraphs(
                    "twisted-upload(1), twisted-upload-invite(1), twisted-upload-token(1),"
                    " twistd(1), systemd.socket(5), curl(1), nc(1)"
                ),
            ),
        ],
    )


PAGES: Mapping[str, tuple[int, Callable[[str], str]]] = {
    "twisted-upload": (1, twisted_upload),
    "twisted-upload-invite": (1, twisted_upload_invite),
    "twisted-upload-log": (1, twisted_upload_log),
    "twisted-upload-ping": (1, twisted_upload_ping),
    "twisted-upload-serve": (1, twisted_upload_serve),
    "twisted-upload-token": (1, twisted_upload_token),
    "twisted-upload-watch": (1, twisted_upload_watch),
    "twistd-upload": (8, _twistd_upload),
}
"""The section of each page, and the function that generates it."""


def path_of(name: str) -> str:
    """Return the path of a page in a folder of manual pages: ``man1/twisted-upload.1``."""
    section, _ = PAGES[name]
    return f"man{section}/{name}.{section}"


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the command.

    :param arguments: replace those of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m docs.man.generate",
        description="Print a manual page (pipe it to: man -l -), or write them all.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("name", nargs="?", choices=[*PAGES])
    what.add_argument("--write", metavar="FOLDER", help="write all of them to FOLDER/man1, man8")
    given = parser.parse_args(arguments)
    if given.write is None:
        sys.stdout.write(PAGES[given.name][1](given.name))
        return
    try:
        for name, (_, make) in PAGES.items():
            path = Path(given.write, path_of(name))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(make(name), "ascii")
    except OSError as error:
        sys.stderr.write(f"{parser.prog}: cannot write {error.filename}: {error.strerror}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
