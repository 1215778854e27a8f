"""
The ``--on-upload`` program, as the daemon sees it.

A small helper process (`twisted_upload.hooks.hook_spawner`) starts it without a shell and
with few environment variables.  The reactor's ``spawnProcess`` is not used: it
examines every open file descriptor, and forks if a working directory is given, both
in the reactor's thread.  With 10,000 open connections, that blocked all of them for
40 ms.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twisted_upload.core.text import format_duration, printable
from twisted_upload.errors import CannotStart
from twisted_upload.hooks import hook_spawner
from twisted_upload.hooks.orphans import kill_orphans

__all__ = ["GRACE", "HookCommand", "HookEnd"]

GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""

INHERITED = ("HOME", "LANG", "LANGUAGE", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER")
"""Variables that a program inherits from the daemon, besides ``LC_...``."""

_CLOSE_TIMEOUT = 1.0  # seconds
_SEND_TIMEOUT = 10  # whole seconds; for a spawner that does not read


@dataclass(frozen=True, slots=True)
class HookEnd:
    """
    How a program ended.

    :ivar what: the result in words: ``exit status 0``.
    :ivar succeeded: whether that is a success.
    :ivar seconds: how long it took.
    :ivar said: the end of its output, escaped, on one line.
    :ivar ran: whether it was started, or a start was attempted.
    :ivar counts: whether a failure uses up an attempt: not if an error of the system kept
        the program from running.
    :ivar concerns_all: whether a failure would be the same for every file, for example
        because an object store is away.
    """

    what: str
    succeeded: bool
    seconds: float
    said: str = ""
    ran: bool = True
    counts: bool = True
    concerns_all: bool = False


class HookCommand:
    """
    Runs the program with its arguments.

    :param arguments: the program and its arguments.  The program is an absolute path,
        or a name to look up on the ``PATH``.
    :param time_limit: seconds after which the program is ended; 0 for no limit.
    :param environment: the daemon's environment.
    :param grace: seconds between SIGTERM and SIGKILL.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        time_limit: float,
        environment: Mapping[str, str],
        grace: float = GRACE,
    ) -> None:
        self._arguments = list(arguments)
        self._time_limit = time_limit
        self._grace = grace
        self._environment = {
            name: value
            for name, value in environment.items()
            if name in INHERITED or name.startswith("LC_")
        }
        self._lock = threading.Lock()
        self._starter: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._stopped = False

    def check(self) -> None:
        """
        Check whether the program can be started, as far as this can be known.

        :raises CannotStart: it cannot.
        """
        name = self._arguments[0]
        path = self._environment.get("PATH", os.defpath)
        found = shutil.which(name, path=path)
        if found is None or not os.access(found, os.X_OK, effective_ids=True):
            why = "is not an executable program" if "/" in name else f"was not found on {path}"
            raise CannotStart(f"--on-upload: {name} {why}")
        if not hasattr(os, "pidfd_open"):
            raise CannotStart("--on-upload: needs Linux 5.3 or newer")
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError as error:
            raise CannotStart(
                f"--on-upload: needs pidfd_open(2) (Linux 5.3 or newer): {error.strerror}"
            ) from error

    def start(self) -> None:
        """
        Start the spawner, before any file is open.

        :raises CannotStart: for example, no process can be started.
        """
        try:
            self._connection()
        except OSError as error:
            raise CannotStart(f"--on-upload: cannot start a process: {error.strerror}") from error

    def run(self, variables: Mapping[str, str], held: int | None = None) -> HookEnd:
        """
        Start the program and wait until it ends.  Call it in a thread that has nothing
        else to do.

        A program that hangs in the kernel, on a dead disk, does not end even when it is
        killed.  It is waited for all the same, so that no more programs run at a time
        than are allowed.

        :param variables: environment variables, besides those of the daemon.
        :param held: descriptor of the file's locked marker.  The marker stays locked
            until the program ends, even if the daemon ends first.
        """
        began = time.monotonic()
        try:
            request = json.dumps({**self._environment, **variables}).encode()
            end, said = self._ask(request, held)
            kind, _, detail = end.partition(" ")
        except OSError as error:
            kind, detail, said = "failed", f"cannot be started: {error.strerror or error}", ""
        words = {
            "exit": f"exit status {detail}",
            "signal": f"killed by signal {detail}",
            "late": f"took longer than {format_duration(self._time_limit)}",
            "stopped": "stopped with the daemon",
            "": "the process that starts programs has died",
        }
        succeeded = (kind, detail) == ("exit", "0")
        what = words.get(kind, detail)
        seconds = time.monotonic() - began
        return HookEnd(what, succeeded, seconds, said, counts=kind != "failed")

    def end_orphans(self, held: int, folder: int) -> None:
        """
        End programs of dead daemons that still hold the lock of a marker.

        :param held: descriptor of the marker.
        :param folder: descriptor of its folder.
        """
        kill_orphans(held, folder)

    def stop(self) -> None:
        """End all running programs now, and any that is still started."""
        self._stopped = True
        self._send_stop()

    def close(self) -> None:
        """Disconnect from the spawner, which exits when no program runs any more."""
        self._stopped = True
        # A thread holds the lock for long only if no process can be started.
        if not self._lock.acquire(timeout=_CLOSE_TIMEOUT):
            return
        try:
            if self._control is not None:
                self._control.close()
                self._control = None
            if self._starter is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._starter.wait(_CLOSE_TIMEOUT)
                self._starter = None
        finally:
            self._lock.release()

    def _send_stop(self) -> None:
        control = self._control
        if control is not None:
            with contextlib.suppress(OSError):
                control.send(b"stop", socket.MSG_DONTWAIT)

    def _ask(self, request: bytes, held: int | None) -> tuple[str, str]:
        """
        Have the spawner start the program, and wait until it ends.

        :return: how it ended, empty if that is unknown; and the end of its output.
        """
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                descriptors = [theirs.fileno()] if held is None else [theirs.fileno(), held]
                control = self._connection()
                try:
                    socket.send_fds(control, [request], descriptors)
                except (BrokenPipeError, ConnectionResetError):
                    # The spawner has died, although poll() may not show it yet.
                    control = self._connection(broken=control)
                    socket.send_fds(control, [request], descriptors)
            answer = b""
            while piece := ours.recv(65536):
                answer += piece
        if not answer:
            return "", ""
        facts = json.loads(answer)
        said = facts["said"].encode("latin-1").decode("utf-8", "surrogateescape")
        return facts["end"], printable(said.strip())

    def _connection(self, broken: socket.socket | None = None) -> socket.socket:
        """Return the connection to the spawner; start a spawner if none runs."""
        with self._lock:
            alive = self._starter is not None and self._starter.poll() is None
            if alive and broken is not None and self._control is broken:
                assert self._starter is not None
                self._starter.kill()
                self._starter.wait()
                alive = False
            if self._control is not None and (alive or self._stopped):
                return self._control
            if self._stopped:
                raise BrokenPipeError("the daemon is stopping")
            if self._control is not None:
                self._control.close()
                self._control = None
            control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            timeout = struct.pack("ll", _SEND_TIMEOUT, 0)
            control.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
            with theirs:
                try:
                    self._starter = self._start(theirs)
                except BaseException:
                    control.close()
                    raise
            self._control = control
            if self._stopped:  # in the meantime
                self._send_stop()
            return control

    def _start(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        script = hook_spawner.__file__
        numbers = map(str, (theirs.fileno(), self._time_limit, self._grace))
        return subprocess.Popen(
            [sys.executable, "-I", "-S", script, *numbers, *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is for the daemon
        )
