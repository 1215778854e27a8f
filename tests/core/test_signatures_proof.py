"""
No kind of the library accepts a file that does not have its signature.
"""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Iterator
from typing import Any

import filetype  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.file_kinds import SAMPLES, kind_name
from twisted_upload.core.names import HEAD
from twisted_upload.core.signatures import SIGNATURES, Signature

# Sizes of files, around every offset that kinds examine.
SIZES = (*range(1, 13), 16, 20, 36, 50, 58, 131, 133, 262, 600, 2200, HEAD)

Known = dict[int, frozenset[int] | int]


class _Paths:
    """
    One path through a function that examines unknown bytes.

    :param script: the first answers; all further ones are no.
    """

    def __init__(self, script: list[bool]) -> None:
        self._script = script
        self.taken: list[bool] = []

    def decide(self) -> bool:
        at = len(self.taken)
        self.taken.append(at < len(self._script) and self._script[at])
        return self.taken[-1]

    def others(self) -> Iterator[list[bool]]:
        for at in range(len(self._script), len(self.taken)):
            yield [*self.taken[:at], True]


class _Other:
    """A byte that is known only to be none of these."""

    def __init__(self, none_of: frozenset[int], paths: _Paths) -> None:
        self._none_of = none_of
        self._paths = paths

    def __eq__(self, other: object) -> bool:
        return other not in self._none_of and self._paths.decide()

    __hash__ = None  # type: ignore[assignment]


class _Partly:
    """
    The first bytes of a file, most of them unknown, with the operations that kinds use.

    :param known: by offset, what a byte is, or what it is not.
    """

    def __init__(self, known: Known, slots: range, paths: _Paths) -> None:
        self._known = known
        self._slots = slots
        self._paths = paths

    def __len__(self) -> int:
        return len(self._slots)

    def __getitem__(self, offset: int | slice) -> Any:
        if isinstance(offset, slice):
            return _Partly(self._known, self._slots[offset], self._paths)
        known = self._known.get(self._slots[offset], frozenset())
        return known if isinstance(known, int) else _Other(known, self._paths)

    def __eq__(self, other: object) -> bool:
        assert isinstance(other, bytes | bytearray)
        return len(self) == len(other) and all(self[at] == byte for at, byte in enumerate(other))

    __hash__ = None  # type: ignore[assignment]

    def __contains__(self, piece: bytes) -> bool:
        return self._paths.decide()

    def startswith(self, start: bytes) -> bool:
        return bool(self[: len(start)] == start)

    def find(self, piece: bytes) -> int:
        return 0 if self.startswith(piece) else 50 if self._paths.decide() else -1

    def index(self, piece: bytes, start: int, end: int) -> int:
        found = self[start:end].find(piece)
        if found < 0:
            raise ValueError
        return start + int(found)


def _misses(signature: Signature) -> Iterator[Known]:
    """
    All ways not to have a signature: by offset, what each byte then is, or what it is not.
    """
    for begun in {start[:length] for start in signature.starts for length in range(len(start))}:
        if not begun.startswith(signature.starts):
            nexts = {start[len(begun)] for start in signature.starts if start.startswith(begun)}
            known: Known = {signature.offset + at: byte for at, byte in enumerate(begun)}
            yield known | {signature.offset + len(begun): frozenset(nexts)}
    if signature.first:
        yield {0: frozenset(signature.first)}


def _without(signatures: tuple[Signature, ...]) -> Iterator[Known]:
    for misses in itertools.product(*map(_misses, signatures)):
        yield functools.reduce(operator.or_, misses)


# These kinds compute a length or a number from four bytes.
NOT_BYTE_BY_BYTE = {"image.Heic", "image.Avif", "video.Mov", "archive.Zstd"}


@pytest.mark.parametrize(
    "kind",
    [kind for kind in filetype.types if kind_name(kind) not in NOT_BYTE_BY_BYTE],
    ids=kind_name,
)
def test_no_kind_without_its_signature(kind: Any) -> None:
    """
    No kind accepts a file that does not have its signature.

    This is a proof, not a sample: of the file it is known only that it lacks the signature,
    and every path is taken that the library's code may then take.
    """
    for known in _without(SIGNATURES[kind_name(kind)]):
        for size in SIZES:
            scripts: list[list[bool]] = [[]]
            while scripts:
                paths = _Paths(scripts.pop())
                head = _Partly(known, range(size), paths)
                assert not kind.match(head), (known, size, paths.taken)
                scripts.extend(paths.others())


@settings(max_examples=300, deadline=None, derandomize=True)
@given(name=st.sampled_from(sorted(NOT_BYTE_BY_BYTE)), data=st.data())
def test_kinds_that_can_only_be_sampled(name: str, data: st.DataObject) -> None:
    """Kinds that do not examine single bytes accept no sample without their signature."""
    kind = next(kind for kind in filetype.types if kind_name(kind) == name)
    (signature,) = SIGNATURES[name]
    head = bytearray(data.draw(st.sampled_from(SAMPLES[name])))
    for offset, known in data.draw(st.sampled_from([*_misses(signature)])).items():
        others = {known} if isinstance(known, int) else {*range(256)} - known
        head[offset] = data.draw(st.sampled_from(sorted(others)))
    assert not kind.match(bytes(head))
