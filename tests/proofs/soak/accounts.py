"""
What the daemon has written down and counted, compared with what senders heard.
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
    What a journal tells.

    :ivar ends: as those of a `Ledger`.
    :ivar size: bytes of what was kept.
    :ivar names: of what was kept.
    :ivar wrong: lines that are missing, or are none.
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
    Print who says what.

    :param page: of the metrics, after the last upload.
    :param path: of the journal.
    :return: what does not agree.
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
        agree("", f"turned away: {code}", number, "", counted, "")
    counted = int(page.sum("uploads_total"))
    agree("all", "", ledger.ends.total(), journal.ends.total(), counted, "")
    kept = int(page.sum("uploads_total", outcome="stored"))
    agree("all", "kept, names", ledger.kept, len(journal.names), kept, ledger.found)
    size = int(page.sum("received_bytes_total", outcome="stored"))
    agree("all", "bytes kept", ledger.size, journal.size, size, ledger.collected)
    agree("all", "nothing sent", ledger.unused, "", "", "")
    return wrong
