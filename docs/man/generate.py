"""
The manual pages: twisted-upload(1), those of its other commands, twistd-upload(8).

Options and exit statuses come from the tables that the programs are made of; what
only a page has is written here.

``python -m docs.man.generate NAME`` prints one of them, as in ``... twistd-upload |
man -l -``.  ``python -m docs.man.generate --write FOLDER`` writes all of them: to
be done, with ``twisted_upload/share/man``, whenever an option has changed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from docs.man.roff import escaped, item_list, manual_page, paragraphs, verbatim
from twisted_upload.cli.log import read_journal
from twisted_upload.cli.main import program
from twisted_upload.cli.ping import ping
from twisted_upload.cli.streams import ExitStatus
from twisted_upload.config.option import PREFIX, Option
from twisted_upload.config.options import CHECK, CONFIG, OPTIONS, PRINT_CONFIG
from twisted_upload.config.values import parse_port
from twisted_upload.core.answers import CODES, SUCCESS
from twisted_upload.core.text import parse_duration, parse_size
from twisted_upload.daemon.tap import Options
from twisted_upload.net.networks import parse_network

__all__ = ["PAGES", "main", "path_of"]

DATE = "2026-11-22"
"""When what only a page has was last changed."""

_VALUES: Mapping[Callable[[str], object], str] = {
    parse_duration: "DURATION",
    parse_network: "NETWORK",
    parse_port: "PORT",
    parse_size: "SIZE",
}


def _command_options(command: click.Command) -> Iterator[tuple[str, str]]:
    for option in command.get_params(click.Context(command, **command.context_settings)):
        if not isinstance(option, click.Option):
            continue
        names = ", ".join(sorted(option.opts, key=len))  # click keeps no order of -h, --help
        kind = option.type
        if isinstance(kind, click.Choice) and not option.metavar:
            names += f" {'|'.join(map(str, kind.choices))}"
        elif not option.is_flag:
            names += f" {option.metavar}"
        default = f" The default is {option.default}." if option.show_default else ""
        yield names, f"{option.help}{default}"


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


def _help(command: click.Command) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", command.help or "")


def _epilog(command: click.Command) -> tuple[list[tuple[str, str]], str]:
    """What an epilog has: statuses with their meaning, and other text."""
    statuses: list[tuple[str, str]] = []
    texts = []
    for part in (command.epilog or "").replace("\b\n", "").strip().split("\n\n"):
        found = re.findall(r"^ +(\d+) +(.+)$", part, re.MULTILINE)
        statuses += [(number, f"{text}.") for number, text in found]
        if not found:
            texts.append(part)
    return statuses, "\n\n".join(texts)


def _synopsis(command: str, arguments: str) -> str:
    return rf"\fB{escaped(command)}\fR {escaped(arguments)}" + "\n"


def _twisted_upload(name: str) -> str:
    statuses, notes = _epilog(program)
    return manual_page(
        name,
        1,
        "send files to an upload server",
        date=DATE,
        parts=[
            ("SYNOPSIS", _synopsis("twisted-upload", "[OPTION]... FILE...")),
            (
                "DESCRIPTION",
                paragraphs(
                    f"{_help(program)}\n\nResults go to standard output, a line for each file;"
                    " errors, and a progress bar on a terminal, to standard error. When this"
                    " command is killed in the middle of a file, even by SIGKILL, the server"
                    f" keeps nothing of it.\n\n{notes}"
                ),
            ),
            ("OPTIONS", item_list(_command_options(program))),
            ("EXIT STATUS", item_list(statuses)),
            (
                "ENVIRONMENT",
                item_list([("TWISTED_UPLOAD_TO", "Stands in for --to.")]),
            ),
            (
                "EXAMPLES",
                verbatim(
                    "twisted-upload photo.jpg notes.pdf --to server\n"
                    "tar c project | twisted-upload - --to [2001:db8::7]:6666\n"
                    "twisted-upload *.jpg --to server -j 4 --retry 5 --json"
                ),
            ),
            (
                "SEE ALSO",
                paragraphs(
                    "twisted-upload-log(1), twisted-upload-ping(1), twisted-upload-serve(1),"
                    " twistd-upload(8), nc(1)"
                ),
            ),
        ],
    )


def _twisted_upload_log(name: str) -> str:
    return manual_page(
        name,
        1,
        "read a journal of uploads",
        date=DATE,
        parts=[
            ("SYNOPSIS", _synopsis("twisted-upload log", "[OPTION]... FILE")),
            ("DESCRIPTION", paragraphs(f"{_help(read_journal)}\n\n{read_journal.epilog}")),
            ("OPTIONS", item_list(_command_options(read_journal))),
            (
                "EXIT STATUS",
                item_list(
                    [
                        (str(ExitStatus.OK), "The journal was read."),
                        (str(ExitStatus.FAILED), "Standard output cannot be written."),
                        (str(ExitStatus.USAGE), "Wrong usage."),
                        (
                            str(ExitStatus.SOURCE),
                            "The journal, or one of its older files, cannot be read; what can"
                            " be, is printed.",
                        ),
                        (str(ExitStatus.INTERRUPTED), "Interrupted, as --follow always is."),
                    ]
                ),
            ),
            (
                "EXAMPLES",
                verbatim(
                    "twisted-upload log /var/log/uploads --since 1h --outcome refused --code busy\n"
                    "twisted-upload log /var/log/uploads --name '17953281301*'\n"
                    "twisted-upload log /var/log/uploads --peer 192.0.2.0/24 --json | jq -r .name"
                ),
            ),
            ("SEE ALSO", paragraphs("twisted-upload(1), twistd-upload(8)")),
        ],
    )


def _twisted_upload_ping(name: str) -> str:
    statuses, _ = _epilog(ping)
    return manual_page(
        name,
        1,
        "look whether an upload server answers",
        date=DATE,
        parts=[
            ("SYNOPSIS", _synopsis("twisted-upload ping", "[OPTION]... [HOST[:PORT]]")),
            ("DESCRIPTION", paragraphs(_help(ping))),
            ("OPTIONS", item_list(_command_options(ping))),
            ("EXIT STATUS", item_list(statuses)),
            ("ENVIRONMENT", item_list([("TWISTED_UPLOAD_TO", "Stands in for HOST.")])),
            (
                "EXAMPLES",
                verbatim(
                    "twisted-upload ping server\n"
                    "twisted-upload ping server:6667 --tls --json | jq .ready"
                ),
            ),
            ("SEE ALSO", paragraphs("twisted-upload(1), twistd-upload(8)")),
        ],
    )


def _twisted_upload_serve(name: str) -> str:
    return manual_page(
        name,
        1,
        "run an upload server in the foreground",
        date=DATE,
        parts=[
            ("SYNOPSIS", _synopsis("twisted-upload serve", "[OPTION]...")),
            (
                "DESCRIPTION",
                paragraphs(
                    "The same as twistd -n upload, with the same options, signals and exit"
                    " statuses; twistd-upload(8) tells of them. No file with the number of the"
                    " process is written."
                ),
            ),
            (
                "EXAMPLES",
                verbatim("twisted-upload serve --port 6666 --directory inbox"),
            ),
            ("SEE ALSO", paragraphs("twistd-upload(8), twisted-upload(1)")),
        ],
    )


def _twistd_upload(name: str) -> str:
    own = [option for option in OPTIONS if option.per_listener]
    reloadable = [option for option in OPTIONS if option.reloadable]
    return manual_page(
        name,
        8,
        "a drop box for files: the daemon",
        date=DATE,
        parts=[
            (
                "SYNOPSIS",
                _synopsis("twistd", "[OPTION OF TWISTD]... upload [OPTION]..."),
            ),
            (
                "DESCRIPTION",
                paragraphs(
                    f"{Options.longdesc}\n\nThe answer is {SUCCESS}, without a newline. Anything"
                    " else is one line that begins with a code, and then nothing is kept.\n\n"
                    "Without -n, twistd goes into the background, writes its process number to"
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
                    "TOML. Its keys are the names of the options, without the dashes. Tables"
                    " [[listener]] with a name, and a port or listen, may have values of their"
                    f" own of: {_listed(own)}.\n\n"
                    f"SIGHUP has it read again. These can change then: {_listed(reloadable)}."
                ),
            ),
            (
                "ENVIRONMENT",
                paragraphs(
                    f"Every option has a variable, such as {OPTIONS[0].variable} or"
                    f" {PREFIX}MAX_SIZE, which goes over the file, and over which the option"
                    " goes. Flags are yes or no. NOTIFY_SOCKET, WATCHDOG_USEC and LISTEN_FDS are"
                    " those of systemd(1)."
                ),
            ),
            (
                "SIGNALS",
                item_list(
                    [
                        (
                            "SIGTERM, SIGINT",
                            "Stop: uploads in flight have --drain, new ones are refused."
                            " A second one ends the daemon at once.",
                        ),
                        ("SIGHUP", "Read the configuration again, and open the log file again."),
                        ("SIGUSR1", "Begin another log file."),
                    ]
                ),
            ),
            (
                "EXIT STATUS",
                item_list(
                    [
                        ("0", "--check has found nothing wrong."),
                        ("1", "It cannot start on this machine; a line says why."),
                        ("2", "What it was told makes no sense; a line says what to change."),
                        ("143, 130", "In a shell: SIGTERM, or Ctrl-C, has stopped it."),
                    ]
                ),
            ),
            (
                "FILES",
                item_list(
                    [
                        (
                            "DIRECTORY/1795328130123.jpg",
                            "A kept file: whole, under its time of arrival in milliseconds since"
                            " the epoch.",
                        ),
                        ("DIRECTORY/.incoming/", "Unfinished files, removed at the next start."),
                        (
                            "DIRECTORY/.on-upload/waiting/, DIRECTORY/.on-upload/failed/",
                            "A note for each file whose program is still to be started, or has"
                            " failed too often. Move notes from failed/ to waiting/ to have"
                            " programs started again.",
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
            ("SEE ALSO", paragraphs("twisted-upload(1), twistd(1), systemd.socket(5), nc(1)")),
        ],
    )


PAGES: Mapping[str, tuple[int, Callable[[str], str]]] = {
    "twisted-upload": (1, _twisted_upload),
    "twisted-upload-log": (1, _twisted_upload_log),
    "twisted-upload-ping": (1, _twisted_upload_ping),
    "twisted-upload-serve": (1, _twisted_upload_serve),
    "twistd-upload": (8, _twistd_upload),
}
"""The section of each page, and what makes it."""


def path_of(name: str) -> str:
    """Where a page is below a folder of manual pages: ``man1/twisted-upload.1``."""
    section, _ = PAGES[name]
    return f"man{section}/{name}.{section}"


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the command.

    :param arguments: instead of those of the command line.
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
