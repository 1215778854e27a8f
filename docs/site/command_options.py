"""
The options of a command made with click, for the pages that list them.
"""

from __future__ import annotations

from collections.abc import Iterator

import click

__all__ = ["command_options"]


def command_options(command: click.Command) -> Iterator[tuple[click.Option, list[str], str]]:
    """
    Yield each option of a command, with its names (the shortest first) and the word for
    its value, which is empty for a flag.
    """
    for option in command.get_params(click.Context(command, **command.context_settings)):
        if not isinstance(option, click.Option):
            continue
        value = ""
        if isinstance(option.type, click.Choice) and not option.metavar:
            value = "|".join(map(str, option.type.choices))
        elif not option.is_flag:
            value = str(option.metavar)
        yield option, sorted(option.opts, key=len), value  # click does not keep their order
