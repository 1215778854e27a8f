"""The measurements, and how they are summarized over the rounds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

Values = Mapping[str, float]
"""
The figures of one round, by name.  The names contain the unit: `seconds`,
`gib_per_s`, `uploads_per_s`, `cpu_s_per_gib`, `cpu_us_per_upload`, `memory_mib`,
`p50_ms`, `p99_ms`, `lost` and `failed` (uploads), `sender_cpu_share` (1.0 = one
core).
"""

WORST = frozenset({"lost", "failed", "broken", "dropped"})
"""Figures that are summarized by their maximum over the rounds, not by their median."""


@dataclass(frozen=True)
class Measurement:
    """One contender in one round of one case."""

    case: str
    contender: str
    label: str
    round: int
    values: Values


@dataclass
class Results:
    """All measurements of a run, and what could not be measured."""

    measurements: list[Measurement] = field(default_factory=list)
    skipped: dict[str, dict[str, str]] = field(default_factory=dict)
    """Reasons, by case and contender."""
    faults: list[str] = field(default_factory=list)
    """Unforeseen errors in the suite itself."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each case of the command line took."""

    def add(self, case: str, contender: str, label: str, number: int, values: Values) -> None:
        """Record one round."""
        self.measurements.append(Measurement(case, contender, label, number, dict(values)))

    def skip(self, case: str, contender: str, reason: str) -> None:
        """Record that there is no figure, and why."""
        self.skipped.setdefault(case, {})[contender] = reason

    def cases(self) -> list[str]:
        """Return the cases with figures or reasons, in the order they were run."""
        return list(dict.fromkeys([*(m.case for m in self.measurements), *self.skipped]))

    def contenders(self, case: str) -> dict[str, str]:
        """Return the contenders of a case that have figures, with their labels."""
        return {m.contender: m.label for m in self.measurements if m.case == case}

    def rounds(self, case: str, contender: str) -> list[Values]:
        """Return the figures of one contender, a mapping per round."""
        return [m.values for m in self.measurements if (m.case, m.contender) == (case, contender)]

    def summary(self, case: str, contender: str) -> dict[str, float]:
        """Return the median of each figure over the rounds; for those in `WORST`, the maximum."""
        rounds = self.rounds(case, contender)
        names = dict.fromkeys(name for values in rounds for name in values)
        found = {}
        for name in names:
            figures = [values[name] for values in rounds if name in values]
            found[name] = max(figures) if name in WORST else median(figures)
        return found

    def value(self, case: str, contender: str, name: str) -> float | None:
        """Return one figure of the summary, or None if it was not measured."""
        return self.summary(case, contender).get(name)

    def as_json(self) -> dict[str, Any]:
        """Return everything, for a file."""
        return {
            "seconds": self.seconds,
            "measurements": [asdict(m) for m in self.measurements],
            "skipped": self.skipped,
        }
