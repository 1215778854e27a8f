"""
The metrics of a real daemon, read as Prometheus does: over HTTP, and with the official
parser.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from tests.support.daemon import PATIENCE, Daemon, wait_until

__all__ = ["Page", "Scraper"]


class Page:
    """
    One metrics page.

    :ivar types: of the families.
    """

    def __init__(self, text: str) -> None:
        self.types: dict[str, str] = {}
        self._values: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            self.types[family.name] = family.type
            for sample in family.samples:
                self._values.setdefault(sample.name, []).append((sample.labels, sample.value))

    def sum(self, name: str, **labels: str) -> float:
        """
        Return the sum of all samples of a name (without ``twisted_upload_``) with these
        labels.
        """
        return sum(
            value
            for its, value in self._values.get(f"twisted_upload_{name}", [])
            if labels.items() <= its.items()
        )

    def never_less(self) -> dict[tuple[str, str], float]:
        """Return all values that must never decrease."""
        return {
            (name, str(sorted(labels.items()))): value
            for name, samples in self._values.items()
            if name.endswith(("_total", "_bucket", "_sum", "_count"))
            for labels, value in samples
        }


class Scraper:
    """
    A client of a daemon that was started with ``--metrics=0``.

    :ivar address: of its metrics port.
    """

    def __init__(self, daemon: Daemon) -> None:
        line = daemon.wait_for_line("metrics and health on")
        match = re.search(r" on (\S+):(\d+)$", line.strip())
        assert match is not None, line
        self.address = match[1], int(match[2])

    def get(self, path: str) -> tuple[int, str]:
        """Return the status and text of a response."""
        connection = http.client.HTTPConnection(*self.address, timeout=PATIENCE)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def page(self) -> Page:
        """Return the metrics."""
        code, text = self.get("/metrics")
        assert code == 200, text
        return Page(text)

    def wait_until_ready(self) -> None:
        """Wait until all workers serve."""
        wait_until(lambda: self.get("/readyz")[0] == 200, "the daemon to be ready")

    def wait_for(self, value: float, name: str, **labels: str) -> Page:
        """Return the first page on which a sum has this value."""
        seen: list[Page] = []

        def look() -> bool:
            seen[:] = [self.page()]
            return seen[0].sum(name, **labels) == value

        wait_until(look, f"{name} to be {value}")
        return seen[0]
