"""
Being asked to stop: SIGINT (Ctrl-C) and SIGTERM, from the first moment of a command
on.

While the modules are imported and the command line is read, a signal is only
remembered: what it was asked to do, and what has become of that, is not known yet.
Whoever asks twice means it, and ends the process at once; the kernel then resets its
connections.

Imports nothing that takes long, because it comes before everything else.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # as in typing, whose import takes long
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

__all__ = ["Interrupts"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """
    Catches both signals, unless they are ignored (``nohup``).

    :ivar number: the signal that came, or 0.
    """

    def __init__(self) -> None:
        self.number = 0
        self._tell: Callable[[int], object] | None = None

    def catch(self) -> None:
        """From now on they do no more than to be remembered, and told."""
        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._caught)

    def hold(self) -> None:
        """Nobody hears of one that comes now, until `tell`: somebody else sets handlers."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)

    def tell(self, function: Callable[[int], object]) -> None:
        """
        Call a function, in the middle of whatever is done then, with the number of the
        signal that comes; at once, if it has come.
        """
        self._tell = function
        self.catch()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        if self.number:
            function(self.number)

    def release(self) -> None:
        """
        From now on they do what they do to other Python programs.

        :raises KeyboardInterrupt: SIGINT has come already.
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
