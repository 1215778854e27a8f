"""
``twisted-upload serve``: the daemon in the foreground, for those who do not know
twistd.

It is ``twistd -n upload`` and nothing else: the same options, errors, signals and
exit statuses.  No file with the number of the process is written.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from twisted_upload.cli.interrupts import Interrupts
from twisted_upload.config.options import CHECK, CONFIG, OPTIONS, PRINT_CONFIG
from twisted_upload.core.garbage import Importing

__all__ = ["serve", "serve_command"]


def serve(arguments: Sequence[str], interrupts: Interrupts) -> NoReturn:
    """
    Serve, and exit.

    :param arguments: options of ``twistd upload``.
    :param interrupts: that have been caught so far; what twistd does with signals
        comes next.
    """
    with Importing():
        from twisted.scripts.twistd import run  # noqa: PLC0415 - for the command, not for Tab

    sys.argv = ["twistd", "-n", "upload", *arguments]
    try:
        interrupts.release()
        run()
    except KeyboardInterrupt:  # twistd was not ready for it yet
        sys.exit(130)
    sys.exit(0)


class _Serve(click.Command):
    """
    Known to click for the sake of completion, and of who calls it as a function; the
    options are read by twistd.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave them alone, unless a shell wants to complete them."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        ctx.args = args
        return args

    def invoke(self, ctx: click.Context) -> Any:
        """Serve."""
        serve(ctx.args, ctx.obj.interrupts)


def serve_command() -> click.Command:
    """The command, with the options of the daemon."""
    return _Serve(
        "serve",
        help="Serve: the same as twistd -n upload.",
        params=[
            click.Option(
                [f"--{option.name}"],
                is_flag=option.flag,
                multiple=option.repeatable,
                type=click.Path() if option.path else None,
                help=option.help,
            )
            for option in (*OPTIONS, CONFIG, CHECK, PRINT_CONFIG)
        ],
    )
