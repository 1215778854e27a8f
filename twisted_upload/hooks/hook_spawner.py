"""
The spawner: the process that starts the ``--on-upload`` programs.

A new process briefly holds a copy of every open file descriptor of its parent.  A file
that the daemon closes and publishes in that moment would be closed for the last time
only after it is visible: a process that watches the folder would see IN_CLOSE_WRITE for
it.  Programs are therefore started by a process that has none of the daemon's descriptors
open.  Starting one also costs no more if the daemon has 10,000 connections.

It is a script that imports only the standard library, to stay small::

    hook_spawner.py SOCKET TIME_LIMIT GRACE PROGRAM [ARGUMENT...]

A message on the socket (SOCK_SEQPACKET) is either ``stop``, or the environment of one
program as JSON, together with a socket for the answer and, if there is one, the locked
marker of the file.  The answer is sent when the program has ended, as JSON: ``end`` is
``exit 0``, ``signal 9``, ``late``, ``stopped``, or ``failed`` and the reason; ``said``
is the end of the program's output, one character for each byte.

**Every program started here ends, whichever process dies.**

==========================  ================================================
what dies                   what happens to the programs
==========================  ================================================
nothing                     after its time limit, each gets SIGTERM, and
                            SIGKILL after the grace period
the daemon                  its end of the socket is closed: SIGTERM now, and
                            SIGKILL after the grace period; then this process
                            exits
this process                each gets SIGKILL from the kernel
==========================  ================================================

**While a program runs, its file's marker is locked**: the program has the locked
descriptor too.  Meanwhile, no other daemon starts a program for the same file, even if
this daemon and this process have been killed.

There is one thread, and it waits for nothing but the next event: if the disk does not
deliver a program's code, only that program is delayed.
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
"""Bytes of a program's output that are kept: the last ones."""

USUAL_DESCRIPTORS = 1024
"""The soft limit on open file descriptors that programs expect: some use select(2), or
close every descriptor that could be open.  They can raise it themselves."""

MOST = 256 * 1024
"""Maximum size of a program's environment, in bytes."""

MOST_LEFT = 128
"""Maximum number of open outputs of processes that programs have left running; beyond
it, the oldest is closed."""

_LONGEST_WAIT = 3600.0  # seconds
_TICK = 1.0  # seconds between checks of the clock, while a program has a time limit
_STALL = 1.0  # seconds; no check is later than this unless the machine was stalled
_PIECE = 1024 * 1024
_PIECES = 4  # number of reads of what a program printed before its end
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None)


class _Output:
    """
    The pipe that receives a program's output.

    It is read as fast as the program prints, and only the end is kept.  The rest is not
    even copied out of the kernel.
    """

    def __init__(self, descriptor: int, null: int) -> None:
        os.set_blocking(descriptor, False)
        self.descriptor = descriptor
        self._null = null
        self._said = b""

    @property
    def said(self) -> str:
        """The end of the output, one character for each byte."""
        return self._said.decode("latin-1")

    def read(self) -> bool:
        """Read the available output; return whether more can follow."""
        try:
            self._skip()
            piece = os.read(self.descriptor, LAST_SAID)
        except BlockingIOError:
            return True
        self._said = (self._said + piece)[-LAST_SAID:]
        return bool(piece)

    def _skip(self) -> None:
        """Discard everything but the last bytes."""
        number = fcntl.ioctl(self.descriptor, termios.FIONREAD, bytes(4))
        surplus = int.from_bytes(number, sys.byteorder) - LAST_SAID
        if surplus > 0:
            try:
                os.splice(self.descriptor, self._null, surplus)
            except OSError:  # a sandbox may forbid splice
                os.read(self.descriptor, surplus)


class _Run:
    """
    A running program.

    :ivar watch: its pidfd.
    :ivar failed: a pipe that carries the reason if it could not be started.
    :ivar held: descriptor of its file's locked marker.
    :ivar due: when it is to be terminated or killed, in seconds of `time.monotonic`.
    :ivar ending: why it was terminated, if it was.
    :ivar family: the processes that it had started by then.
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
        """Send a signal to it and to its descendants, in whatever session they are."""
        self.family = _alive(self.family) | _family(self.pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
        for pid in self.family:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


class Spawner:
    """
    Starts one program, any number of times.

    :param arguments: the program and its arguments; no shell is involved.
    :param time_limit: seconds after which it is terminated; 0 for no limit.
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
        """Whether a program is running."""
        return bool(self._runs)

    def watch(self, connection: socket.socket, look: Callable[[], None]) -> None:
        """Call a function whenever data can be received."""
        self._selector.register(connection, selectors.EVENT_READ, look)

    def forget(self, connection: socket.socket) -> None:
        """Stop watching a connection."""
        self._selector.unregister(connection)

    def start(self, request: bytes, answer: socket.socket, held: int | None = None) -> None:
        """
        Start the program, and send the answer when it ends.

        It runs in ``/``, in a new session.  Its output is read, and the end of it is
        part of the answer.

        :param request: its environment, as JSON.
        :param answer: the socket for the answer; closed in the end.
        :param held: descriptor of its file's locked marker; closed too.
        """
        if self._stopping:
            self._answer(answer, held, "stopped")
            return
        due = time.monotonic() + self._time_limit if self._time_limit else None
        try:
            run = self._spawn(json.loads(request), held)
        except (OSError, ValueError) as error:  # ValueError: the request is incomplete
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
        """Terminate all running programs now, and start no more."""
        self._stopping = True
        for run in self._runs:
            if not run.ending:
                self._end(run, "stopped")

    def work(self) -> None:
        """Wait for the next event or deadline, and handle it."""
        seconds, began = self._until_due(), time.monotonic()
        events = self._selector.select(seconds)
        self._extend_time_limits(time.monotonic() - began - seconds)
        for key, _ in events:
            # An earlier event may have closed a later one's descriptor.
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

    def _extend_time_limits(self, seconds: float) -> None:
        """Extend the time limits after a stall of this length: the programs stalled too."""
        if seconds > _STALL:
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
            failed, report = _pipe(undo)
            parent = os.getpid()
            pid = os.fork()
            if not pid:
                _die_with(parent)
                streams = self._null, printed, printed
                _execute(self._arguments, variables, streams, report, held)
            try:
                watch = os.pidfd_open(pid)
            except OSError as error:  # do not leave a process running that cannot be watched
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise OSError(error.errno, f"it cannot be watched: {error.strerror}") from None
            undo.pop_all()
        os.close(printed)
        os.close(report)
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
        # It is not reaped yet, so its pid and its process group's id have not been reused.
        if run.ending:
            run.tell(signal.SIGKILL)  # for descendants that ignored SIGTERM
        _, status = os.waitpid(run.pid, 0)
        why = os.read(run.failed, _PIECE).decode("utf-8", "replace")
        code = os.waitstatus_to_exitcode(status)
        end = run.ending or (f"exit {code}" if code >= 0 else f"signal {-code}")
        if why and not run.ending:
            end = f"failed cannot be started: {why}"
        os.close(run.watch)
        os.close(run.failed)
        self._finish_output(run.output)
        assert run.answer is not None
        self._answer(run.answer, run.held, end, run.output.said)

    def _answer(self, answer: socket.socket, held: int | None, end: str, said: str = "") -> None:
        if held is not None:
            # This unlocks it for every process that has it open, so that processes left
            # running by a program do not prevent a retry for its file.
            with contextlib.suppress(OSError):
                fcntl.flock(held, fcntl.LOCK_UN)
            os.close(held)
        with answer, contextlib.suppress(OSError):  # the daemon may have closed its end
            answer.sendall(json.dumps({"end": end, "said": said}).encode())

    def _finish_output(self, output: _Output) -> None:
        """Read the rest of the output, and go on reading if processes are left running."""
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
    """Start programs until the daemon has gone and no program is running."""
    number, time_limit, grace, *arguments = sys.argv[1:]
    starter = Spawner(arguments, float(time_limit), float(grace))
    _reset_inherited()
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
        # Otherwise no descriptor was free for the answer, and its other end sees it closed.

    starter.watch(daemon, look)
    while starter.running or not gone:
        starter.work()


def _execute(
    arguments: list[str],
    variables: Mapping[str, str],
    streams: tuple[int, int, int],
    report: int,
    held: int | None,
) -> NoReturn:
    """In the new process: execute the program, or report why this fails."""
    try:
        for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(name, signal.SIG_DFL)
        os.setsid()
        for standard, descriptor in enumerate(streams):
            os.dup2(descriptor, standard)
        if held is not None:
            os.set_inheritable(held, True)  # no other descriptors are inherited
        os.chdir("/")
        os.execvpe(arguments[0], arguments, variables)
    except BaseException as error:
        why = getattr(error, "strerror", None) or str(error)
        os.write(report, why.encode("utf-8", "replace"))
    finally:
        os._exit(127)


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent dies: no program is left unsupervised."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _pipe(undo: contextlib.ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for end in ends:
        undo.callback(os.close, end)
    return ends


def _reset_inherited() -> None:
    """
    Reset what programs inherit to the usual values, and do not end at a signal.

    Signals may be sent to all processes of a service; this process ends only after the
    daemon has gone.
    """
    for name in signal.valid_signals():
        if signal.getsignal(name) == signal.SIG_IGN and name != signal.SIGPIPE:
            signal.signal(name, signal.SIG_DFL)
    for name in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(name, lambda *_: None)  # a handler; ignoring would be inherited
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft > USUAL_DESCRIPTORS:
        resource.setrlimit(resource.RLIMIT_NOFILE, (USUAL_DESCRIPTORS, hard))


# The processes that a program has started


def _family(root: int) -> dict[int, str]:
    """
    Return the processes of a program's session and its descendants in any session.

    Each comes with its start time, which identifies it later.
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
    """Return the processes that still exist."""
    return {
        pid: moment
        for pid, moment in family.items()
        if (facts := _process(pid)) is not None and facts[2] == moment
    }


def _process(pid: int) -> tuple[int, int, str] | None:
    """Return its parent, its session, and its start time; see proc_pid_stat(5)."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return None
    return int(fields[1]), int(fields[3]), fields[19]


if __name__ == "__main__":
    main()
