"""
A state machine as a table.
"""

from __future__ import annotations

from typing import Any, Protocol

import pytest

from twisted_upload.core.state_machine import Machine, NoTransition, State


class Lamp(Protocol):
    """The inputs of a lamp."""

    def pressed(self, outputs: list[Any]) -> None:
        """Its button was pressed."""

    def broke(self, outputs: list[Any]) -> None:
        """It broke."""


_off, _on = State("off"), State("on")


@_off.upon(Lamp.pressed).to(_on)
def shine(lamp: Any, outputs: list[Any]) -> None:
    outputs.append(f"{lamp.name} on")


@_on.upon(Lamp.pressed).to(_off)
def go_dark(lamp: Any, outputs: list[Any]) -> None:
    outputs.append("going off")
    lamp.pressed(outputs)
    outputs.append("off")


@_on.upon(Lamp.broke).to(_off)
def break_down(lamp: Any, outputs: list[Any]) -> None:
    lamp.pressed(outputs)
    raise ZeroDivisionError


_off.upon(Lamp.broke).loop().returns(None)


class LampMachine(Machine):
    name = "lamp"

    pressed = Machine.input_of(Lamp.pressed)
    broke = Machine.input_of(Lamp.broke)


@pytest.fixture
def outputs() -> list[Any]:
    return []


def test_output(outputs: list[Any]) -> None:
    """An input calls the output that the table has for the state, with its arguments."""
    LampMachine(_off).pressed(outputs)
    assert outputs == ["lamp on"]


def test_input_during_another(outputs: list[Any]) -> None:
    """An input during another one is postponed, and sees the new state."""
    LampMachine(_on).pressed(outputs)
    assert outputs == ["going off", "off", "lamp on"]


def test_no_output(outputs: list[Any]) -> None:
    """A transition may have no output and keep the state."""
    lamp = LampMachine(_off)
    lamp.broke(outputs)
    assert outputs == []
    lamp.pressed(outputs)
    assert outputs == ["lamp on"]


def test_output_raises(outputs: list[Any]) -> None:
    """If an output raises, the state has changed, and postponed inputs are still processed."""
    lamp = LampMachine(_on)
    with pytest.raises(ZeroDivisionError):
        lamp.broke(outputs)
    assert outputs == ["lamp on"]
    lamp.pressed(outputs)
    assert outputs == ["lamp on", "going off", "off", "lamp on"]


def test_impossible_input(outputs: list[Any]) -> None:
    """An input that is not in the table raises and changes nothing."""
    lone = State("lone")
    lamp = LampMachine(lone)
    with pytest.raises(NoTransition, match="pressed in <state lone>"):
        lamp.pressed(outputs)
    lone.upon(Lamp.pressed).to(_on).returns(None)
    lamp.pressed(outputs)
    assert outputs == []


def test_one_transition_for_an_input() -> None:
    """A duplicate transition is an error in the table."""
    with pytest.raises(AssertionError, match="twice"):
        _on.upon(Lamp.pressed).loop().returns(None)
