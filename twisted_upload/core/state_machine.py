"""
A state machine as a table: what an input does in a state is looked up.

It reads like Automat's typed machines
(``@receiving.upon(Upload.ended).to(storing)``) and behaves like them: an input that
the table does not have for a state cannot happen there and raises, and an input
that arrives during another is postponed.  Automat finds a transition by comparing
the input with all of them in turn, and each comparison covers all fields of a
dataclass: that was a quarter of the work of a small upload.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["Machine", "NoTransition", "State", "Transition"]

Output = TypeVar("Output", bound=Callable[..., object])


class NoTransition(Exception):
    """An input arrived in a state in which it cannot happen: a bug in the caller."""


class State:
    """
    One state, and what each input does in it.

    :param name: for people.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.transitions: dict[str, tuple[State, Callable[..., object] | None]] = {}

    def __repr__(self) -> str:
        return f"<state {self.name}>"

    def upon(self, fact: Callable[..., None]) -> Transition:
        """
        Begin a transition.

        :param fact: the input: a method of the protocol that names all inputs.
        """
        return Transition(self, fact.__name__)


class Transition:
    """A transition that is being defined."""

    def __init__(self, state: State, fact: str) -> None:
        self._state = self._next = state
        self._fact = fact

    def to(self, state: State) -> Transition:
        """Go to another state, before the output runs."""
        self._next = state
        return self

    def loop(self) -> Transition:
        """Stay in the same state."""
        return self

    def __call__(self, output: Output) -> Output:
        """Decorate the output: a function of the machine and the arguments of the input."""
        self._add(output)
        return output

    def returns(self, nothing: None) -> None:
        """Define the transition without an output."""
        self._add(nothing)

    def _add(self, output: Callable[..., object] | None) -> None:
        assert self._fact not in self._state.transitions, f"{self._fact} twice in {self._state}"
        self._state.transitions[self._fact] = (self._next, output)


class Machine:
    """
    An object that is in one state at a time.  `input_of` makes its inputs.

    :param state: the initial state.
    """

    __slots__ = ("_postponed", "_running", "_state")

    def __init__(self, state: State) -> None:
        self._state = state
        self._running = False
        self._postponed: list[tuple[Callable[..., None], tuple[Any, ...]]] | None = None

    def _postpone(self, later: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        if self._postponed is None:  # most of thousands of machines never need it
            self._postponed = []
        self._postponed.append((later, arguments))

    @property
    def has_more_to_come(self) -> bool:
        """Within an output: whether an input has been postponed."""
        return bool(self._postponed)

    def _run_postponed(self) -> None:
        postponed = self._postponed
        assert postponed is not None
        while postponed:
            later, arguments = postponed.pop(0)
            later(self, *arguments)

    @staticmethod
    def input_of(fact: Callable[..., None]) -> Callable[..., None]:
        """
        Return the method of a machine that takes this input.

        If an output raises, the state has changed, the postponed inputs are processed, and
        the caller of the input gets the exception.

        :param fact: a method of the protocol that names all inputs.
        """
        name = fact.__name__

        def take(self: Machine, *arguments: Any) -> None:
            if self._running:
                self._postpone(take, arguments)
                return
            try:
                self._state, output = self._state.transitions[name]
            except KeyError:
                raise NoTransition(f"{name} in {self._state}") from None
            if output is not None:
                self._running = True
                try:
                    output(self, *arguments)
                finally:
                    self._running = False
                    if self._postponed:
                        self._run_postponed()

        take.__name__, take.__doc__ = name, fact.__doc__
        return take
