"""
What the simulated kernel replaces is asked for in a few places only: the rest of the code
asks the `Files`, the reactor and the threads that it is given.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

import twisted_upload
from tests.simulation.filesystem.files import SimulatedFiles
from twisted_upload.disk.file_calls import FileCalls
from twisted_upload.disk.files import Files

PACKAGE = Path(twisted_upload.__file__).parent

ROOMS = ("client", "core", "disk", "frontends", "hooks", "observability", "stores")
"""The rooms that run in a simulated kernel."""

NOT_SIMULATED = (
    *("hooks.command", "hooks.hook_spawner", "hooks.orphans"),  # real programs
    *("stores.s3.access", "stores.s3.attempts", "stores.s3.http_sender", "stores.s3.s3_bucket"),
    *("observability.journal_filter", "observability.journal_reader"),
    *("observability.log", "observability.log_file", "observability.log_writer"),
    "observability.symlinks",  # asked for the path of the journal once, at its start
)
"""Modules in them that are below what is replaced, or that no simulated daemon uses."""

SEAMS = {
    *("client.files", "client.sockets", "client.system"),
    *("disk.file_calls", "disk.files", "disk.aio"),  # the system calls themselves
    "disk.timed_files",  # the real ones, measured
    "disk.threads",  # the real threads
    "disk.testing",  # test doubles for the disk
}

OS = {"PathLike", "fspath", "path", "stat_result", "strerror"}
PATHS = {"basename", "commonpath", "dirname", "isabs", "join", "samestat", "splitext"}
"""What of `os` and `os.path`, besides constants, asks no kernel."""

FORBIDDEN = {
    *("fcntl", "io", "pathlib", "random", "secrets", "select", "shutil", "subprocess"),
    *("tempfile", "threading", "time", "uuid", "datetime"),
}
"""Modules of the standard library that ask the kernel."""

EXCEPTIONS = {
    ("client.connecting", "socket.socket"): "a type",
    ("client.streams", "socket.socket"): "a type",
    ("client.tls_stream", "socket.socket"): "a type",
    ("client.content", "io.BytesIO"): "memory",
    ("client.content", "io.RawIOBase"): "a file object on top of the calls",
    ("client.content", "io.TextIOBase"): "a type",
    ("client.content", "os"): "constants that only some systems have",
    ("client.driver", "os.name"): "a constant",
    ("client.resume_state", "os"): "constants that only some systems have",
    ("client.resume_state", "os.environ"): "where the state is, unless that is told",
    ("client.resume_state", "os.path.expanduser"): "the same",
    ("client.sized", "io.RawIOBase"): "a type",
    ("client.source", "io.BytesIO"): "memory",
    ("client.tar_stream", "os"): "constants that only some systems have",
    ("client.watch.after", "os.path.abspath"): "the working folder",
    ("client.watch.events", "os.fsdecode"): "only computes",
    ("client.watch.record", "io.BufferedReader"): "a buffer on top of the calls",
    ("client.watch.record", "os"): "constants that only some systems have",
    ("client.watch.resumption", "os.path.abspath"): "the working folder",
    ("client.watch.status", "os.path.abspath"): "the working folder",
    ("core.outcome", "time.time"): "for front ends that are told nothing else; a daemon is",
    ("disk.folders", "os.path.abspath"): "the working folder; in a daemon, paths are absolute",
    ("disk.secret_files", "os.path.realpath"): "only commands change such a file, never a daemon",
    ("stores.memory", "secrets.token_bytes"): "a default; no daemon has this store",
    ("stores.directory.space_budget", "threading.Lock"): "held for work in memory alone",
    ("stores.places", "threading.Lock"): "the same",
    ("stores.s3.pending", "threading.Lock"): "the same",
    ("observability.counters", "threading.Lock"): "the same",
    ("observability.object_counts", "threading.Lock"): "the same",
    ("observability.journal_files", "os.path.abspath"): "the working folder; as for disk.folders",
    ("observability.journal_files", "os.path.realpath"): "no simulated path has symbolic links",
    ("observability.records", "time"): "the name of an argument, too",
    ("observability.records", "time.gmtime"): "only computes",
    ("observability.records", "time.strftime"): "only computes",
    ("stores.s3.about", "datetime.UTC"): "only computes",
    ("stores.s3.about", "datetime.datetime.fromtimestamp"): "only computes, in UTC",
    ("stores.s3.content", "io.RawIOBase"): "a body of a request; it opens nothing",
    ("stores.s3.content", "io.SEEK_CUR"): "a constant",
    ("stores.s3.content", "io.SEEK_END"): "a constant",
    ("stores.s3.content", "io.SEEK_SET"): "a constant",
}


COMPOSED = {"give_up"}
"""Calls of `Files` that only make others, which are simulated."""

OF_SOCKETS = {"has_more", "wake_for"}
"""Calls of `Files` for a socket that is spliced, which have no simulated form yet."""


def _modules() -> dict[str, ast.Module]:
    found = {}
    for room in ROOMS:
        for path in PACKAGE.joinpath(room).rglob("*.py"):
            name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
            if name not in SEAMS and name not in NOT_SIMULATED:
                found[name] = ast.parse(path.read_text("utf-8"), str(path))
    assert len(found) > 80
    return found


def _used(tree: ast.AST) -> Iterator[str]:
    """Every use of what a module has imported, as ``os.path.join``; and ``open``."""
    modules, names = {}, {"open": "open"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules.update({alias.asname or alias.name: alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom):
            names.update({it.asname or it.name: f"{node.module}.{it.name}" for it in node.names})
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if id(node) in inner:
            continue  # a part of a longer name
        text = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
        if "(" in text or "[" in text:
            continue  # it begins with a call, which is found by itself
        first, _, rest = text.partition(".")
        if first in modules or first in names:
            yield f"{modules.get(first) or names[first]}{rest and '.'}{rest}"


def _asks_the_kernel(name: str) -> bool:
    room, _, rest = name.partition(".")
    if room == "os":
        inside, _, function = rest.partition(".")
        if inside == "path" and function:
            return function not in PATHS
        return inside not in OS and not inside.isupper()
    return name == "open" or room in FORBIDDEN or name == "socket.socket"


def test_no_system_calls() -> None:
    """No module but the seams asks the real kernel, with the exceptions that have a reason."""
    asked = {
        (module, name)
        for module, tree in _modules().items()
        for name in _used(tree)
        if _asks_the_kernel(name)
    }
    assert asked == {*EXCEPTIONS}


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("import os\nos.close(1)", "os.close"),
        ("import os\nend = register(os.unlink, 1)", "os.unlink"),
        ("from os import path as p\np.exists('x')", "os.path.exists"),
        ("import os\nos.path.realpath('x')", "os.path.realpath"),
        ("import time as t\ndef f(now=t.time): pass", "time.time"),
        ("from secrets import token_hex\ntoken_hex(4)", "secrets.token_hex"),
        ("import socket\nsocket.socket()", "socket.socket"),
        ("def f():\n    import fcntl\n    fcntl.flock(1, 2)", "fcntl.flock"),
        ("open('x')", "open"),
        ("import os\nos.stat('x').st_size", "os.stat"),
    ],
)
def test_finds_them(code: str, name: str) -> None:
    """A use is found, however it is written, and whether it is a call or not."""
    assert name in {found for found in _used(ast.parse(code)) if _asks_the_kernel(found)}


@pytest.mark.parametrize(
    "code",
    [
        "import os\nflags = os.O_RDONLY | os.SEEK_SET",
        "import os\nos.path.join('a', 'b')",
        "import socket\nsocket.SOL_SOCKET",
        "files.open('x', 0)",
        "import os\nos.path.basename('x').encode()",
    ],
)
def test_allows_the_rest(code: str) -> None:
    """What asks no kernel is allowed, and so is what asks the kernel that was handed in."""
    assert not [found for found in _used(ast.parse(code)) if _asks_the_kernel(found)]


def test_every_call_is_simulated() -> None:
    """The simulated kernel has every system call: none of a simulated process is a real one."""
    for name, call in inspect.getmembers(Files, inspect.isfunction):
        if not name.startswith("_") and name not in OF_SOCKETS | COMPOSED:
            simulated = inspect.unwrap(getattr(SimulatedFiles, name))
            assert simulated.__module__.startswith("tests.simulation."), name
            assert inspect.signature(simulated) == inspect.signature(inspect.unwrap(call)), name
    assert issubclass(SimulatedFiles, FileCalls)
