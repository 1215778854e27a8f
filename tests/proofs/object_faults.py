"""
``python -m tests.proofs.object_faults``: an object store fails in every way at every step of
an upload, once and for ever, through the store that the daemon has.

A success is true: the object is there, whole, once.  After a refusal nothing is visible, and
whatever the object store keeps of it is removed as soon as that is possible.  One request
that fails is repeated, and its upload is stored.
"""

from __future__ import annotations

import argparse
import contextlib
from collections import Counter
from collections.abc import Sequence

from twisted.logger import globalLogBeginner

from tests.engines.engine import Engine
from tests.proofs import rigs
from tests.proofs.object_kills import chosen
from tests.support.fault_matrix import FOREVER, Matrix, Result, cases

STEPS = ("put", "put+head", "begin", "part", "complete", "complete+head", "tag", "abort")


def prove(engine: Engine, arguments: argparse.Namespace) -> Sequence[str]:
    """Run all cases of one engine; print its rows."""
    wrong = []
    with rigs.workplace() as work, Matrix(engine, work, arguments.answer) as matrix:
        for step in arguments.steps:
            for times in (1, FOREVER):
                results = [*matrix.run(cases([step], times), arguments.at_a_time)]
                answers = Counter(result.answer.partition(":")[0] for result in results)
                happened = sum(result.happened for result in results)
                told = ", ".join(f"{count} {answer}" for answer, count in answers.items())
                often = "once" if times == 1 else "for ever"
                bad = [result for result in results if result.wrong]
                rigs.row(engine.name, step, often, len(results), happened, told, len(bad))
                wrong += [text for result in bad for text in described(engine, result)]
                if not happened:
                    wrong.append(f"{step}: nothing failed, so it proves nothing")
    return wrong


def described(engine: Engine, result: Result) -> list[str]:
    """Return what is wrong with a case, in words."""
    step, fault, times, *_ = result.case
    often = "once" if times == 1 else "for ever"
    case = f"{engine.name}, {step} {fault} {often} ({result.answer})"
    return [f"{case}: {text}" for text in result.wrong]


def main() -> Sequence[str]:
    """Run the matrix with each engine."""
    parser = argparse.ArgumentParser(prog="python -m tests.proofs.object_faults")
    parser.add_argument("engine", nargs="?", choices=["seaweedfs", "ceph"], default="seaweedfs")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    parser.add_argument("--at-a-time", type=int, default=8)
    parser.add_argument("--answer", type=float, default=2, help="timeout of a request in seconds")
    arguments = parser.parse_args()
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False)  # each store logs its failure
    rigs.heading("engine", "step", "fails", "cases", "failed requests", "answers", "wrong")
    with rigs.workplace() as work, contextlib.ExitStack() as stack:
        return prove(chosen(arguments.engine, work, stack)[0], arguments)


if __name__ == "__main__":
    rigs.command(main)
