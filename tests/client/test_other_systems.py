"""
The client needs nothing that only Linux has, and no Twisted unless it is for Twisted.

The programs here run in processes in which macOS and Windows are imitated: what these lack
is taken away before anything is imported.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.daemon import PATIENCE, Daemon, deadly

WITHOUT = {
    "linux": "",
    "macos": """
import os, select, socket, sys
for module, names in {
    os: ("pipe2", "posix_fadvise", "memfd_create", "O_TMPFILE"),
    socket: ("SO_PEERCRED", "TCP_INFO", "TCP_USER_TIMEOUT"),
    select: ("epoll",),
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
""",
    "windows": """
import os, select, socket, sys
for module, names in {
    os: ("sendfile", "pipe2", "pread", "get_blocking", "set_blocking", "O_NONBLOCK", "O_NOCTTY",
         "O_CLOEXEC", "geteuid", "posix_fadvise", "memfd_create", "fork"),
    socket: ("SO_PEERCRED", "SO_LINGER", "TCP_INFO", "AF_UNIX", "SO_REUSEPORT"),
    select: ("epoll", "poll"),
}.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
for name in ("fcntl", "pwd", "grp", "termios", "resource"):
    sys.modules[name] = None
""",
}

PROGRAM = """
import sys
from twisted_upload.sync import upload
from twisted_upload.client.resume_state import ResumeState
path, state, *targets = sys.argv[1:]
for target in targets:
    receipt = upload(path, target, state=ResumeState(state), sha256=True)
    assert receipt.sha256, receipt
    print(receipt.size)
"""

NO_TWISTED = """
# Old versions of zope.interface have the interpreter itself create the package zope.
assert not {"twisted", "zope.interface", "rich", "click"} & {*sys.modules}, sorted(sys.modules)
"""


def run(code: str, *arguments: object) -> str:
    """Run a program; return what it prints."""
    command = [*deadly(), sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("system", WITHOUT)
def test_uploads(tmp_path: Path, system: str) -> None:
    """A file is sent by both protocols, and verified, without what the system lacks."""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3_000_000))
    with Daemon(tmp_path, "--port=0", "--http=0", "--interface=127.0.0.1", "--receipts") as daemon:
        raw, http = (address for _, address in daemon.addresses)
        program = WITHOUT[system] + PROGRAM + NO_TWISTED
        targets = f"127.0.0.1:{raw[1]}", f"http://127.0.0.1:{http[1]}/"
        assert run(program, path, tmp_path / "state", *targets) == "3000000\n" * 2
        assert [file.read_bytes() for file in daemon.files()] == [path.read_bytes()] * 2


@pytest.mark.parametrize("system", ["macos", "linux"])
def test_uploads_by_twisted(tmp_path: Path, system: str) -> None:
    """And so it is with Twisted."""
    program = """
import sys
from twisted.internet.task import react
from twisted_upload import upload
async def main(reactor, path, *targets):
    for target in targets:
        print((await upload(path, target)).size)
react(main, sys.argv[1:])
"""
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3_000_000))
    with Daemon(tmp_path, "--port=0", "--http=0", "--interface=127.0.0.1", "--receipts") as daemon:
        raw, http = (address for _, address in daemon.addresses)
        targets = f"127.0.0.1:{raw[1]}", f"http://127.0.0.1:{http[1]}/"
        assert run(WITHOUT[system] + program, path, *targets) == "3000000\n" * 2


@pytest.mark.parametrize("module", ["twisted_upload.sync", "twisted_upload.aio"])
def test_imports(module: str) -> None:
    """Neither module imports Twisted, nor what only one protocol needs."""
    code = f"""
import sys, {module}
assert not {{"httptools", "twisted_upload.client.raw"}} & {{*sys.modules}}
assert "ssl" not in sys.modules or "asyncio" in sys.modules  # which imports it itself
{NO_TWISTED}
"""
    run(code)


def test_raw_imports_no_http() -> None:
    """With Twisted, nothing of HTTP, and no driver, is imported for the raw protocol."""
    code = """
import sys, twisted_upload.client.upload
assert not [name for name in sys.modules if name.startswith("twisted_upload.client.http")]
unwanted = {"httptools", "twisted_upload.client.driver", "twisted_upload.client.raw"}
assert not unwanted & {*sys.modules}
assert "twisted.internet.reactor" not in sys.modules
"""
    run(code)
