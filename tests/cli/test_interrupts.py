"""
Ctrl-C and SIGTERM at any moment of the command, from its first import on.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.daemon import deadly
from twisted_upload.cli.interrupts import Interrupts

AT_IMPORT = """
import os, signal, sys
moment, number = sys.argv[1], int(sys.argv[2])
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == moment:
            os.kill(os.getpid(), number)
sys.meta_path.insert(0, Finder())
sys.argv[1:] = sys.argv[3:]
from twisted_upload.cli.entry import main
main()
"""
"""Runs the command, which is interrupted when it imports a given module."""

BEFORE_THE_REACTOR = """
import os, sys
from twisted_upload.cli.interrupts import Interrupts
hold, number = Interrupts.hold, int(sys.argv[2])
def hold_and_interrupt(self):
    hold(self)
    os.kill(os.getpid(), number)
Interrupts.hold = hold_and_interrupt
sys.argv[1:] = sys.argv[3:]
from twisted_upload.cli.entry import main
main()
"""

UNDER_HANDLERS_OF_THE_REACTOR = """
import os, signal, sys
set_handler = signal.signal
def set_handler_and_interrupt(number, handler):
    before = set_handler(number, handler)
    if number == signal.SIGTERM and "sigTerm" in getattr(handler, "__name__", ""):
        print("handler of the reactor", file=sys.stderr, flush=True)
        os.kill(os.getpid(), number)
    return before
signal.signal = set_handler_and_interrupt
sys.argv[1:] = sys.argv[3:]
from twisted_upload.cli.entry import main
main()
"""

MOMENTS = [
    *("click", "zope.interface", "twisted.internet.defer", "twisted_upload.cli.main"),
    *("twisted_upload.cli.transfer", "twisted.internet.reactor", "twisted.internet.epollreactor"),
]


def run(script: str, *arguments: str | os.PathLike[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*deadly(), sys.executable, "-c", script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.fixture
def silent() -> Iterator[str]:
    """A server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield "{}:{}".format(*listening.getsockname())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file to send."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", MOMENTS)
def test_while_it_starts(file: Path, silent: str, moment: str, number: int) -> None:
    """A command that is interrupted while it starts sends nothing, and says so for each file."""
    sent = run(AT_IMPORT, moment, str(number), "--json", file, "other", "--to", silent)
    assert sent.returncode == 128 + number
    assert sent.stderr == "twisted-upload: interrupted: nothing stored\n"
    objects = [json.loads(line) for line in sent.stdout.splitlines()]
    assert [(told["file"], told["code"], told["attempts"]) for told in objects] == [
        (str(file), "cancelled", 0),
        ("other", "cancelled", 0),
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_the_reactor_starts(file: Path, silent: str, number: int) -> None:
    """The same holds for a signal that arrives while the reactor installs its handlers."""
    sent = run(BEFORE_THE_REACTOR, "", str(number), "--json", file, "--to", silent)
    assert sent.returncode == 128 + number
    assert sent.stderr == "twisted-upload: interrupted: nothing stored\n"
    assert json.loads(sent.stdout)["code"] == "cancelled"


def test_under_handlers_of_the_reactor(file: Path, silent: str) -> None:
    """Signals that arrive while they are installed still interrupt the command."""
    sent = run(UNDER_HANDLERS_OF_THE_REACTOR, "", "", "--json", file, "--to", silent)
    assert sent.returncode == 143
    assert sent.stderr == "handler of the reactor\ntwisted-upload: interrupted: nothing stored\n"
    assert json.loads(sent.stdout)["code"] == "cancelled"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ping(silent: str, number: int) -> None:
    """ping is interrupted in the same way."""
    for script, moment in ((AT_IMPORT, "click"), (BEFORE_THE_REACTOR, "")):
        asked = run(script, moment, str(number), "ping", silent)
        assert (asked.returncode, asked.stdout) == (128 + number, "")
        assert asked.stderr == "twisted-upload: interrupted\n"


def test_log(tmp_path: Path) -> None:
    """Reading a journal ends without a message, as always."""
    (tmp_path / "journal").touch()
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)):
        read = run(AT_IMPORT, "click", str(number), "log", tmp_path / "journal")
        assert (read.returncode, read.stderr) == (status, "")


def test_serve(tmp_path: Path) -> None:
    """An interrupted serve does not start the daemon."""
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)):
        read = run(AT_IMPORT, "twisted.scripts", str(number), "serve", "--directory", tmp_path)
        assert (read.returncode, read.stderr) == (status, "")
        assert [*tmp_path.iterdir()] == []


def test_twice() -> None:
    """The second signal kills the process."""
    script = (
        "import os, signal\n"
        "from twisted_upload.cli.interrupts import Interrupts\n"
        "Interrupts().catch()\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "print('once', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "print('twice', flush=True)\n"
    )
    done = run(script)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "once\n", "")


def test_ignored() -> None:
    """A signal that is ignored (nohup) stays ignored."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        interrupts = Interrupts()
        interrupts.catch()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGINT)
        interrupts.release()
        assert interrupts.number == 0
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGTERM, terminated)


def test_first_imports() -> None:
    """Nothing slow is imported before signals are caught."""
    script = (
        "import sys\n"
        "before = {*sys.modules}\n"
        "import twisted_upload.cli.entry\n"
        "print(*{name.partition('.')[0] for name in {*sys.modules} - before})\n"
    )
    imported = {*run(script).stdout.split()}
    assert "twisted_upload" in imported
    assert not imported & {"twisted", "click", "zope", "rich", "typing", "json", "ssl", "socket"}
