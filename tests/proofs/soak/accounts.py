"""
Comparison of the daemon's journal and metrics with the answers to the senders.
"""

from __future__ import annotations

from collections import Counter

from tests.proofs import rigs
from tests.proofs.soak.ledger import Ledger
from tests.support.scraping import Page
from twisted_upload.observability.journal_reader import Reader
from twisted_upload.observability.records import GAP

__all__ = ["accounts"]


class _Journal:
    """
    The contents of a journal.

    :ivar ends: counts of outcomes, as in `Ledger.ends`.
    :ivar size: total bytes of the stored files.
    :ivar names: names of the stored files.
    :ivar wrong: errors: missing or invalid lines.
    """

    def __init__(self, path: str) -> None:
        self.ends: Counter[tuple[str, str, str]] = Counter()
        self.size = 0
        self.names: set[str] = set()
        self.wrong: list[str] = []
        reader = Reader(path)
        for record in reader.records():
            if record["event"] == GAP:
                self.wrong.append(f"the journal lacks {record['lines']} lines")
                continue
            self.ends[record["listener"], record["event"], record.get("code") or ""] += 1
            if record["event"] == "stored":
                self.size += record["size"]
                self.names.add(f"{record['listener']}/{record['name']}")
        if reader.unreadable:
            self.wrong.append(f"{reader.unreadable} lines of the journal are no records")


def accounts(ledger: Ledger, page: Page, path: str) -> list[str]:
    """
    Print the figures of the senders, the journal and the metrics.

    :param page: the metrics page, after the last upload.
    :param path: path of the journal.
    :return: the figures that do not agree.
    """
    journal = _Journal(path)
    wrong = journal.wrong
    rigs.heading("listener", "end", "senders heard", "journal", "metrics", "found")

    def agree(listener: str, end: str, heard: int, *others: int | str) -> None:
        rigs.row(listener, end, heard, *others)
        if any(isinstance(other, int) and other != heard for other in others):
            wrong.append(f"{listener}: {end}: {heard} were heard, and {others} written down")

    for listener, end, code in sorted(ledger.ends.keys() | journal.ends.keys()):
        key = (listener, end, code)
        labels = {"listener": listener, "outcome": end, **({"code": code} if code else {})}
        counted = int(page.sum("uploads_total", **labels))
        agree(listener, f"{end} {code}".strip(), ledger.ends[key], journal.ends[key], counted, "")
    for code, number in ledger.rejected.items():
        counted = int(page.sum("rejected_connections_total", code=code))
        agree("", f"rejected: {code}", number, "", counted, "")
    counted = int(page.sum("uploads_total"))
    agree("all", "", ledger.ends.total(), journal.ends.total(), counted, "")
    kept = int(page.sum("uploads_total", outcome="stored"))
    agree("all", "kept, names", ledger.kept, len(journal.names), kept, ledger.found)
    size = int(page.sum("received_bytes_total", outcome="stored"))
    agree("all", "bytes kept", ledger.size, journal.size, size, ledger.collected)
    agree("all", "nothing sent", ledger.unused, "", "", "")
    return wrong
