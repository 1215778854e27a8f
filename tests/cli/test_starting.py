"""
What the commands import: they have to start without a noticeable delay.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.daemon import PATIENCE, SUCCESS, Daemon, deadly, run_twistd

SCRIPT = """
import gc, sys
before = {*sys.modules}
from twisted_upload.cli.entry import main
try:
    main()
finally:
    sys.stdout.flush()
    reported = (f"collecting={gc.isenabled()}", *({*sys.modules} - before))
    sys.__stderr__.write("\\n" + " ".join(reported))
"""
"""Runs the command, and prints what it has imported."""

SLOW = ("twisted", "zope", "rich", "importlib.metadata", "ssl", "asyncio", "filetype")
"""Modules that are too slow to import for a command that does not use them."""


def imported(*arguments: str | os.PathLike[str], **variables: str) -> set[str]:
    """Return what the command imports, and whether it collects garbage at the end."""
    done = subprocess.run(
        [*deadly(), sys.executable, "-c", SCRIPT, *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    return {*done.stderr.splitlines()[-1].split()}


def slow(modules: set[str]) -> set[str]:
    """Return the modules that are slow to import."""
    return {
        name for name in modules if name in SLOW or name.startswith(tuple(f"{it}." for it in SLOW))
    }


def asked(line: str) -> Mapping[str, str]:
    """Return the environment of a command that a shell asks for completions."""
    return {
        "_TWISTED_UPLOAD_COMPLETE": "bash_complete",
        "COMP_WORDS": f"twisted-upload {line}",
        "COMP_CWORD": str(len(line.split(" "))),
    }


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            "--help",
            "--version",
            "",
            "--no-such-option",
            "ping --help",
            "log --help",
            "log nothing",
            "-r tests/cli --dry-run",
            "--tar tests/cli --dry-run --limit-rate 1M",
        ),
        *("token --help", "token list --file nothing", "invite --help"),
    ],
)
def test_without_twisted(arguments: str) -> None:
    """Help, version, usage errors, dry runs and the journal do not import Twisted."""
    modules = imported(*arguments.split())
    assert "twisted_upload.cli.main" in modules
    assert slow(modules) == set()


@pytest.mark.parametrize("line", ["--", "test", "photo.jpg --to", "log --", "ping --", "serve --"])
def test_completion(line: str, tmp_path: Path) -> None:
    """Completion does not import Twisted."""
    modules = imported(**asked(line))
    assert "twisted_upload.cli.main" in modules
    assert slow(modules) == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str) -> None:
    """Printing the completion script does not import Twisted."""
    modules = imported(_TWISTED_UPLOAD_COMPLETE=f"{shell}_source")
    assert "twisted_upload.cli.main" in modules
    assert slow(modules) == set()


@pytest.mark.parametrize("given", [{"port": "0"}, {"http": ("0",)}])
def test_daemon_without_http(given: Mapping[str, object], tmp_path: Path) -> None:
    """A daemon imports what only HTTP needs if it speaks HTTP, and only then."""
    script = (
        "import sys\n"
        "from twisted.internet import reactor\n"
        "from twisted_upload.config.configuration import configure\n"
        "from twisted_upload.config.sources import SourcedValue\n"
        "from twisted_upload.daemon.builder import make_service\n"
        f"layer = {{name: SourcedValue(text, name) for name, text in {given!r}.items()}}\n"
        "make_service(configure(layer, {}, '/'), reactor)\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run(
        [*deadly(), sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    modules = done.stdout.split()
    only_http = [it for it in modules if it.startswith("twisted_upload.frontends.http")]
    only_http += [it for it in ("httptools", "multipart") if it in modules]
    assert bool(only_http) == ("http" in given)


def test_bars() -> None:
    """A file that is sent before its bar would be drawn does not need rich."""
    script = (
        "import io, sys\n"
        "from twisted.internet.task import Clock\n"
        "from twisted_upload.cli.bars import FRAME, Bars\n"
        "from twisted_upload.cli.streams import Output\n"
        "clock, out = Clock(), io.StringIO()\n"
        "bars = Bars(clock, Output(out))\n"
        "bars.add(0, 'a file')\n"
        "bars.set(0, 1, 2)\n"
        "bars.print_above('a line')\n"
        "print('rich' in sys.modules, 'a file' in out.getvalue())\n"
        "clock.advance(FRAME)\n"
        "print('rich' in sys.modules, 'a file' in out.getvalue())\n"
        "bars.remove(0, 2)\n"
        "bars.close()\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "True", "True"]


REPORTING = {"PYTHONPROFILEIMPORTTIME": "1"}
"""The environment that has Python report imports on standard error."""


def reported(text: str) -> set[str]:
    """Return the modules in such a report."""
    return {line.rpartition("|")[2].strip() for line in text.splitlines() if "import time:" in line}


def test_daemon(tmp_path: Path) -> None:
    """A daemon does not import what only features that are not configured need."""
    with Daemon(tmp_path, environment=REPORTING) as daemon:
        assert daemon.send(b"content") == SUCCESS
    modules = reported(daemon.errors.read_text() + daemon.log.read_text())
    assert {"twisted_upload.daemon.tap", "twisted_upload.frontends.raw.factory"} <= modules
    ours = (
        *("config.dump", "daemon.check", "daemon.supervisor", "hooks.runner"),
        *("observability.journal", "observability.multiprocess"),
        *("daemon.object_stores", "observability.object_counts", "stores.s3.store"),
        *("observability.prometheus", "observability.status_server"),
    )
    useless = {f"twisted_upload.{name}" for name in ours}
    assert all(map(find_spec, useless))
    useless |= {"prometheus_client", "click", "rich", "tomllib", "statistics", "importlib.metadata"}
    assert modules & useless == set()
    assert {name for name in modules if name.startswith(("twisted_upload.stores.s3", *S3))} == set()


S3 = "boto", "obstore", "urllib3"
"""What the libraries of object stores begin with."""


def test_other_daemons(tmp_path: Path) -> None:
    """Other twistd plugins start without importing this package."""
    modules = reported(run_twistd(tmp_path, "--help", environment=REPORTING).stderr)
    assert "twisted.application.app" in modules
    assert {name for name in modules if name.startswith("twisted_upload")} == set()


def test_garbage() -> None:
    """Garbage collection skips what is imported, but not what is created later."""
    assert "collecting=True" in imported("--version")
    script = (
        "import gc, sys\n"
        "passes = []\n"
        "gc.callbacks.append(lambda phase, _: passes.append(phase))\n"
        "from twisted_upload.core.garbage import Importing\n"
        "with Importing():\n"
        "    passes.clear()\n"
        "    import twisted.internet.reactor\n"
        "    print(len(passes))\n"
        "print(gc.isenabled(), gc.get_freeze_count() > 10_000, len(gc.get_objects()) < 1000)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["0", "True", "True", "True"]
