"""
Write a configuration as an equivalent file, for ``--print-config``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

from twisted_upload.config.configuration import Configuration
from twisted_upload.config.listener import Setting
from twisted_upload.config.option import Option
from twisted_upload.config.options import OPTIONS
from twisted_upload.config.sources import HTTP, LISTENER, LISTENER_OPTIONS, Text
from twisted_upload.core.text import printable
from twisted_upload.errors import WrongConfiguration

__all__ = ["toml_text"]

_COMMENTS_AT = 32

_INTEGER = re.compile("0|[1-9][0-9]{0,17}")  # accepted by every TOML parser


def toml_text(configuration: Configuration) -> str:
    """
    Return the configuration as TOML, with the source of each value in a comment.

    As a configuration file it gives the same values, from any directory.

    :raises WrongConfiguration: a value cannot be written in TOML.
    """
    lines: list[str] = []
    if configuration.named:
        lines += _lines(configuration.by_name, (o for o in OPTIONS if not o.per_listener))
        for listener in configuration.listeners:
            lines += ["", f"[[{LISTENER}]]"]
            lines += [_commented(f'name = "{listener.name}"', configuration.file or "")]
            lines += [_commented(f'protocol = "{listener.protocol}"', configuration.file or "")]
            lines += _lines(listener.by_name, LISTENER_OPTIONS)
    else:
        # They have all values in common, except for where they listen.
        first, last = configuration.listeners[0], configuration.listeners[-1]
        by_name = {**configuration.by_name, **first.by_name, HTTP: last.by_name[HTTP]}
        lines += _lines(by_name, OPTIONS)
    return "\n".join(lines) + "\n"


def _lines(by_name: Mapping[str, Setting], options: Iterable[Option]) -> Iterator[str]:
    for option in options:
        setting = by_name[option.name]
        if setting.text is None:
            yield _commented(f"# {option.name} is not set", setting.source)
        else:
            text = _value(option, setting.text, setting.source)
            yield _commented(f"{option.name} = {text}", setting.source)


def _commented(text: str, comment: str) -> str:
    return f"{text:{_COMMENTS_AT}}  # {printable(comment)}"


def _value(option: Option, text: Text, source: str) -> str:
    if isinstance(text, bool):
        return "true" if text else "false"
    if isinstance(text, tuple):
        return f"[{', '.join(_string(one, source) for one in text)}]"
    if _INTEGER.fullmatch(text) and not option.digits:
        return text
    return _string(text, source)


def _string(text: str, source: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise WrongConfiguration(
            f"{source}: {printable(text)} is not UTF-8 and cannot be written as TOML"
        ) from None
    # TOML accepts the escapes of JSON, and requires one more.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
