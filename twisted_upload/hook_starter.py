"""
The process that starts the programs of ``--on-upload``.

Whoever starts a process gives it, for a moment, a copy of all that is open.  A
file that the daemon closes and publishes in that moment is closed for good only
after it is visible: who watches the folder would see IN_CLOSE_WRITE for it.  So
programs are started by a process that has nothing of the daemon's open; nor do
10,000 connections cost it anything.

It is a script, and knows only the standard library, so that it is small::

    hook_starter.py SOCKET TIME_LIMIT GRACE PROGRAM [ARGUMENT...]

What comes through the socket (SOCK_SEQPACKET) is ``stop``, or the environment of
one program, as JSON, with a socket on which its end is told: ``exit 0``,
``signal 9``, ``late``, ``stopped``, or ``failed`` and why.  When the other end is
closed, the daemon is gone, and this process goes too; programs go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

__all__ = ["Starter", "main"]

USUAL_DESCRIPTORS = 1024
"""The soft limit of open descriptors that programs expect: some use select(2), or
close all that could be open.  They can raise it themselves."""

MOST = 256 * 1024
"""Bytes of the environment of a program."""

_LONGEST_POLL = 2**31 - 1  # milliseconds


class Starter:
    """
    Starts one program, again and again.

    :param arguments: the program and its arguments; no shell sees them.
    :param time_limit: seconds after which it is killed; 0 for never.
    :param grace: seconds between SIGTERM and SIGKILL.
    """

    def __init__(self, arguments: Sequence[str], time_limit: float, grace: float) -> None:
        self._arguments = list(arguments)
        self._time_limit = time_limit
        self._grace = grace
        self._stopping, stop = os.pipe()
        self._stop: int | None = stop

    def run(self, variables: Mapping[str, str]) -> str:
        """
        Start it, and wait for its end.  In a thread that has nothing else to do.

        It runs in ``/``, in a session of its own, with its standard streams at
        ``/dev/null``: what it prints costs nothing, and what it leaves running
        holds nobody up.

        :param variables: its environment.
        :return: how it ended.
        """
        try:
            process = subprocess.Popen(
                self._arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=variables,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            return f"failed cannot be started: {getattr(error, 'strerror', None) or error}"
        try:
            end = self._wait(process.pid)
        except OSError as error:  # no descriptor left, for one
            _signal_group(process.pid, signal.SIGKILL)
            end = f"failed cannot be watched: {error.strerror}"
        status = process.wait()
        if end:
            return end
        return f"exit {status}" if status >= 0 else f"signal {-status}"

    def stop(self) -> None:
        """End whatever runs, now, and whatever is still started."""
        stop, self._stop = self._stop, None
        if stop is not None:
            os.close(stop)  # which everybody who waits notices

    def close(self) -> None:
        """Stop, once nothing runs."""
        self.stop()
        os.close(self._stopping)

    def _wait(self, pid: int) -> str:
        """
        Wait for its end, and bring it about in the end.  It is not reaped, so that
        its number, and that of its process group, are still its own.

        :return: why it had to be ended, if it had.
        """
        limit = min(self._time_limit * 1000, _LONGEST_POLL) if self._time_limit else None
        descriptor = os.pidfd_open(pid)
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            poll.register(self._stopping, select.POLLIN)
            said = dict(poll.poll(limit))
            if descriptor in said:
                return ""
            _signal_group(pid, signal.SIGTERM)
            poll.unregister(self._stopping)
            poll.poll(self._grace * 1000)
            # And what it has started, where that did not listen.
            _signal_group(pid, signal.SIGKILL)
        finally:
            os.close(descriptor)
        return "stopped" if said else "late"


def main() -> None:
    """Start programs as long as there is somebody who wants that."""
    number, time_limit, grace, *arguments = sys.argv[1:]
    starter = Starter(arguments, float(time_limit), float(grace))
    _be_usual()
    with socket.socket(fileno=int(number)) as daemon:
        while True:
            message, descriptors, _, _ = socket.recv_fds(daemon, MOST, 1, socket.MSG_CMSG_CLOEXEC)
            if message == b"stop":
                starter.stop()
            elif message and descriptors:
                answer = socket.socket(fileno=descriptors[0])
                thread = threading.Thread(target=_serve, args=(starter, message, answer))
                thread.daemon = True
                thread.start()
            else:
                os._exit(0)


def _serve(starter: Starter, message: bytes, answer: socket.socket) -> None:
    with answer:
        end = starter.run(json.loads(message))
        with contextlib.suppress(OSError):
            answer.sendall(end.encode("utf-8", "replace"))


def _be_usual() -> None:
    """
    What programs inherit is what they expect, and what is sent to all processes
    of a service does not end this one: it goes when the daemon has gone.
    """
    for name in signal.valid_signals():
        if signal.getsignal(name) == signal.SIG_IGN and name != signal.SIGPIPE:
            signal.signal(name, signal.SIG_DFL)
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, lambda *_: None)  # a handler; ignoring would be inherited
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > USUAL_DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_DESCRIPTORS, hard))


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


if __name__ == "__main__":
    main()
