"""
An object store that fails: see ``tests.proofs.object_faults`` for all of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.engines.engine import Engine
from tests.support.fault_matrix import FOREVER, Case, Matrix, Result
from tests.support.faults import FAULTS

STALLS = {"stalled", "stalled-after", "endless-slowly"}
"""Faults that are noticed only after a timeout."""

LARGE = {
    "begin": ["reset-after", "503", "garbage"],
    "part": ["reset-before", "500-after", "truncated", "error-in-200", "flipped"],
    "complete": ["reset-after", "500", "error-in-200", "error-in-200-after", "garbage", "stalled"],
    "tag": ["403"],
    "abort": ["reset-before", "500-after"],
}
"""For each step of a large upload, the faults that are tried here."""


def run(engine: Engine, folder: Path, several: Iterable[Case], answer: float = 10) -> list[Result]:
    with Matrix(engine, folder, answer) as matrix:
        results = [*matrix.run(several, at_a_time=4)]
    assert [result for result in results if result.wrong] == []
    assert all(result.happened for result in results)
    return results


@pytest.mark.parametrize("step", ["put", "put+head"])
def test_small(engine: Engine, tmp_path: Path, step: str) -> None:
    """A request that fails is repeated: the object is there, whole, once."""
    run(engine, tmp_path, [Case(step, fault) for fault in FAULTS if fault not in STALLS])


def test_stalls(engine: Engine, tmp_path: Path) -> None:
    """A request that stalls is repeated after a timeout."""
    run(engine, tmp_path, [Case("put", fault) for fault in STALLS], answer=2)


@pytest.mark.parametrize("step", LARGE)
def test_large(engine: Engine, tmp_path: Path, step: str) -> None:
    """At each step of a large upload too; and no multipart upload stays pending."""
    faults = LARGE[step]
    aborted = step == "abort"
    answer = 4 if STALLS & {*faults} else 10
    run(engine, tmp_path, [Case(step, it, large=True, aborted=aborted) for it in faults], answer)


def test_answers_are_lost(engine: Engine, tmp_path: Path) -> None:
    """If every answer to it is lost, an object that is stored is found, and it is a success."""
    faults = ["reset-after", "500-after", "503-after", "truncated", "garbage"]
    results = run(engine, tmp_path, [Case("put", fault, FOREVER) for fault in faults])
    answers = [result.answer.partition(":")[0] for result in results]
    assert answers == ["stored", "stored", "stored", "stored", "store-error"]


@pytest.mark.parametrize("step", ["put+head", "complete+head"])
def test_nothing_is_known(engine: Engine, tmp_path: Path, step: str) -> None:
    """If it cannot be found out either, the upload is refused, and its object is removed."""
    large = step != "put+head"
    faults = ["reset-after", "503-after"]
    results = run(engine, tmp_path, [Case(step, fault, FOREVER, large) for fault in faults])
    answers = [result.answer.partition(":")[0] for result in results]
    assert answers == ["store-error", "busy"]
