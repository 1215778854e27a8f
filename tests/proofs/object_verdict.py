"""
Compares the objects of a bucket with the uploads that were acknowledged.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping

from tests.engines.engine import Place
from tests.engines.witness import Pending
from tests.proofs.load import Ledger, Verdict
from tests.support.daemon import PATIENCE

__all__ = ["ObjectVerdict"]

STAYS = 25_000
"""Size of the largest objects that are left in the bucket, in bytes."""


class ObjectVerdict:
    """
    The comparison, one look after the other.

    Large objects are removed when they have been looked at, as a user would do; none of
    them may appear again.

    :ivar wrong: what was found that must not be.
    :ivar pending: the number of pending multipart uploads that were left and are gone.
    """

    def __init__(self, place: Place, ledger: Ledger) -> None:
        self.wrong: list[str] = []
        self.pending = 0
        self.verdict = Verdict(ledger.contents)
        self._place = place
        self._ledger = ledger
        self._numbers: dict[str, int | None] = {}
        self._removed: set[str] = set()

    def look(self) -> None:
        """Look at the objects that are new, and compare."""
        acknowledged = [*self._ledger.acknowledged]
        for key in self._visible():
            if key in self._removed:
                self.wrong.append(f"{key} has come again")
            elif key not in self._numbers:
                self._see(key)
        self.wrong += [f"lost upload {it}" for it in self.verdict.missing(acknowledged)]

    def look_at_the_end(self, names: Mapping[int, str]) -> None:
        """
        Look at everything once more.

        :param names: for some uploads, the name in the receipt.
        """
        self.look()
        again = Verdict(self._ledger.contents)
        visible = self._visible()
        for key in visible:
            again.see(key, self._place.witness.get(key))
        if {*visible} | self._removed != {*self._numbers}:
            self.wrong.append("what has stayed is not what was there")
        self.wrong += self.verdict.partial + again.partial
        twice = self.verdict.twice(self._ledger.begun)
        self.wrong += [f"twice or never sent: upload {number}" for number in twice]
        for number, name in names.items():
            stored = self._numbers.get(self._place.prefix + name)
            if stored != (-1 if self._ledger.contents.tiny(number) else number):
                self.wrong.append(f"upload {number} is not what has the name in its receipt")

    def clear(self) -> None:
        """Remove everything."""
        self._place.clear()

    def left(self) -> list[Pending]:
        """Return the pending multipart uploads."""
        return self._place.witness.pending(self._place.prefix)

    def wait_until_gone(self, left: list[Pending]) -> None:
        """Wait until pending multipart uploads are gone."""
        end = time.monotonic() + PATIENCE
        while remaining := {*left} & {*self.left()}:
            if time.monotonic() > end:
                self.wrong += [f"still pending: {upload.key}" for upload in remaining]
                break
            time.sleep(0.05)
        self.pending += len(left)

    def _visible(self) -> list[str]:
        """Return the keys of all objects; what a node keeps for itself begins with a dot."""
        prefix = self._place.prefix
        keys = self._place.witness.objects(prefix)
        return [key for key in keys if not key.startswith(f"{prefix}.")]

    def _see(self, key: str) -> None:
        witness = self._place.witness
        data = witness.get(key)
        self.verdict.see(key, data)
        try:
            self._numbers[key] = self._ledger.contents.number(data)
        except ValueError:
            self._numbers[key] = None
        digest = (witness.head(key) or {}).get("x-amz-meta-sha256")
        digests = {digest, witness.tags(key).get("sha256")} - {None}
        if digests - {hashlib.sha256(data).hexdigest()}:
            self.wrong.append(f"{key} has another SHA-256 than {digests}")
        if len(data) > STAYS:
            witness.remove(key)
            self._removed.add(key)
