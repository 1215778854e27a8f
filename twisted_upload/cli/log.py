"""
``twisted-upload log``: read a journal of uploads.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import click

from twisted_upload.cli.streams import PROGRAM, ExitStatus, Output, Streams
from twisted_upload.core.answers import CODES
from twisted_upload.core.text import counted, format_duration, format_size, printable
from twisted_upload.observability.journal_filter import Filter, Totals, parse_moment, parse_peer
from twisted_upload.observability.journal_reader import Reader, Record
from twisted_upload.observability.records import GAP, encode

__all__ = ["read_journal"]

POLL_INTERVAL = 0.5
"""Seconds between two reads of a journal that is followed."""

_BATCH = 500
"""Lines that are written together."""

_MOMENT = (
    "2026-11-22, 2026-11-22T10:00, today, yesterday or 08:00 (the most recent), all in UTC; or"
    " 1h, for an hour ago"
)


def _understood(understand: Callable[[str], Any]) -> Callable[..., Any]:
    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        try:
            if param.multiple:
                return [understand(one) for one in value]
            return None if value is None else understand(value)
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return callback


_moment = _understood(lambda text: parse_moment(text, time.time()))


@click.command(
    "log",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="All given options must match; of a repeated option, any one value.",
)
@click.argument("file", metavar="FILE", type=click.Path())
@click.option(
    "--since", metavar="TIME", callback=_moment,
    help=f"Uploads that ended at this time or later: {_MOMENT}.",
)  # fmt: skip
@click.option(
    "--until", metavar="TIME", callback=_moment, help="Uploads that ended before this time."
)  # fmt: skip
@click.option(
    "--peer", "peers", metavar="ADDRESS", multiple=True, callback=_understood(parse_peer),
    help="Uploads from this sender: an address, a network (192.0.2.0/24), an address with its"
    " port, or"
    " unix. Repeatable.",
)  # fmt: skip
@click.option(
    "--outcome", "outcomes", type=click.Choice(["stored", "refused", "aborted"]), multiple=True,
    help="Uploads with this outcome. Repeatable.",
)  # fmt: skip
@click.option(
    "--code", "codes", type=click.Choice([*CODES]), metavar="CODE", multiple=True,
    help=f"Uploads refused with this code. Repeatable. One of {', '.join(CODES)}.",
)  # fmt: skip
@click.option(
    "--name", "names", metavar="GLOB", multiple=True,
    help="Stored files whose name matches, as in 17953281301*.jpg. Repeatable.",
)  # fmt: skip
@click.option(
    "--original-name", "original_names", metavar="GLOB", multiple=True,
    help="Uploads whose sender gave a matching name, as in *.jpg (HTTP only). Repeatable.",
)  # fmt: skip
@click.option(
    "--label", "labels", metavar="LABEL", multiple=True,
    help="Uploads with this label of a token or an invitation (HTTP only). Repeatable.",
)  # fmt: skip
@click.option(
    "--listener", "listeners", metavar="NAME", multiple=True,
    help="Uploads through this listener. Repeatable.",
)  # fmt: skip
@click.option(
    "--json", "as_json", is_flag=True, help="Print the lines of the journal instead of a table."
)  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Keep printing lines as they are appended.")
@click.pass_obj
def read_journal(  # noqa: PLR0917 - click calls it
    streams: Streams,
    file: str,
    since: str | None,
    until: str | None,
    peers: list[Callable[[str], bool]],
    outcomes: tuple[str, ...],
    codes: tuple[str, ...],
    names: tuple[str, ...],
    original_names: tuple[str, ...],
    labels: tuple[str, ...],
    listeners: tuple[str, ...],
    *,
    as_json: bool,
    follow: bool,
) -> int:
    """
    Read the journal that twistd upload --journal FILE writes.

    Its older files (FILE.1, FILE.2, ..., FILE.2.gz) are read too, the oldest first.
    """
    out, err = streams.out, streams.err
    reader = Reader(file)
    fields = {"event": outcomes, "code": codes, "listener": listeners, "label": labels}
    patterns = {"name": names, "original_name": original_names}
    wanted = Filter(since, until, peers, fields, patterns)
    sums = Totals()
    show = _JsonLines(out) if as_json else _Table(out)
    try:
        streams.interrupts.release()
        while True:
            show.records(_wanted(reader.records(), wanted, sums))
            if not follow or out.stream is None:
                break
            time.sleep(POLL_INTERVAL)
    except OSError as error:
        name = error.filename or file
        err.line(printable(f"{PROGRAM}: {name}: cannot be read: {error.strerror or error}"))
        return ExitStatus.SOURCE
    except KeyboardInterrupt:
        return ExitStatus.INTERRUPTED
    finally:
        streams.interrupts.catch()
    show.sums(sums)
    if reader.unreadable:
        err.line(f"{PROGRAM}: skipped {counted(reader.unreadable, 'invalid line')}")
    for name, why in reader.not_read.items():
        err.line(printable(f"{PROGRAM}: {name}: {why}: skipped the part that could not be read"))
    if out.error is not None:
        err.line(f"{PROGRAM}: standard output: {out.error.strerror}")
        return ExitStatus.FAILED
    return ExitStatus.SOURCE if reader.not_read else ExitStatus.OK


def _wanted(records: Iterable[Record], wanted: Filter, sums: Totals) -> Iterable[Record]:
    for record in records:
        if wanted.wants(record):
            sums.add(record)
            yield record


class _JsonLines:
    """Prints a line of JSON for each record."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def records(self, records: Iterable[Record]) -> None:
        _print(self._out, map(encode, records))

    def sums(self, sums: Totals) -> None:
        """Print nothing: a program that reads JSON can add."""


class _Table:
    """
    Prints a line of text for each record.

    The columns have the usual widths, because later records are not known yet.
    """

    def __init__(self, out: Output) -> None:
        self._out = out
        self._paint = _painter(out)
        self._begun = False

    def records(self, records: Iterable[Record]) -> None:
        _print(self._out, self._lines(records))

    def sums(self, sums: Totals) -> None:
        stored, refused, aborted = sums.uploads.values()
        self._out.line(
            f"{stored} stored, {format_size(sums.stored)} ({counted(sums.stored, 'byte')});"
            f" {refused} refused; {aborted} aborted"
            + (f"; {counted(sums.missing, 'line')} missing" if sums.missing else "")
        )

    def _lines(self, records: Iterable[Record]) -> Iterable[str]:
        for record in records:
            if record["event"] == GAP:
                text = _gap(record)
            else:
                if not self._begun:
                    self._begun = True
                    yield self._paint(_row(_TITLES), "bold")
                text = _upload(record)
            text = text if text.isprintable() else printable(text)
            yield self._paint(text, _STYLES.get(record["event"], ""))


_TITLES = ("TIME", "OUTCOME", "SIZE", "TOOK", "RATE", "PEER", "FILE OR CODE")

_STYLES = {"refused": "yellow", "aborted": "red", GAP: "bold red"}


def _row(cells: tuple[str, ...]) -> str:
    when, outcome, size, took, rate, peer, what = cells
    return (
        f"{when:<24}  {outcome:<7}  {size:>10}  {took:>8}  {rate:>12}  {peer:<21}  {what}".rstrip()
    )


def _gap(record: Record) -> str:
    return f"{record['time']}  {counted(record.get('lines', 0), 'line')} missing"


def _upload(record: Record) -> str:
    size, seconds = record.get("size") or 0, record.get("seconds") or 0.0
    what = record.get("name") or record.get("code") or ""
    if record.get("original_name"):
        what += f"  original name {_quoted(record['original_name'])}"
    if record.get("label"):
        what += f"  label {_quoted(record['label'])}"
    if record.get("listener"):
        what += f"  through {record['listener']}"
    if record.get("ended_by_idle"):
        what += "  ended by idle timeout"
    if record.get("answered") is False:
        what += "  sender disconnected before the answer"
    rate = f"{format_size(size / (seconds or 1e-3))}/s"
    return _row(
        (
            record["time"],
            record["event"],
            format_size(size),
            format_duration(seconds),
            rate,
            record.get("peer") or "",
            what,
        )
    )


def _quoted(text: object) -> str:
    return encode({"": text})[4:-1]


def _print(out: Output, lines: Iterable[str]) -> None:
    """Print many lines quickly, and stop if the output is closed."""
    batch = []
    for line in lines:
        batch.append(line)
        if len(batch) == _BATCH:
            out.line("\n".join(batch))
            batch.clear()
            if out.stream is None:
                return
    if batch:
        out.line("\n".join(batch))


def _painter(out: Output) -> Callable[[str, str], str]:
    """Return a function that colours a line if colours are visible and wanted."""
    if not out.is_terminal:
        return lambda text, style: text
    # Imported here, because it is slow.
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=out.stream)

    def paint(text: str, style: str) -> str:
        if not style:
            return text
        with console.capture() as capture:
            # rich parses a str for emoji codes and more.
            console.print(Text(text, style), soft_wrap=True, end="")
        return capture.get()

    return paint
