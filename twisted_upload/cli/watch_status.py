"""``twisted-upload watch --status``: what the process that watches a folder has reported."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict

from twisted_upload.cli.streams import PROGRAM, ExitStatus, Streams
from twisted_upload.client.watch.status import WatchStatus, is_watched, read_status
from twisted_upload.core.text import counted, format_duration, format_size, printable

__all__ = ["print_status"]


def print_status(streams: Streams, folder: str, state: str, *, as_json: bool) -> int:
    """
    Print the status of a watched folder.

    :param state: the folder of its state.
    :return: the exit status: 0 if it is being watched, and there is no trouble.
    """
    out, err = streams.out, streams.err
    try:
        status = read_status(state)
    except OSError as error:
        err.line(printable(f"{PROGRAM}: {state}: {error.strerror}"))
        return ExitStatus.SOURCE
    if status is None:
        err.line(printable(f"{PROGRAM}: {folder}: is not, and was not watched (see --state)"))
        return ExitStatus.FAILED
    watched = is_watched(state)
    if as_json:
        out.line(json.dumps({"running": watched, **asdict(status)}))
    else:
        for line in _lines(status, watched, time.time()):
            out.line(printable(line))
    return (
        ExitStatus.OK if watched and not (status.trouble or status.refused) else ExitStatus.FAILED
    )


def _lines(status: WatchStatus, watched: bool, now: float) -> Iterator[str]:
    def ago(moment: float) -> str:
        return format_duration(max(0.0, now - moment))

    if watched:
        yield f"{status.folder}: watched for {ago(status.since)}, sends to {status.to}"
    else:
        yield f"{status.folder}: NOT watched since {ago(status.updated)}; it sent to {status.to}"
    yield f"waiting: {counted(status.waiting, 'file')}, {format_size(status.waiting_bytes)}"
    for path, (sent, size) in status.sending.items() if watched else ():
        of = f" of {format_size(size)}" if size is not None else ""
        yield f"sending: {path}, {format_size(sent or 0)}{of}"
    last = f"; {status.last_stored} {ago(status.last_stored_at)} ago" if status.stored else ""
    yield f"stored: {counted(status.stored, 'file')}, {format_size(status.stored_bytes)}{last}"
    for path, why in status.refused.items():
        yield f"not stored: {path}: {why}"
    if status.trouble:
        yield f"trouble for {ago(status.trouble_since)}: {status.trouble}"
