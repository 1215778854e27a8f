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
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from docs.man.roff import escaped, item_list, manual_page, paragraphs, verbatim
from docs.site.command_options import command_options
from twisted_upload.cli.invite import invite
from twisted_upload.cli.log import read_journal
from twisted_upload.cli.main import program
from twisted_upload.cli.ping import ping
from twisted_upload.cli.streams import ExitStatus
from twisted_upload.cli.token import token
from twisted_upload.config.option import PREFIX, Option
from twisted_upload.config.options import CHECK, CONFIG, OPTIONS, PRINT_CONFIG
from twisted_upload.config.values import parse_port, parse_resume_for
from twisted_upload.core.answers import CODES, FAILURE, SUCCESS
from twisted_upload.core.text import parse_duration, parse_size
from twisted_upload.daemon.tap import Options
from twisted_upload.net.networks import parse_network

__all__ = ["PAGES", "main", "path_of"]

DATE = "2026-11-27"
"""When the text in this module was last changed."""

_VALUES: Mapping[Callable[[str], object], str] = {
    parse_duration: "DURATION",
    parse_resume_for: "DURATION",
    parse_network: "NETWORK",
    parse_port: "PORT",
    parse_size: "SIZE",
}


def _command_options(command: click.Command) -> Iterator[tuple[str, str]]:
    for option, names, value in command_options(command):
        default = f" The default is {option.default}." if option.show_default else ""
        yield f"{', '.join(names)} {value}".rstrip(), f"{option.help}{default}"


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
    """Split an epilog into exit statuses with their meaning, and other text."""
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
                    f"{_help(program)}\n\nResults are written to standard output, one line for"
                    " each file; errors are written to standard error, as is a progress bar if it"
                    " is a terminal. If the command is killed while it sends a file, even by"
                    f" SIGKILL, the server stores nothing of that file.\n\n{notes}"
                ),
            ),
            ("OPTIONS", item_list(_command_options(program))),
            ("EXIT STATUS", item_list(statuses)),
            (
                "ENVIRONMENT",
                item_list([("TWISTED_UPLOAD_TO", "Used if --to is not given.")]),
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
                    "twisted-upload-invite(1), twisted-upload-log(1), twisted-upload-ping(1),"
                    " twisted-upload-serve(1), twisted-upload-token(1), twistd-upload(8), nc(1)"
                ),
            ),
        ],
    )


def _twisted_upload_invite(name: str) -> str:
    statuses, _ = _epilog(invite)
    return manual_page(
        name,
        1,
        "make a link with which people may upload",
        date=DATE,
        parts=[
            ("SYNOPSIS", _synopsis("twisted-upload invite", "[OPTION]... --to URL")),
            (
                "DESCRIPTION",
                paragraphs(
                    f"{_help(invite)}\n\nBrowsers do not send the part of the link after #, so"
                    " it is in no log of a server or a proxy. Without JavaScript, enter the token"
                    " as the password when the browser asks for one, with any user name."
                ),
            ),
            ("OPTIONS", item_list(_command_options(invite))),
            ("EXIT STATUS", item_list(statuses)),
            (
                "ENVIRONMENT",
                item_list(
                    [("TWISTED_UPLOAD_INVITATION_KEYS", "Used if --invitation-keys is not given.")]
                ),
            ),
            (
                "EXAMPLES",
                verbatim(
                    "twisted-upload invite --invitation-keys keys --new-key\n"
                    "twisted-upload invite --invitation-keys keys --to https://upload.example/ \\\n"
                    "    --label Alice --expires 7d --max-size 2G --uploads 20"
                ),
            ),
            (
                "SEE ALSO",
                paragraphs("twisted-upload-token(1), twisted-upload(1), twistd-upload(8)"),
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
                            "The journal or one of its older files cannot be read; everything"
                            " readable is printed.",
                        ),
                        (
                            str(ExitStatus.INTERRUPTED),
                            "Interrupted; --follow always ends this way.",
                        ),
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
        "check whether an upload server answers",
        date=DATE,
        parts=[
            ("SYNOPSIS", _synopsis("twisted-upload ping", "[OPTION]... [HOST[:PORT]]")),
            ("DESCRIPTION", paragraphs(_help(ping))),
            ("OPTIONS", item_list(_command_options(ping))),
            ("EXIT STATUS", item_list(statuses)),
            ("ENVIRONMENT", item_list([("TWISTED_UPLOAD_TO", "Used if HOST is not given.")])),
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
                    " statuses; see twistd-upload(8). No pid file is written."
                ),
            ),
            (
                "EXAMPLES",
                verbatim("twisted-upload serve --port 6666 --directory inbox"),
            ),
            ("SEE ALSO", paragraphs("twistd-upload(8), twisted-upload(1)")),
        ],
    )


def _twisted_upload_token(name: str) -> str:
    statuses, _ = _epilog(token)
    commands = [(f"{word} {_arguments(it)}".rstrip(), it) for word, it in token.commands.items()]
    return manual_page(
        name,
        1,
        "manage the tokens of an upload server",
        date=DATE,
        parts=[
            ("SYNOPSIS", _synopsis("twisted-upload token", "COMMAND [OPTION]...")),
            ("DESCRIPTION", paragraphs(_help(token))),
            ("COMMANDS", item_list((usage, _help(it)) for usage, it in commands)),
            ("OPTIONS", item_list(_command_options(token.commands["add"]))),
            ("EXIT STATUS", item_list(statuses)),
            ("ENVIRONMENT", item_list([("TWISTED_UPLOAD_TOKENS", "Used if --file is not given.")])),
            (
                "EXAMPLES",
                verbatim(
                    "twisted-upload token add scanner --file /etc/twisted-upload/tokens\n"
                    'curl -T photo.jpg -H "Authorization: Bearer TOKEN" https://upload.example/'
                ),
            ),
            ("SEE ALSO", paragraphs("twisted-upload-invite(1), twistd-upload(8), curl(1)")),
        ],
    )


def _arguments(command: click.Command) -> str:
    return " ".join(str(it.metavar) for it in command.params if isinstance(it, click.Argument))


def _twistd_upload(name: str) -> str:
    own = [option for option in OPTIONS if option.per_listener]
    reloadable = [option for option in OPTIONS if option.reloadable]
    return manual_page(
        name,
        8,
        "daemon providing a drop box for files",
        date=DATE,
        parts=[
            (
                "SYNOPSIS",
                _synopsis("twistd", "[OPTION OF TWISTD]... upload [OPTION]..."),
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
                    " leading dashes. Each [[listener]] table has a name and either port or"
                    f" listen, and can override: {_listed(own)}.\n\n"
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
                        ("SIGHUP", "Reload the configuration, and reopen the log file."),
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
                            " milliseconds since the epoch.",
                        ),
                        ("DIRECTORY/.incoming/", "Unfinished files, removed at the next start."),
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
            ("SEE ALSO", paragraphs("twisted-upload(1), twistd(1), systemd.socket(5), nc(1)")),
        ],
    )


PAGES: Mapping[str, tuple[int, Callable[[str], str]]] = {
    "twisted-upload": (1, _twisted_upload),
    "twisted-upload-invite": (1, _twisted_upload_invite),
    "twisted-upload-log": (1, _twisted_upload_log),
    "twisted-upload-ping": (1, _twisted_upload_ping),
    "twisted-upload-serve": (1, _twisted_upload_serve),
    "twisted-upload-token": (1, _twisted_upload_token),
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
