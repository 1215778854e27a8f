"""The report: a Markdown file for people, and a JSON file with everything."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path

from .bars import BARS, is_floor
from .figures import Results
from .settings import GIB, Settings

TITLES = {
    "large": "One large upload: page cache to ext4, no fsync",
    "large4": "The same volume, four uploads at once",
    "large-fsync": "One large upload with fsync, journalled ext4 on a loop device",
    "small": "Small uploads to tmpfs, no fsync",
    "small-single": "The same from a sender that does one thing at a time",
    "small-slow": "The same from a sender that pauses between connecting, sending, half-closing",
    "small-durable": "Small uploads to a journalled ext4 on a loop device",
    "medium": "Uploads of 100 KB to tmpfs, no fsync",
    "workers": "Small uploads to tmpfs, by number of workers, all on two cores",
    "many": "Connected senders that send slowly",
    "latency": "4 KiB uploads one at a time, receivers with fsync on tmpfs",
    "latency-ext4": "The same on a journalled ext4, where the disk is busy too",
    "client": "Sending a large file to our daemon (tmpfs, no fsync)",
    "client-sink": "Sending a large file to a C receiver that discards it",
    "http-large": "One large PUT: page cache to ext4, no fsync, by curl and by sendfile",
    "http-large-fsync": "One large PUT with fsync, journalled ext4 on a loop device",
    "http-small": "Small PUTs over connections that stay open, to tmpfs, no fsync",
    "http-small-durable": "The same with fsync, to a journalled ext4 on a loop device",
    "http-idle": "Idle connections of HTTP",
    "http-bodies": "Memory, by the size of the body",
    "tus-large": "One large upload by tus, as one PATCH: page cache to ext4, no fsync",
    "tus-chunks": "The same in PATCHes of 1 MiB over one connection",
}

COLUMNS = {
    "gib_per_s": ("GiB/s", "{:.2f}"),
    "cpu_s_per_gib": ("receiver CPU s/GiB", "{:.2f}"),
    "sender_cpu_s_per_gib": ("sender CPU s/GiB", "{:.2f}"),
    "uploads_per_s": ("uploads/s", "{:,.0f}"),
    "cpu_us_per_upload": ("receiver CPU us/upload", "{:.0f}"),
    "p50_ms": ("p50 ms", "{:.2f}"),
    "p90_ms": ("p90 ms", "{:.2f}"),
    "p99_ms": ("p99 ms", "{:.2f}"),
    "worst_ms": ("max ms", "{:.2f}"),
    "stream_gib_per_s": ("concurrent large GiB/s", "{:.2f}"),
    "connect_s": ("connect s", "{:.2f}"),
    "kib_per_connection": ("KiB/connection", "{:.2f}"),
    "alone_gib_per_s": ("large alone GiB/s", "{:.2f}"),
    "beside_gib_per_s": ("concurrent large GiB/s", "{:.2f}"),
    "dropped": ("connections dropped", "{:,.0f}"),
    "memory_mib": ("peak memory MiB", "{:,.0f}"),
    "growth_mib": ("more than with 16 MiB, MiB", "{:.1f}"),
    "gib": ("GiB acknowledged", "{:.2f}"),
    "uploads": ("acknowledged", "{:,.0f}"),
    "lost": ("lost", "{:,.0f}"),
    "failed": ("failed", "{:,.0f}"),
    "sender_cpu_share": ("sender CPU, of a core", "{:.0%}"),
}

FIRST = ("gib_per_s", "uploads_per_s")
"""The figures that each table also shows relative to ours."""


def write(
    out: Path, settings: Settings, about: Mapping[str, str], results: Results, plot: Path | None
) -> Path:
    """Write `REPORT.md` and `results.json` into the directory `out`; return the former."""
    raw = {
        "machine": about,
        "settings": _settings(settings),
        "summary": _summary(results),
        **results.as_json(),
    }
    (out / "results.json").write_text(json.dumps(raw, indent=1, ensure_ascii=False) + "\n")
    parts = ["# Speed", *_about(settings, about), *_took(results)]
    if plot is not None:
        parts += ["", f"![Speed compared with other receivers]({plot.name})"]
    parts += ["", "## Targets", "", *_bars(results)]
    for case in results.cases():
        parts += ["", f"## {TITLES.get(case, case)} (`{case}`)", "", *_case(results, case)]
    parts += ["", "## Is the sender the bottleneck?", "", *_sender(results)]
    report = out / "REPORT.md"
    report.write_text("\n".join(parts) + "\n")
    return report


def _settings(settings: Settings) -> dict[str, object]:
    return {
        name: value
        for name, value in asdict(settings).items()
        if name not in {"directory", "out", "cases", "peers", "before"}
    }


def _summary(results: Results) -> dict[str, dict[str, dict[str, float]]]:
    return {
        case: {one: results.summary(case, one) for one in results.contenders(case)}
        for case in results.cases()
    }


def _about(settings: Settings, about: Mapping[str, str]) -> Iterable[str]:
    yield ""
    if settings.quick:
        yield "**A quick run: it shows that the suite works. Its figures mean nothing.**"
        yield ""
    yield from (f"- {name}: {value}" for name, value in about.items())
    large, small = f"{settings.large_size / GIB:g} GiB", f"{settings.small_size:,} bytes"
    yield f"- {settings.rounds} interleaved rounds, medians"
    yield (
        f"- HTTP: large: {settings.http_size / GIB:g} GiB; small:"
        f" {settings.http_count:,} x {small}, over {settings.http_parallel} connections"
    )
    yield (
        f"- large: {large}; small: {settings.small_count:,} x {small},"
        f" {settings.parallel} at a time (durable: {settings.durable_count:,});"
        f" medium: {settings.medium_count:,} x {settings.medium_size:,} bytes,"
        f" {settings.medium_parallel} at a time;"
        f" {settings.connections:,} connections"
    )
    if settings.daemon_options:
        yield f"- daemon options: `{' '.join(settings.daemon_options)}`"


def _took(results: Results) -> Iterable[str]:
    if results.seconds:
        longest = sorted(results.seconds.items(), key=lambda pair: -pair[1])
        each = ", ".join(f"{case} {seconds:.0f}" for case, seconds in longest)
        total = sum(results.seconds.values())
        yield f"- took {total / 60:.0f} minutes, of it in seconds: {each}"


def _bars(results: Results) -> Iterable[str]:
    yield "| case | figure | target | measured | |"
    yield "|---|---|---|---|---|"
    for bar in BARS:
        reached = bar.figure(results)
        if reached is None:
            shown, verdict = "-", "not measured"
        else:
            shown, verdict = (
                f"{reached:.2f} {bar.unit}",
                "met" if bar.met(reached) else "**missed**",
            )
        yield f"| {bar.case} | {bar.text} | {bar.words()} | {shown} | {verdict} |"


def _case(results: Results, case: str) -> Iterable[str]:
    contenders = results.contenders(case)
    summaries = {one: results.summary(case, one) for one in contenders}
    columns = [name for name in COLUMNS if any(name in values for values in summaries.values())]
    ours = next((one for one in contenders if one.startswith("ours")), None)
    compared = next((name for name in FIRST if name in columns), None)
    if contenders:
        heads = ["", *(COLUMNS[name][0] for name in columns)] + (
            ["relative to ours"] if ours and compared else []
        )
        yield "| " + " | ".join(heads) + " |"
        yield "|---" + "|---:" * (len(heads) - 1) + "|"
    for one, label in contenders.items():
        values = summaries[one]
        cells = [
            COLUMNS[name][1].format(values[name]) if name in values else "" for name in columns
        ]
        if ours and compared:
            both = values.get(compared), summaries[ours].get(compared)
            cells.append(f"{both[0] / both[1]:.2f} x" if both[0] is not None and both[1] else "")
        yield (
            "| " + " | ".join([f"**{label}**" if one.startswith("ours") else label, *cells]) + " |"
        )
    left_out = results.skipped.get(case, {})
    if left_out:
        yield ""
        yield from (f"- left out: {one}: {reason}" for one, reason in left_out.items())


SENDER = (
    "All raw and HTTP uploads are sent by one single-threaded C program. At 100 % of a core it is"
    " the bottleneck: if a C receiver drives it there, that receiver is faster than shown. Every"
    " figure well below that one is limited by its own receiver. FTP uploads are sent"
    " by a Python program with sendfile."
)

RECEIVER = (
    "Receiver CPU is the CPU time of its processes, including children that have ended. On"
    " loopback the kernel does part of the receiving on the sender's account: that is in no"
    " receiver's figure. Kernel threads that write to the disk are not counted either."
)


def _sender(results: Results) -> Iterable[str]:
    yield SENDER
    yield ""
    yield "| case | fastest C receiver | sender CPU, of a core | ours | sender CPU, of a core |"
    yield "|---|---:|---:|---:|---:|"
    for case, name in (
        ("large", "gib_per_s"),
        ("large4", "gib_per_s"),
        ("small", "uploads_per_s"),
        ("small-single", "uploads_per_s"),
        ("small-slow", "uploads_per_s"),
    ):
        floors = [results.summary(case, one) for one in results.contenders(case) if is_floor(one)]
        ours = results.summary(case, "ours")
        if name not in ours or not floors or any(name not in floor for floor in floors):
            continue
        cells = [case]
        for values in (max(floors, key=lambda found: found[name]), ours):
            unit, form = COLUMNS[name]
            cells += [f"{form.format(values[name])} {unit}", f"{values['sender_cpu_share']:.0%}"]
        yield "| " + " | ".join(cells) + " |"
    yield ""
    yield RECEIVER
