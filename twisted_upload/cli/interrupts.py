"""
Requests to stop: SIGINT (Ctrl-C) and SIGTERM, from the first moment of a command.

While modules are imported and the command line is parsed, a signal is only
recorded: the task, and what became of it, are not known yet.  A second signal ends
the process at once; the kernel then resets its connections.

Imports nothing slow, because it comes before everything else.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, whose import is slow
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """
    Catches both signals, unless they are ignored (``nohup``).

    :ivar number: the signal that arrived, or 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self._tell: Callable[[int], object] | None = None

    def catch(self) -> None:
        """Install handlers that only record a signal, and pass it to the function of `tell`."""
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._caught)

    def hold(self) -> None:
        """Block both signals until `tell`, because other code is about to install handlers."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def tell(self, function: Callable[[int], object]) -> None:
        """
        Call a function with the number of the signal when it arrives, whatever is running
        at that moment; at once if it has already arrived.
        """
        self._tell = function
        self.catch()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        if self.number:
            function(self.number)

    def release(self) -> None:
        """
        Give both signals the effect that they have in other Python programs.

        :raises KeyboardInterrupt: SIGINT has already arrived.
        """
        for number in _SIGNALS:
            if signal.getsignal(number) == self._caught or self.number == number:
                is_int = number == signal.SIGINT
                signal.signal(number, signal.default_int_handler if is_int else signal.SIG_DFL)
        if self.number:
            os.kill(os.getpid(), self.number)

    def _caught(self, number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        first, self.number = not self.number, self.number or number
        if first and self._tell is not None:
            self._tell(number)
