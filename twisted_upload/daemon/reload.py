"""
What may change while the daemon runs, and how that is said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from twisted_upload.config.configuration import Configuration, Listener, Setting
from twisted_upload.daemon.builder import frontend_settings
from twisted_upload.daemon.certificate_expiry import Renewal
from twisted_upload.frontends.settings import FrontendSettings

__all__ = ["Reloaded", "reload", "settings_of"]

LONGEST = 60
"""Characters of a list of values that is told in full."""


@dataclass(frozen=True, slots=True)
class Reloaded:
    """
    What has come of a configuration that was read again.

    :ivar configuration: what is in force now.
    :ivar text: what has changed, and what has not, for the log.
    """

    configuration: Configuration
    text: str


def reload(old: Configuration, new: Configuration, renewal: Renewal | None = None) -> Reloaded:
    """
    Take over from a new configuration what can change while the daemon runs.

    Everything else stays as it is until the daemon is started again.

    :param renewal: certificates that were read again.
    """
    news = _News([], [])
    if renewal is not None:
        news.changed.extend(renewal.changed)
        news.waiting.extend(renewal.waiting)
    whole = _take_over(old.by_name, new.by_name, "", news)
    there = {listener.name: listener for listener in new.listeners}
    if not old.named and not new.named:  # there is one, and its name tells where it listens
        there = {old.listeners[0].name: new.listeners[0]}
    listeners = []
    for listener in old.listeners:
        own = listener.by_name
        its_new = there.pop(listener.name, None)
        if its_new is None:
            news.waiting.append(f"{listener.name} is gone")
        else:
            where = f"{listener.name}: " if old.named else ""
            own = _take_over(own, its_new.by_name, where, news)
        listeners.append(Listener(listener.name, own))
    news.waiting.extend(f"{name} is new" for name in there)
    text = f"reloaded: {', '.join(news.changed) or 'nothing has changed'}"
    if news.waiting:
        text += f"; needs a restart: {', '.join(news.waiting)}"
    return Reloaded(Configuration(whole, listeners, named=old.named, file=new.file), text)


def settings_of(configuration: Configuration) -> dict[str, FrontendSettings]:
    """How the doors are to behave, by the names of their listeners."""
    return {listener.name: frontend_settings(listener) for listener in configuration.listeners}


@dataclass(frozen=True, slots=True)
class _News:
    """What has changed, and what would change after a restart."""

    changed: list[str]
    waiting: list[str]


def _take_over(
    old: Mapping[str, Setting], new: Mapping[str, Setting], where: str, news: _News
) -> dict[str, Setting]:
    taken = {}
    for name, setting in old.items():
        its_new = new.get(name, setting)
        reloadable = setting.option.reloadable
        taken[name] = its_new if reloadable else setting
        if its_new.value == setting.value:
            continue
        if reloadable:
            news.changed.append(f"{where}{name} {_shown(setting)} -> {_shown(its_new)}")
        else:
            news.waiting.append(f"{where}{name}")
    return taken


def _shown(setting: Setting) -> str:
    text = setting.text
    if isinstance(text, bool):
        return "yes" if text else "no"
    if isinstance(text, tuple):
        joined = " ".join(text) or "none"
        return joined if len(joined) <= LONGEST else f"{len(text)} of them"
    return str(text)
