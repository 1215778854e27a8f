"""
The process that starts the programs of ``--on-upload``.

Whoever starts a process gives it, for a moment, a copy of all that is open.  A
file that the daemon closes and publishes in that moment is closed for good only
after it is visible: who watches the folder would see IN_CLOSE_WRITE for it.  So
programs are started by a process that has nothing of the daemon's open; nor do
10,000 connections cost it anything.

It is a script, and knows only the standard library, so that it is small::

    spawner.py SOCKET TIME_LIMIT GRACE PROGRAM [ARGUMENT...]

What comes through the socket (SOCK_SEQPACKET) is ``stop``, or the environment of
one program, as JSON, with a socket for the answer and, where there is one, the
locked marker of its file.  The answer comes when it has ended, as JSON: ``end``
is ``exit 0``, ``signal 9``, ``late``, ``stopped``, or ``failed`` and why; ``said``
is the last of what it has printed, a character for each byte.

**What is started here ends, whoever dies.**

==========================  ================================================
what dies                   what becomes of its programs
==========================  ================================================
nothing                     each has its time limit, then SIGTERM, and SIGKILL
                            after the grace
the daemon                  its end of the socket is closed: SIGTERM now, and
                            SIGKILL after the grace; then this process goes
this process                each gets SIGKILL from the kernel
==========================  ================================================

**While a program runs, its file's marker is locked**: the program has the locked
descriptor too.  So no other daemon starts one for the same file meanwhile, even
where all of ours have been killed.

There is one thread, and nothing in it waits for anything but the next event: a
disk that does not give a program's code holds up that program alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import selectors
import signal
import socket
import sys
import termios
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

__all__ = ["LAST_SAID", "Spawner", "main"]

LAST_SAID = 4096
"""Bytes that are kept of what a program prints: the last ones."""

USUAL_DESCRIPTORS = 1024
"""The soft limit of open descriptors that programs expect: some use select(2), or
close all that could be open.  They can raise it themselves."""

MOST = 256 * 1024
"""Bytes of the environment of a program."""

MOST_LEFT = 128
"""Outputs of processes that programs have left running; beyond that the oldest is
closed."""

_LONGEST_WAIT = 3600.0  # seconds
_TICK = 1.0  # seconds between looks at the clock, while something has a time limit
_LATE = 1.0  # seconds, by which no look is late where the machine runs
_PIECE = 1024 * 1024
_PIECES = 4  # that are read of what a program printed before its end
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


class _Output:
    """
    The pipe that a program prints to: read as fast as it prints, and the last
    of it kept.  What comes before that is not even copied out of the kernel.
    """

    def __init__(self, descriptor: int, null: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self._null = null
        self._said = b""

    @property
    def said(self) -> str:
        """The last of it, a character for each byte."""
        return self._said.decode("latin-1")

    def read(self) -> bool:
        """Read what is there; whether there can be more."""
        try:
            self._skip()
            piece = os.read(self.descriptor, LAST_SAID)
        except BlockingIOError:
            return True
        self._said = (self._said + piece)[-LAST_SAID:]
        return bool(piece)

    def _skip(self) -> None:
        """Read over what more than the last bytes comes before."""
        number = fcntl.ioctl(self.descriptor, termios.FIONREAD, bytes(4))
        surplus = int.from_bytes(number, sys.byteorder) - LAST_SAID
        if surplus > 0:
            try:
                os.splice(self.descriptor, self._null, surplus)
            except OSError:  # a sandbox that forbids it
                os.read(self.descriptor, surplus)


class _Run:
    """
    One program that runs.

    :ivar watch: its pidfd.
    :ivar failed: a pipe that tells why it could not be started.
    :ivar held: the locked marker of its file.
    :ivar due: when it is to be told to end, or killed: seconds of `time.monotonic`.
    :ivar ending: why it was told to end, if it was.
    :ivar family: what it had started by then.
    """

    def __init__(self, pid: int, watch: int, failed: int, output: _Output) -> None:
        self.pid = pid
        self.watch = watch
        self.failed = failed
        self.output = output
        self.answer: socket.socket | None = None
        self.held: int | None = None
        self.due: float | None = None
        self.ending = ""
        self.family: dict[int, str] = {}

    def tell(self, number: int) -> None:
        """Send a signal to it, and to what it has started, wherever that went."""
        self.family = _alive(self.family) | _family(self.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
        for pid in self.family:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


class Spawner:
    """
    Starts one program, again and again.

    :param arguments: the program and its arguments; no shell sees them.
    :param time_limit: seconds after which it is told to end; 0 for never.
    :param grace: seconds between SIGTERM and SIGKILL.
    """

    def __init__(self, arguments: Sequence[str], time_limit: float, grace: float) -> None:
        self._arguments = list(arguments)
        self._time_limit = time_limit
        self._grace = grace
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._runs: set[_Run] = set()
        self._left: deque[_Output] = deque()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)

    @property
    def running(self) -> bool:
        """Whether a program runs."""
        return bool(self._runs)

    def watch(self, connection: socket.socket, look: Callable[[], None]) -> None:
        """Call a function whenever there is something to be received."""
        self._selector.register(connection, selectors.EVENT_READ, look)

    def forget(self, connection: socket.socket) -> None:
        """No more."""
        self._selector.unregister(connection)

    def start(self, request: bytes, answer: socket.socket, held: int | None = None) -> None:
        """
        Start it, and tell its end when that comes.

        It runs in ``/``, in a session of its own; what it prints is read, and
        the last of it is told.

        :param request: its environment, as JSON.
        :param answer: see above; closed in the end.
        :param held: the locked marker of its file; closed too.
        """
        if self._stopping:
            self._answer(answer, held, "stopped")
            return
        due = time.monotonic() + self._time_limit if self._time_limit else None
        try:
            run = self._spawn(json.loads(request), held)
        except (OSError, ValueError) as error:  # or not all of it has come
            why = getattr(error, "strerror", None) or error
            self._answer(answer, held, f"failed cannot be started: {why}")
            return
        run.answer, run.held, run.due = answer, held, due
        self._runs.add(run)
        self._selector.register(run.watch, selectors.EVENT_READ, lambda: self._ended(run))
        self._selector.register(
            run.output.descriptor, selectors.EVENT_READ, lambda: self._printed(run)
        )

    def stop(self) -> None:
        """End whatever runs, now, and start nothing any more."""
        self._stopping = True
        for run in self._runs:
            if not run.ending:
                self._end(run, "stopped")

    def work(self) -> None:
        """Wait until something happens, or is due, and see to it."""
        seconds, began = self._until_due(), time.monotonic()
        events = self._selector.select(seconds)
        self._make_up_for(time.monotonic() - began - seconds)
        for key, _ in events:
            # What comes first may have closed what comes after it.
            if self._selector.get_map().get(key.fd) is key:
                key.data()
        now = time.monotonic()
        for run in [*self._runs]:
            if run.due is not None and run.due <= now:
                if run.ending:
                    run.due = None
                    run.tell(signal.SIGKILL)
                else:
                    self._end(run, "late")

    def _make_up_for(self, seconds: float) -> None:
        """If we have stood still for so long, so have programs, and it does not count."""
        if seconds > _LATE:
            for run in self._runs:
                if run.due is not None:
                    run.due += seconds

    def _until_due(self) -> float:
        due = min((run.due for run in self._runs if run.due is not None), default=None)
        if due is None:
            return _LONGEST_WAIT
        return max(0.0, min(due - time.monotonic(), _TICK))

    def _spawn(self, variables: Mapping[str, str], held: int | None) -> _Run:
        with contextlib.ExitStack() as undo:
            output, printed = _pipe(undo)
            failed, telling = _pipe(undo)
            parent = os.getpid()
            pid = os.fork()
            if not pid:
                _die_with(parent)
                streams = self._null, printed, printed
                _become(self._arguments, variables, streams, telling, held)
            try:
                watch = os.pidfd_open(pid)
            except OSError as error:  # what cannot be watched is not left running
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise OSError(error.errno, f"it cannot be watched: {error.strerror}") from None
            undo.pop_all()
        os.close(printed)
        os.close(telling)
        return _Run(pid, watch, failed, _Output(output, self._null))

    def _end(self, run: _Run, why: str) -> None:
        run.ending, run.due = why, time.monotonic() + self._grace
        run.tell(signal.SIGTERM)

    def _printed(self, run: _Run) -> None:
        if not run.output.read():
            self._selector.unregister(run.output.descriptor)

    def _ended(self, run: _Run) -> None:
        self._runs.discard(run)
        self._selector.unregister(run.watch)
        # It is not reaped yet, so that its number, and that of its process
        # group, are still its own.
        if run.ending:
            run.tell(signal.SIGKILL)  # what it has started, where that did not listen
        _, status = os.waitpid(run.pid, 0)
        why = os.read(run.failed, _PIECE).decode("utf-8", "replace")
        code = os.waitstatus_to_exitcode(status)
        end = run.ending or (f"exit {code}" if code >= 0 else f"signal {-code}")
        if why and not run.ending:
            end = f"failed cannot be started: {why}"
        os.close(run.watch)
        os.close(run.failed)
        self._leave(run.output)
        assert run.answer is not None
        self._answer(run.answer, run.held, end, run.output.said)

    def _answer(self, answer: socket.socket, held: int | None, end: str, said: str = "") -> None:
        if held is not None:
            # For all who have it, so that what a program leaves running does
            # not keep its file from being tried again.
            with contextlib.suppress(OSError):
                fcntl.flock(held, fcntl.LOCK_UN)
            os.close(held)
        with answer, contextlib.suppress(OSError):  # nobody may want to know any more
            answer.sendall(json.dumps({"end": end, "said": said}).encode())

    def _leave(self, output: _Output) -> None:
        """Read the last that was printed, and what a process prints that is left running."""
        registered = output.descriptor in self._selector.get_map()
        more = registered
        for _ in range(_PIECES):
            more = more and output.read()
        if registered:
            self._selector.unregister(output.descriptor)
        if not more:
            os.close(output.descriptor)
            return
        self._left.append(output)
        self._selector.register(
            output.descriptor, selectors.EVENT_READ, lambda: self._printed_later(output)
        )
        if len(self._left) > MOST_LEFT:
            self._drop(self._left[0])

    def _printed_later(self, output: _Output) -> None:
        if not output.read():
            self._drop(output)

    def _drop(self, output: _Output) -> None:
        self._left.remove(output)
        self._selector.unregister(output.descriptor)
        os.close(output.descriptor)


def main() -> None:
    """Start programs as long as there is somebody who wants that."""
    number, time_limit, grace, *arguments = sys.argv[1:]
    starter = Spawner(arguments, float(time_limit), float(grace))
    _be_usual()
    daemon = socket.socket(fileno=int(number))
    daemon.set_inheritable(False)
    gone = False

    def look() -> None:
        nonlocal gone
        message, descriptors, _, _ = socket.recv_fds(daemon, MOST, 2)
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        if message == b"stop":
            starter.stop()
        elif descriptors:
            answer = socket.socket(fileno=descriptors[0])
            answer.setblocking(False)
            starter.start(message, answer, descriptors[1] if len(descriptors) > 1 else None)
        elif not message:
            gone = True
            starter.forget(daemon)
            starter.stop()
        # Or there was no descriptor left for the answer: its other end hears that.

    starter.watch(daemon, look)
    while starter.running or not gone:
        starter.work()


def _become(
    arguments: list[str],
    variables: Mapping[str, str],
    streams: tuple[int, int, int],
    telling: int,
    held: int | None,
) -> NoReturn:
    """In the new process: become the program, or tell why not."""
    try:
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(name, signal.SIG_DFL)
        os.setsid()
        for standard, descriptor in enumerate(streams):
            os.dup2(descriptor, standard)
        if held is not None:
            os.set_inheritable(held, True)  # beside these four it gets none
        os.chdir("/")
        os.execvpe(arguments[0], arguments, variables)
    except BaseException as error:
        why = getattr(error, "strerror", None) or str(error)
        os.write(telling, why.encode("utf-8", "replace"))
    finally:
        os._exit(127)


def _die_with(parent: int) -> None:
    """Whoever kills the parent kills us: a program is never left with nobody to end it."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _pipe(undo: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        undo.callback(os.close, end)
    return ends


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


# What a program has started


def _family(root: int) -> dict[int, str]:
    """
    The processes of a program's session, and those that it has started, in
    whatever session; each with the moment of its start, by which it is known
    again.
    """
    children: dict[int, list[int]] = {}
    started, found = {}, set()
    for name in os.listdir("/proc"):
        if name.isdigit() and (facts := _process(int(name))) is not None:
            parent, session, moment = facts
            started[int(name)] = moment
            children.setdefault(parent, []).append(int(name))
            if session == root:
                found.add(int(name))
    left = [root, *found]
    while left:
        for child in children.get(left.pop(), ()):
            if child not in found:
                found.add(child)
                left.append(child)
    return {pid: started[pid] for pid in found if pid != root}


def _alive(family: Mapping[int, str]) -> dict[int, str]:
    """Those that are still there."""
    return {
        pid: moment
        for pid, moment in family.items()
        if (facts := _process(pid)) is not None and facts[2] == moment
    }


def _process(pid: int) -> tuple[int, int, str] | None:
    """Its parent, its session, and the moment of its start; see proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), int(fields[3]), fields[19]


if __name__ == "__main__":
    main()
