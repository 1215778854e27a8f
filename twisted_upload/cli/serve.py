"""
``twisted-upload serve``: the daemon in the foreground, for people who do not know
twistd.

It is exactly ``twistd -n upload``: the same options, errors, signals and exit
statuses.  No PID file is written.
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
    Run the daemon, and exit.

    :param arguments: options of ``twistd upload``.
    :param interrupts: the signals caught so far; from here on twistd handles signals.
    """
    with Importing():
        from twisted.scripts.twistd import run  # noqa: PLC0415 - not needed for Tab

    sys.argv = ["twistd", "-n", "upload", *arguments]
    try:
        interrupts.release()
        run()
    except KeyboardInterrupt:  # before twistd has installed its handlers
        sys.exit(130)
    sys.exit(0)


class _Serve(click.Command):
    """
    Declares the command to click, for completion and for callers that invoke it; twistd
    parses the options.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave the arguments alone, unless a shell wants to complete them."""
        if ctx.resilient_parsing:
            return super().parse_args(ctx, args)
        ctx.args = args
        return args

    def invoke(self, ctx: click.Context) -> Any:
        """Run the daemon."""
        serve(ctx.args, ctx.obj.interrupts)


def serve_command() -> click.Command:
    """Return the command, with the options of the daemon."""
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
