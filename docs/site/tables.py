"""
Generate the tables of the reference from the source: options, the command's options,
codes, metrics.

``python -m docs.site.tables`` writes them into ``docs/reference/``, between the lines
``<!-- begin NAME -->`` and ``<!-- end NAME -->``.  Run it after changing one of those tables.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click

from docs.site.command_options import command_options
from twisted_upload.cli.invite import invite
from twisted_upload.cli.log import read_journal
from twisted_upload.cli.main import program
from twisted_upload.cli.ping import ping
from twisted_upload.cli.token import token
from twisted_upload.cli.watch import watch
from twisted_upload.config.option import Option
from twisted_upload.config.options import CHECK, CONFIG, OPTIONS, PRINT_CONFIG
from twisted_upload.config.sources import LISTENER_OPTIONS
from twisted_upload.core.answers import CODES
from twisted_upload.observability.metrics import METRICS

__all__ = ["GROUPS", "PAGES", "PARTS", "filled", "main"]

REFERENCE = Path(__file__).parents[1] / "reference"

GROUPS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "Listening": (
        "See [Configuration](../guide/configuration.md), [TLS](../guide/tls.md) and"
        " [Service](../guide/service.md).",
        ("port", "interface", "listen", "http"),
    ),
    "Storing": (
        "See [Names and suffixes](answers.md#file-names), [Files](../operations/files.md) and"
        " [The disk is full](../operations/runbook.md#the-disk-is-full).",
        ("directory", "suffix", "names", "mode", "reserve", "no-fsync", "disk-threads"),
    ),
    "Object store": (
        "See [Object stores](../guide/object-store.md) and [The object"
        " store](../operations/runbook.md#the-object-store).",
        ("store", "forward", "after-forward"),
    ),
    "Answers": ("See [Answers and codes](answers.md).", ("answer", "receipts")),
    "Limits": (
        "See [Limits](../guide/limits.md).",
        (
            "max-size",
            "allow-empty",
            "idle-timeout",
            "finish-after-idle",
            "min-rate",
            "max-connections",
            "max-per-address",
            "allow",
            "deny",
            "proxy-protocol",
            "proxy-from",
        ),
    ),
    "HTTP": (
        "See [Tokens and invitations](../guide/access.md) and [HTTP behind a"
        " proxy](../guide/proxies.md).",
        (
            *("tokens", "invitation-keys", "cors-origin"),
            *(
                "trust-forwarded",
                "resume-for",
                "max-partials",
                "max-partials-per-address",
                "max-partials-size",
                "max-partials-size-per-address",
                "page-title",
                "page-text",
                "no-page",
            ),
        ),
    ),
    "Process": (
        "See [Sizing](../operations/sizing.md) and [Upgrade](../operations/upgrade.md).",
        ("drain", "workers", "node"),
    ),
    "Programs": (
        "See [Run a program for each file](../guide/on-upload.md).",
        ("on-upload", "on-upload-jobs", "on-upload-timeout", "on-upload-attempts"),
    ),
    "Monitoring": (
        "See [Monitoring](../guide/monitoring.md).",
        ("metrics", "metrics-host", "log-format", "journal", "journal-size", "journal-keep"),
    ),
    "Configuration": (
        "See [Configuration](../guide/configuration.md).",
        ("config", "check", "print-config"),
    ),
}
"""By heading: links to further pages, and the names of the options."""

_ALL = {option.name: option for option in (*OPTIONS, CONFIG, CHECK, PRINT_CONFIG)}


def _plain(text: str) -> str:
    """Escape Markdown."""
    return re.sub(r"([\\*_<>\[\]|`])", r"\\\1", text)


def _option(option: Option) -> Iterator[str]:
    yield f"#### `--{option.name}`"
    yield ""
    yield _plain(option.help)
    yield ""
    facts = []
    if option.default:
        facts.append(f"Default: `{option.default}`.")
    elif option.flag:
        facts.append("A flag; off by default.")
    if option in OPTIONS:
        facts.append(f"Variable: `{option.variable}`. Key: `{option.name}`.")
    elif option is CONFIG:
        facts.append(f"Variable: `{option.variable}`.")
    else:
        facts.append("Command line only.")
    if option in LISTENER_OPTIONS:
        facts.append("May differ between listeners.")
    if option.reloadable:
        facts.append("Changes on reload.")
    yield " ".join(facts)
    yield ""


def options() -> Iterator[str]:
    """Generate the options of the daemon."""
    for heading, (links, names) in GROUPS.items():
        yield f"### {heading}"
        yield ""
        yield links
        yield ""
        for name in names:
            yield from _option(_ALL[name])


def _click(command: click.Command) -> Callable[[], Iterator[str]]:
    def lines() -> Iterator[str]:
        yield "| option | meaning |"
        yield "| --- | --- |"
        for option, its_names, value in command_options(command):
            names = ", ".join(f"`{name}`" for name in its_names)
            if value:
                names += f" {_plain(value)}"
            default = f" Default: `{option.default}`." if option.show_default else ""
            yield f"| {names} | {_plain(option.help or '')}{default} |"

    return lines


def codes() -> Iterator[str]:
    """Generate the table of refusal codes."""
    yield "| code | explanation on the wire | worth a retry |"
    yield "| --- | --- | --- |"
    for code, refusal in CODES.items():
        again = "yes" if refusal.safe_to_repeat else "no"
        yield f"| `{code}` | {_plain(refusal.default_explanation)} | {again} |"


def metrics() -> Iterator[str]:
    """Generate the table of metrics."""
    yield "| metric | type and labels | meaning |"
    yield "| --- | --- | --- |"
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        kind = f"{metric.kind} by {labels}" if labels else metric.kind
        yield f"| `{metric.name}` | {kind} | {_plain(metric.help)} |"


PARTS: Mapping[str, Callable[[], Iterator[str]]] = {
    "options": options,
    "command": _click(program),
    "log": _click(read_journal),
    "ping": _click(ping),
    "watch": _click(watch),
    "invite": _click(invite),
    "token": _click(token.commands["add"]),
    "codes": codes,
    "metrics": metrics,
}
"""The generators, by the name in the two lines."""

PAGES = ("options.md", "command.md", "answers.md", "metrics.md")
"""The pages with generated parts, in ``docs/reference/``."""


def filled(text: str) -> str:
    """Return the text of a page with its generated parts up to date."""

    def part(found: re.Match[str]) -> str:
        lines = "\n".join(PARTS[found[1]]()).strip()
        return f"<!-- begin {found[1]} -->\n\n{lines}\n\n<!-- end {found[1]} -->"

    return re.sub(r"<!-- begin (\w+) -->\n.*?<!-- end \1 -->", part, text, flags=re.DOTALL)


def main() -> None:
    """Update all pages."""
    for name in PAGES:
        path = REFERENCE / name
        old = path.read_text("utf-8")
        new = filled(old)
        if new != old:
            path.write_text(new, "utf-8")
            sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
