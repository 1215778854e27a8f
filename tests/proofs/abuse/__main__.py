"""
``python -m tests.proofs.abuse``: see `tests.proofs.abuse`.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from collections.abc import Sequence

from tests.proofs import rigs
from tests.proofs.abuse.row import GOAL, Figures, Row, Scale, run
from tests.proofs.abuse.rows import ROWS

QUICK = 1 / 40
"""Share of the abusers in a short version."""


def percentile(times: Sequence[float], share: int) -> float:
    """Return a percentile in milliseconds; 0 if there are no values."""
    if len(times) < 2:
        return 1000 * sum(times)
    return 1000 * statistics.quantiles(times, n=100, method="inclusive")[share - 1]


def show(row: Row, seen: Figures) -> None:
    """Print a row."""
    quiet, abused = seen.honest.times["quiet"], seen.honest.times["abuse"]
    before, during = percentile(quiet, 99), percentile(abused, 99)
    ratio = during / before if before else 0.0
    others = sum(seen.honest.ends.values(), Counter())
    del others["stored"], others["cut off"]
    three = list(zip(tuple(seen.before), tuple(seen.peak), tuple(seen.after), strict=True))
    rigs.row(
        row.title,
        f"{seen.begun} in {seen.abuse_seconds:.0f} s",
        ", ".join([f"{times} {how}" for how, times in seen.did.most_common()] + seen.notes),
        f"{percentile(quiet, 50):.1f} / {before:.1f} ms",
        f"{percentile(abused, 50):.1f} / {during:.1f} ms",
        f"{ratio:.1f} x, {'met' if ratio < GOAL else 'missed'}",
        f"{1000 * max(abused, default=0):.0f} ms",
        f"{len(abused)} kept" + "".join(f", {times} {how}" for how, times in others.items()),
        " / ".join(f"{it >> 20}" for it in three[0]),
        " / ".join(map(str, three[1])),
        " / ".join(map(str, three[2])),
        seen.lines,
    )


def main() -> Sequence[str]:
    """Run the rows, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.abuse")
    names = [row.name for row in ROWS]
    parser.add_argument("--row", action="append", choices=names, help="only this; repeatable")
    parser.add_argument("--quick", action="store_true", help="few abusers, for a moment")
    parser.add_argument("--folder", help="where to work")
    arguments = parser.parse_args()
    scale = Scale(QUICK, quick=True) if arguments.quick else Scale()
    wrong = []
    rigs.heading(
        *("abuse", "connections", "what they got", "honest p50 / p99, quiet", "abused"),
        *("ratio", "worst", "honest uploads", "MiB before / peak / after", "descriptors"),
        *("threads", "log lines"),
    )
    with rigs.workplace(arguments.folder) as work:
        for row in ROWS:
            if arguments.row and row.name not in arguments.row:
                continue
            try:
                seen = run(row, scale, work / row.name)
            except rigs.Skip as reason:
                rigs.row(row.title, f"skipped: {reason}")
                continue
            show(row, seen)
            wrong += [f"{row.name}: {what}" for what in seen.wrong]
    return wrong


if __name__ == "__main__":
    rigs.command(main)
