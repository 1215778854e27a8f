"""
``twistd upload``: its command line, and its entry point for twistd.
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, NoReturn

from twisted.application.service import IService
from twisted.python import usage

from twisted_upload.config.configuration import Configuration, configure
from twisted_upload.config.options import CHECK, CONFIG, OPTIONS, PRINT_CONFIG
from twisted_upload.config.sources import Layer, SourcedValue, nearest
from twisted_upload.core.text import printable, shortened
from twisted_upload.daemon.builder import certificates_of, make_service, reconfigure, renew
from twisted_upload.daemon.control import DaemonControl
from twisted_upload.daemon.pid_file import check_pid_file, omit_in_foreground
from twisted_upload.daemon.system import System
from twisted_upload.daemon.systemd import Manager, started_with, take_environment
from twisted_upload.daemon.users import check_user, run_as_user
from twisted_upload.errors import CannotStart, WrongConfiguration
from twisted_upload.net.clock import use_monotonic_time
from twisted_upload.observability.log import observer_for

__all__ = ["Options", "makeService"]

_COMMAND_LINE = (*OPTIONS, CONFIG, CHECK, PRINT_CONFIG)


def _fail(text: str, status: int) -> NoReturn:
    sys.stderr.write(f"twistd upload: {shortened(printable(text))}\n")
    raise SystemExit(status)


def _status(error: CannotStart) -> int:
    return 2 if isinstance(error, WrongConfiguration) else 1


def _say(text: str) -> None:
    """Print to standard output, whose encoding may lack some characters."""
    _put(text.encode(sys.stdout.encoding or "ascii", "backslashreplace") + b"\n")


def _put(data: bytes) -> None:
    sys.stdout.flush()
    try:
        while data:
            data = data[os.write(sys.stdout.fileno(), data) :]
    except BrokenPipeError:
        pass  # the reader is gone
    except OSError as error:
        _fail(f"standard output: {error.strerror}", 1)


class Options(usage.Options):
    """
    The command line of ``twistd upload``.

    :ivar configuration: the one in force, once parsed.
    :ivar manager: the service manager that started us.
    """

    configuration: Configuration
    manager = Manager()

    synopsis = "[options]"
    longdesc = (
        "A drop box for files: each TCP connection is one upload, from its first byte to the"
        " sender's half-close; with --http, it also takes files by HTTP. Once the sender has been"
        " told success, the file is complete, on disk, under a unique name. Sizes are bytes, or"
        " 512K, 20M, 4G (powers of 1024); durations are seconds, or 500ms, 30s, 5m, 2h."
    )

    optFlags = tuple((it.name, None, it.help) for it in _COMMAND_LINE if it.flag)
    # Without defaults: they could not be told from given values.
    optParameters = tuple((it.name, None, None, it.help) for it in _COMMAND_LINE if not it.flag)

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        for option in OPTIONS:
            if option.repeatable:
                self[option.name] = []
                self._dispatch[option.name] = self._one_more
            elif not option.flag:
                self.defaults[option.name] = option.default  # for --help

    def _one_more(self, name: str, value: str) -> None:
        self[name].append(value)

    def opt_help(self) -> None:
        """Display this help and exit."""
        _say(str(self))
        raise SystemExit(0)

    def parseArgs(self, *arguments: str) -> None:
        """Take no arguments."""
        if arguments:
            raise usage.UsageError(f"{arguments[0]!r} is not an option")

    def postOptions(self) -> None:
        """Determine the configuration in force, or report what is invalid."""
        twistd = getattr(self, "parent", None) or {}
        if twistd:
            omit_in_foreground(twistd)
        self._base = os.path.abspath(twistd.get("rundir") or ".")
        self.manager = take_environment(started_with(), os.environ, os.getpid())
        self.configuration = self.configured()
        programs = any(it.settings.on_upload for it in self.configuration.listeners)
        check_user(twistd, programs=programs)
        if self[PRINT_CONFIG.name]:
            from twisted_upload.config.dump import toml_text  # noqa: PLC0415 - as below

            # TOML is UTF-8, whatever the terminal is.
            _put(toml_text(self.configuration).encode())
            raise SystemExit(0)
        if self[CHECK.name]:
            # Only here: the import takes a tenth of the time that a daemon takes to start.
            from twisted_upload.daemon.check import check  # noqa: PLC0415

            check(self.configuration, _say, partial(run_as_user, twistd), self.manager.sockets)
            raise SystemExit(0)

    def configured(self) -> Configuration:
        """
        Determine the configuration in force now: the file may have changed.

        :raises WrongConfiguration: a value is invalid.
        """
        inherited = [one.name for one in self.manager.sockets]
        host = socket.gethostname()
        return configure(self._given(), os.environ, self._base, inherited=inherited, host=host)

    def _given(self) -> Layer:
        layer = {}
        for option in (*OPTIONS, CONFIG):
            given = self[option.name]
            if option.repeatable:
                given = tuple(given)
            if given or given == "":
                layer[option.name] = SourcedValue(
                    bool(given) if option.flag else given, f"--{option.name}"
                )
        return layer

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Parse the command line.

        An error is one line on standard error and exit status 2, without
        the help page that twistd would print around it.
        """
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            _fail(self._explained(str(error)), 2)
        except CannotStart as error:
            _fail(str(error), _status(error))

    def _explained(self, error: str) -> str:
        unknown = re.match("option --(.*) not recognized", error)
        if unknown is None:
            return error.replace("option --", "--")
        names = [name.rstrip("=") for name in self.longOpt]
        return f"--{unknown[1]}: no such option; the nearest is --{nearest(unknown[1], names)}"


def makeService(options: Options) -> IService:
    """
    Make the service; called by twistd.

    Under twistd, bind the ports and open the stores here already: before it
    goes into the background, while there is a terminal for error messages.
    """
    from twisted.internet import reactor  # noqa: PLC0415 - twistd has chosen it by now

    try:
        clock: Any = reactor
        use_monotonic_time(clock)
        twistd = getattr(options, "parent", None)
        observer = None
        if twistd is not None and not twistd.get("logger"):
            form = options.configuration.settings.log_format
            observer = observer_for(twistd, os.environ, form, clock)
        system = System()
        service = make_service(options.configuration, clock, options.manager, observer, system)
        service.observer = observer
        if twistd is not None:
            # twistd would print a traceback.
            service.cannot_start = lambda error: _fail(str(error), _status(error))
        if twistd is not None:
            DaemonControl(
                clock,
                service,
                options.manager,
                configuration=options.configuration,
                read=options.configured,
                apply=lambda configuration: reconfigure(service, configuration, system),
                certificates=certificates_of(service, system),
                renew=lambda renewal: renew(service, renewal),
            ).begin()
            check_pid_file(twistd.get("pidfile"))
            service.bind()
            run_as_user(twistd, service.open)
            if not twistd.get("nodaemon"):
                _say(service.description)
    except CannotStart as error:
        _fail(str(error), _status(error))
    return service
