"""
An object store that fails: see ``tests.proofs.object_faults`` for all of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engines.engine import Engine
from tests.support.fault_matrix import FOREVER, Case, Matrix, Result, cases


def run(engine: Engine, folder: Path, *several: Case) -> list[Result]:
    with Matrix(engine, folder, answer=0.7) as matrix:
        results = [*matrix.run(several)]
    assert [result for result in results if result.wrong] == []
    return results


@pytest.mark.parametrize(
    "step", ["put", "put+head", "begin", "part", "complete", "complete+head", "tag", "abort"]
)
def test_once(engine: Engine, tmp_path: Path, step: str) -> None:
    """A request that fails is repeated: the object is there, whole, once, and nothing else is."""
    results = run(engine, tmp_path, *cases([step]))
    assert all(result.happened for result in results)


def test_answers_are_lost(engine: Engine, tmp_path: Path) -> None:
    """If every answer to it is lost, an object that is stored is found, and it is a success."""
    faults = ["reset-after", "500-after", "503-after", "truncated", "garbage"]
    results = run(engine, tmp_path, *(Case("put", fault, FOREVER) for fault in faults))
    answers = [result.answer.partition(":")[0] for result in results]
    assert answers == ["stored", "stored", "stored", "stored", "store-error"]


@pytest.mark.parametrize("step", ["put+head", "complete+head"])
def test_nothing_is_known(engine: Engine, tmp_path: Path, step: str) -> None:
    """If it cannot be found out either, the upload is refused, and its object is removed."""
    large = step != "put+head"
    faults = ["reset-after", "503-after"]
    results = run(engine, tmp_path, *(Case(step, fault, FOREVER, large) for fault in faults))
    answers = [result.answer.partition(":")[0] for result in results]
    assert answers == ["store-error", "busy"]
