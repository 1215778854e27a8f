"""The plot: throughput and small-file rate, with and without fsync, legible on any page."""

from __future__ import annotations

from pathlib import Path

from .bars import is_floor
from .errors import UnavailableError
from .figures import Results

INK = "#7d8590"
"""A grey that is legible on white and on black."""
OURS, OTHERS, FLOOR = "#2f81f7", "#8b949e", "#6e7681"

PANELS = (
    ("large", "gib_per_s", "one large upload, GiB/s", "{:.2f}"),
    ("small", "uploads_per_s", "small uploads, per second", "{:,.0f}"),
    ("large-fsync", "gib_per_s", "one large upload, synced, GiB/s", "{:.2f}"),
    ("small-durable", "uploads_per_s", "small uploads, synced, per second", "{:,.0f}"),
)
"""The cases that are plotted, two in a row."""

UNDRAWN = frozenset({("small", "ours-all"), ("small", "ours-silent"), ("small-durable", "ours")})
"""Contenders that are measured only for comparison with our own daemon."""


def draw(results: Results, path: Path) -> Path:
    """Plot the measured panels into an SVG at `path`."""
    try:
        import matplotlib as mpl  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415

        mpl.use("svg")
        import matplotlib.pyplot as plt  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415
    except ImportError as error:
        raise UnavailableError("no picture: matplotlib is not installed") from error
    panels = [panel for panel in PANELS if drawn(results, panel[0])]
    if not panels:
        raise UnavailableError("no picture: none of the cases that are drawn was run")
    mpl.rcParams.update({
        "svg.hashsalt": "speed", "font.size": 9, "text.color": INK, "axes.labelcolor": INK,
        "xtick.color": INK, "ytick.color": INK, "axes.edgecolor": INK,
    })  # fmt: skip
    rows = [panels[at : at + 2] for at in range(0, len(panels), 2)]
    heights = [max(len(drawn(results, case)) for case, *_ in row) + 1.5 for row in rows]
    wide = len(rows[0])
    figure, axes = plt.subplots(
        len(rows), wide, figsize=(4.6 * wide, 0.29 * sum(heights)), squeeze=False,
        gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax, (case, name, title, form) in zip(axes.flat, panels, strict=False):
        bars = sorted(
            (results.summary(case, one).get(name, 0.0), one, label)
            for one, label in drawn(results, case).items()
        )
        lengths = [length for length, _, _ in bars]
        colours = [_colour(one) for _, one, _ in bars]
        shown = ax.barh([label for _, _, label in bars], lengths, color=colours, height=0.72)
        notes = [form.format(length) + _lost(results, case, one) for length, one, _ in bars]
        ax.bar_label(shown, notes, padding=3, color=INK, fontsize=8)
        ax.set_title(title, fontsize=10, color=INK, loc="left")
        ax.set_xlim(0, max(lengths) * 1.32)
        ax.xaxis.set_visible(False)
        ax.tick_params(axis="y", length=0)
        ax.patch.set_alpha(0)
        for side in ("top", "right", "bottom"):
            ax.spines[side].set_visible(False)
    figure.patch.set_alpha(0)
    figure.tight_layout()
    figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return path


def drawn(results: Results, case: str) -> dict[str, str]:
    """Return the contenders of a case that the plot shows, with their labels."""
    found = results.contenders(case)
    return {one: label for one, label in found.items() if (case, one) not in UNDRAWN}


def _colour(contender: str) -> str:
    if contender.startswith("ours"):
        return OURS
    return FLOOR if is_floor(contender) else OTHERS


def _lost(results: Results, case: str, contender: str) -> str:
    values = results.summary(case, contender)
    lost, done = values.get("lost", 0.0), values.get("uploads", 0.0)
    return f", loses {lost / done:.0%}" if lost and done else ""
