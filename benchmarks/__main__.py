"""
Run the speed suite: `python -m benchmarks`.

Exit status 1 if our daemon lost an upload or did not work.  A measured time never
decides.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

from .bench import Bench
from .build import Toolbox
from .cases import CASES
from .content import write_source
from .errors import UnavailableError
from .figures import WORST, Results
from .machine import machine
from .peers.ours import BEFORE, NOT_YET, twistd
from .plot import draw
from .report import write
from .settings import MIB, QUICK, QUICK_PEERS, Settings
from .storage import Storage


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Return the settings that a command line selects."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one round: a smoke test")
    parser.add_argument(
        "--case",
        action="append",
        choices=list(CASES),
        default=[],
        help="run only this case; repeatable",
    )
    parser.add_argument(
        "--peer", action="append", default=[], help="run only this contender; repeatable"
    )
    parser.add_argument("--rounds", type=int, help="number of interleaved rounds (5)")
    parser.add_argument(
        "--directory", type=Path, help="directory for images, mounts and files during the run"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="directory for the report (benchmarks/results; a quick run only prints it)",
    )
    parser.add_argument(
        "--daemon-option",
        action="append",
        default=[],
        help="option for `twistd upload`; repeatable",
    )
    parser.add_argument(
        "--before",
        type=interpreter,
        metavar="PYTHON",
        help="interpreter of an environment with an earlier version, to compare with",
    )
    for name in (
        "large-size",
        "small-count",
        "medium-count",
        "durable-count",
        "plain-order-count",
        "connections",
        "latency-count",
        "http-size",
        "http-count",
    ):
        parser.add_argument(f"--{name}", type=int, help=argparse.SUPPRESS)
    options = vars(parser.parse_args(arguments))
    values: dict[str, Any] = dict(QUICK) if options["quick"] else {}
    known = {field.name for field in fields(Settings)}
    values.update(
        {name: value for name, value in options.items() if name in known and value is not None}
    )
    quick = bool(options["quick"])
    values["directory"] = (options["directory"] or Path(tempfile.gettempdir())).resolve()
    values["out"] = options["out"] or (None if quick else Path("benchmarks/results"))
    values["cases"] = tuple(options["case"]) or tuple(CASES)
    values["peers"] = tuple(options["peer"]) or (QUICK_PEERS if quick else ())
    values["daemon_options"] = tuple(options["daemon_option"])
    return Settings(**values)


def interpreter(path: str) -> Path:
    """Return the interpreter of an environment in which the daemon is installed."""
    python = Path(path).absolute()  # not resolved: that would leave the environment
    try:
        twistd(python)
    except UnavailableError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return python


def raise_descriptor_limit(wanted: int) -> None:
    """Allow this process and its children `wanted` open files, or as many as possible."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for limits in ((wanted, max(wanted, hard)), (hard, hard)):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        except (ValueError, OSError):
            continue
        return


def measure(settings: Settings) -> Results:
    """Run the cases; everything that was created for them is removed afterwards."""
    root = Path(tempfile.mkdtemp(prefix="upload-speed-", dir=settings.directory))
    root.chmod(0o755)
    with ExitStack() as stack:
        # Remove only what we created, and nothing while something is mounted below it.
        stack.callback(_remove, root)
        tools, storage = Toolbox(root / "tools"), Storage(root)
        # What curl sends is in files of its own.
        room = max(settings.large_size, settings.http_size) + settings.http_size // 4 * 5 + 96 * MIB
        memory = stack.enter_context(storage.tmpfs("source", room))
        bench = Bench(
            settings,
            tools,
            storage,
            write_source(memory / "source.bin", max(settings.large_size, settings.http_size)),
        )
        run_cases(bench)
        return bench.results


def run_cases(bench: Bench) -> None:
    """Run the cases that the settings name; one that fails does not stop the others."""
    for name in bench.settings.cases:
        began = time.monotonic()
        try:
            CASES[name](bench)
        except (UnavailableError, OSError) as error:
            bench.leave_out(name, "all", error)
        except Exception as error:
            bench.leave_out(name, "all", error)
            bench.results.faults.append(f"{name}: {error!r}")
        bench.results.seconds[name] = time.monotonic() - began
        bench.say(f"{name}: took {bench.results.seconds[name]:.0f} s")


def _remove(root: Path) -> None:
    if any(str(root) in line for line in Path("/proc/self/mounts").read_text().splitlines()):
        print(f"not removed: {root}: something is still mounted below it", file=sys.stderr)
    else:
        shutil.rmtree(root, ignore_errors=True)


def _is_ours(contender: str) -> bool:
    return contender.startswith("ours") and contender != BEFORE


def failures(settings: Settings, results: Results) -> list[str]:
    """Return what a run must not show: an upload that our daemon lost, or that it did not work."""
    found = [*results.faults]
    for case in results.cases():
        for one in results.contenders(case):
            values = results.summary(case, one) if _is_ours(one) else {}
            found += [
                f"{case}: {one}: {values[name]:.0f} {name}"
                for name in sorted(WORST)
                if values.get(name)
            ]
        for one, reason in results.skipped.get(case, {}).items():
            if _is_ours(one) and not reason.startswith(NOT_YET):
                found.append(f"{case}: {one}: {reason}")
    if settings.quick and not any(_is_ours(m.contender) for m in results.measurements):
        found.append("our daemon was not measured at all")
    return found


def main() -> int:
    """Measure, write the report, print what is wrong."""
    settings = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    raise_descriptor_limit(65_536)
    try:
        results = measure(settings)
    except UnavailableError as error:
        print(f"nothing can be measured: {error}", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as nowhere:
        out = settings.out or Path(nowhere)
        out.mkdir(parents=True, exist_ok=True)
        try:
            plot = draw(results, out / "speed.svg")
        except UnavailableError as error:
            print(error, file=sys.stderr)
            plot = None
        print(write(out, settings, machine(settings), results, plot).read_text())
    wrong = failures(settings, results)
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
