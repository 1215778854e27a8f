"""
The manual pages of the commands: twisted-upload(1), and those of its subcommands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from docs.man.roff import escaped, item_list, manual_page, paragraphs, verbatim
from docs.site.command_options import command_options
from twisted_upload.cli.invite import invite
from twisted_upload.cli.log import read_journal
from twisted_upload.cli.main import program
from twisted_upload.cli.ping import ping
from twisted_upload.cli.streams import ExitStatus
from twisted_upload.cli.token import token
from twisted_upload.cli.watch import watch

__all__ = [
    "DATE",
    "synopsis",
    "twisted_upload",
    "twisted_upload_invite",
    "twisted_upload_log",
    "twisted_upload_ping",
    "twisted_upload_serve",
    "twisted_upload_token",
    "twisted_upload_watch",
]

DATE = "2026-11-27"
"""When the text of the manual pages was last changed."""


_VARIABLES = [
    ("TWISTED_UPLOAD_TO", "Used if --to is not given."),
    ("TWISTED_UPLOAD_TOKEN", "The token to send (HTTP only)."),
    ("TWISTED_UPLOAD_TOKEN_FILE", "Used if --token-file is not given."),
    ("TWISTED_UPLOAD_CACERT", "Used if --cacert is not given."),
    (
        "CREDENTIALS_DIRECTORY",
        "Set by systemd; the credential twisted-upload-token is the token to send.",
    ),
]


def _command_options(command: click.Command) -> Iterator[tuple[str, str]]:
    for option, names, value in command_options(command):
        default = f" The default is {option.default}." if option.show_default else ""
        yield f"{', '.join(names)} {value}".rstrip(), f"{option.help}{default}"


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


def synopsis(command: str, arguments: str) -> str:
    """Return the synopsis of a command."""
    return rf"\fB{escaped(command)}\fR {escaped(arguments)}" + "\n"


def twisted_upload(name: str) -> str:
    """Return twisted-upload(1)."""
    statuses, notes = _epilog(program)
    return manual_page(
        name,
        1,
        "send files to an upload server",
        date=DATE,
        parts=[
            ("SYNOPSIS", synopsis("twisted-upload", "[OPTION]... FILE...")),
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
                item_list(_VARIABLES),
            ),
            (
                "FILES",
                item_list(
                    [
                        (
                            "~/.config/twisted-upload.toml",
                            "Defaults of the user: to, token-file, cacert. The command line and"
                            " the environment precede it. Its token is only sent to its server.",
                        ),
                        (
                            "~/.local/state/twisted-upload/",
                            "Uploads over HTTP that were interrupted; the next command that sends"
                            " the same file to the same server continues them.",
                        ),
                    ]
                ),
            ),
            (
                "EXAMPLES",
                verbatim(
                    "twisted-upload photo.jpg notes.pdf --to server\n"
                    "twisted-upload -r photos --to https://upload.example/ --token-file token\n"
                    "twisted-upload --tar project --exclude .git/ --to tls://server\n"
                    "tar cz project | twisted-upload - --name project.tgz --to http://server:8080/\n"
                    "twisted-upload *.jpg --to server -j 4 --retry 10m --limit-rate 5M --json"
                ),
            ),
            (
                "SEE ALSO",
                paragraphs(
                    "twisted-upload-invite(1), twisted-upload-log(1), twisted-upload-ping(1),"
                    " twisted-upload-serve(1), twisted-upload-token(1), twisted-upload-watch(1),"
                    " twistd-upload(8), nc(1)"
                ),
            ),
        ],
    )


def twisted_upload_invite(name: str) -> str:
    """Return twisted-upload-invite(1)."""
    statuses, _ = _epilog(invite)
    return manual_page(
        name,
        1,
        "make a link with which people may upload",
        date=DATE,
        parts=[
            ("SYNOPSIS", synopsis("twisted-upload invite", "[OPTION]... --to URL")),
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


def twisted_upload_log(name: str) -> str:
    """Return twisted-upload-log(1)."""
    return manual_page(
        name,
        1,
        "read a journal of uploads",
        date=DATE,
        parts=[
            ("SYNOPSIS", synopsis("twisted-upload log", "[OPTION]... FILE")),
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


def twisted_upload_ping(name: str) -> str:
    """Return twisted-upload-ping(1)."""
    statuses, _ = _epilog(ping)
    return manual_page(
        name,
        1,
        "check whether an upload server answers",
        date=DATE,
        parts=[
            ("SYNOPSIS", synopsis("twisted-upload ping", "[OPTION]... [WHERE]")),
            ("DESCRIPTION", paragraphs(_help(ping))),
            ("OPTIONS", item_list(_command_options(ping))),
            ("EXIT STATUS", item_list(statuses)),
            ("ENVIRONMENT", item_list(_VARIABLES)),
            (
                "EXAMPLES",
                verbatim(
                    "twisted-upload ping server\n"
                    "twisted-upload ping --to https://upload.example/ --token-file token --send\n"
                    "twisted-upload ping --to tls://server --json | jq .certificate_expires"
                ),
            ),
            ("SEE ALSO", paragraphs("twisted-upload(1), twistd-upload(8)")),
        ],
    )


def twisted_upload_serve(name: str) -> str:
    """Return twisted-upload-serve(1)."""
    return manual_page(
        name,
        1,
        "run an upload server in the foreground",
        date=DATE,
        parts=[
            ("SYNOPSIS", synopsis("twisted-upload serve", "[OPTION]...")),
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


def twisted_upload_token(name: str) -> str:
    """Return twisted-upload-token(1)."""
    statuses, _ = _epilog(token)
    commands = [(f"{word} {_arguments(it)}".rstrip(), it) for word, it in token.commands.items()]
    return manual_page(
        name,
        1,
        "manage the tokens of an upload server",
        date=DATE,
        parts=[
            ("SYNOPSIS", synopsis("twisted-upload token", "COMMAND [OPTION]...")),
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


def twisted_upload_watch(name: str) -> str:
    """Return twisted-upload-watch(1)."""
    statuses, notes = _epilog(watch)
    return manual_page(
        name,
        1,
        "send the files of a folder as they come",
        date=DATE,
        parts=[
            ("SYNOPSIS", synopsis("twisted-upload watch", "[OPTION]... DIR")),
            ("DESCRIPTION", paragraphs(f"{_help(watch)}\n\n{notes}")),
            ("OPTIONS", item_list(_command_options(watch))),
            ("EXIT STATUS", item_list(statuses)),
            (
                "ENVIRONMENT",
                item_list(
                    [
                        ("TWISTED_UPLOAD_TO", "Used if --to is not given."),
                        ("TWISTED_UPLOAD_TOKEN", "The token itself, if --token-file is not given."),
                        (
                            "STATE_DIRECTORY",
                            "Where the state is if --state is not given; systemd sets it for"
                            " StateDirectory=.",
                        ),
                    ]
                ),
            ),
            (
                "EXAMPLES",
                verbatim(
                    "twisted-upload watch /srv/scans --to https://upload.example/ --delete\n"
                    "twisted-upload watch /srv/scans --status"
                ),
            ),
            ("SEE ALSO", paragraphs("twisted-upload(1), twistd-upload(8), systemd.exec(5)")),
        ],
    )
