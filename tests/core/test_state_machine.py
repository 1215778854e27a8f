"""
A state machine as a table.
"""

from __future__ import annotations

from typing import Any, Protocol

import pytest

from twisted_upload.core.state_machine import Machine, NoTransition, State


class Lamp(Protocol):
    """What can happen to a lamp."""

    def pressed(self, told: list[Any]) -> None:
        """Somebody pressed its button."""

    def broke(self, told: list[Any]) -> None:
        """It is broken."""


_off, _on = State("off"), State("on")


@_off.upon(Lamp.pressed).to(_on)
def shine(lamp: Any, told: list[Any]) -> None:
    told.append(f"{lamp.name} on")


@_on.upon(Lamp.pressed).to(_off)
def go_dark(lamp: Any, told: list[Any]) -> None:
    told.append("going off")
    lamp.pressed(told)
    told.append("off")


@_on.upon(Lamp.broke).to(_off)
def break_down(lamp: Any, told: list[Any]) -> None:
    lamp.pressed(told)
    raise ZeroDivisionError


_off.upon(Lamp.broke).loop().returns(None)


class LampMachine(Machine):
    name = "lamp"

    pressed = Machine.input_of(Lamp.pressed)
    broke = Machine.input_of(Lamp.broke)


@pytest.fixture
def told() -> list[Any]:
    return []


def test_output(told: list[Any]) -> None:
    """An input does what the table says of the state, with what it was given."""
    LampMachine(_off).pressed(told)
    assert told == ["lamp on"]


def test_input_during_another(told: list[Any]) -> None:
    """An input that comes during another waits for it, and finds the new state."""
    LampMachine(_on).pressed(told)
    assert told == ["going off", "off", "lamp on"]


def test_no_output(told: list[Any]) -> None:
    """A transition may have no output, and stay."""
    lamp = LampMachine(_off)
    lamp.broke(told)
    assert told == []
    lamp.pressed(told)
    assert told == ["lamp on"]


def test_output_that_raises(told: list[Any]) -> None:
    """Where an output raises, the state has changed, and what waited for it is not lost."""
    lamp = LampMachine(_on)
    with pytest.raises(ZeroDivisionError):
        lamp.broke(told)
    assert told == ["lamp on"]
    lamp.pressed(told)
    assert told == ["lamp on", "going off", "off", "lamp on"]


def test_what_cannot_happen(told: list[Any]) -> None:
    """An input that the table leaves out raises, and changes nothing."""
    lone = State("lone")
    lamp = LampMachine(lone)
    with pytest.raises(NoTransition, match="pressed in <state lone>"):
        lamp.pressed(told)
    lone.upon(Lamp.pressed).to(_on).returns(None)
    lamp.pressed(told)
    assert told == []


def test_one_transition_for_an_input() -> None:
    """A transition that is written down twice is a defect of the table."""
    with pytest.raises(AssertionError, match="twice"):
        _on.upon(Lamp.pressed).loop().returns(None)
