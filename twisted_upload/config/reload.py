"""
Apply what may change while the daemon runs, and describe the changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from twisted_upload.config.configuration import Configuration
from twisted_upload.config.listener import Listener, Setting
from twisted_upload.config.options import PROTOCOL

__all__ = ["Changes", "reload"]

LONGEST = 60
"""Characters of the longest list of values that is reported in full."""

_READ_AGAIN = ("tokens", "invitation-keys")
"""Options that name a file whose content a reload puts in force."""


@dataclass(frozen=True, slots=True)
class Changes:
    """
    What a reload changed, in words.

    :ivar made: what has changed.
    :ivar waiting: what will change when the daemon is restarted.
    """

    made: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"reloaded: {', '.join(self.made) or 'nothing has changed'}"
        if self.waiting:
            text += f"; needs a restart: {', '.join(self.waiting)}"
        return text


def reload(old: Configuration, new: Configuration, changes: Changes) -> Configuration:
    """
    Take from a new configuration what can change while the daemon runs.

    Everything else stays the same until the daemon is restarted.

    :param changes: all differences are added to it.
    :return: the configuration now in force.
    """
    by_name = _take_over(old.by_name, new.by_name, "", changes)
    there = {listener.name: listener for listener in new.listeners}
    if not old.named and not new.named:  # such listeners are named after where they listen
        names = {listener.protocol: listener.name for listener in old.listeners}
        there = {names.get(it.protocol, it.name): it for it in new.listeners}
    listeners = []
    for listener in old.listeners:
        its_new = there.pop(listener.name, None)
        if its_new is None:
            changes.waiting.append(f"{listener.name} was removed")
            listeners.append(listener)
            continue
        where = f"{listener.name}: " if old.named else ""
        own = _take_over(listener.by_name, its_new.by_name, where, changes)
        if its_new.protocol != listener.protocol:
            changes.waiting.append(f"{where}{PROTOCOL.name}")
        changes.made.extend(f"{where}{name} read again" for name in _READ_AGAIN if own[name].value)
        listeners.append(Listener(listener.name, own, listener.protocol))
    changes.waiting.extend(f"{name} was added" for name in there)
    return Configuration(by_name, listeners, named=old.named, file=new.file)


def _take_over(
    old: Mapping[str, Setting], new: Mapping[str, Setting], where: str, changes: Changes
) -> dict[str, Setting]:
    taken = {}
    for name, setting in old.items():
        its_new = new.get(name, setting)
        reloadable = setting.option.reloadable
        taken[name] = its_new if reloadable else setting
        if its_new.value == setting.value:
            continue
        if reloadable:
            changes.made.append(f"{where}{name} {_shown(setting)} -> {_shown(its_new)}")
        else:
            changes.waiting.append(f"{where}{name}")
    return taken


def _shown(setting: Setting) -> str:
    text = setting.text
    if isinstance(text, bool):
        return "yes" if text else "no"
    if isinstance(text, tuple):
        joined = " ".join(text) or "none"
        return joined if len(joined) <= LONGEST else f"{len(text)} of them"
    return str(text)
