"""
What may change while the daemon runs, and how changes are reported.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from twisted_upload.config.configuration import Configuration, configure
from twisted_upload.config.reload import Changes, reload
from twisted_upload.config.sources import SourcedValue

ONE = '[[listener]]\nname = "one"\nport = 1001\n'
TWO = '[[listener]]\nname = "two"\nport = 1002\n'


def configuration(folder: Path, text: str) -> Configuration:
    (folder / "it.toml").write_text(text)
    return configure({"config": SourcedValue("it.toml", "--config")}, {}, str(folder))


def news(folder: Path, old: str, new: str) -> str:
    changes = Changes()
    reload(configuration(folder, old), configuration(folder, new), changes)
    return str(changes)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("", "", "reloaded: nothing has changed"),
        ("port = 1", "port = 1", "reloaded: nothing has changed"),
        ("max-size = 1024", 'max-size = "1K"', "reloaded: nothing has changed"),
        ("", "max-size = 10", "reloaded: max-size 0 -> 10"),
        ("", "receipts = true", "reloaded: receipts no -> yes"),
        ("receipts = true", "", "reloaded: receipts yes -> no"),
        ("", 'drain = "5s"', "reloaded: drain 10s -> 5s"),
        ("port = 1", "port = 2", "reloaded: nothing has changed; needs a restart: port"),
        (
            "",
            'suffix = ".x"\nmax-size = 1',
            "reloaded: max-size 0 -> 1; needs a restart: suffix",
        ),
        ('http = 1\ntokens = "t"', 'http = 1\ntokens = "t"', "reloaded: tokens read again"),
        (ONE + TWO, ONE + TWO, "reloaded: nothing has changed"),
        (ONE + TWO, TWO + ONE, "reloaded: nothing has changed"),
        (ONE + TWO, ONE + TWO + "max-size = 9", "reloaded: two: max-size 0 -> 9"),
        (
            ONE + TWO,
            'drain = "1s"\nmax-size = 9\n' + ONE + TWO,
            "reloaded: drain 10s -> 1s, one: max-size 0 -> 9, two: max-size 0 -> 9",
        ),
        (
            ONE,
            TWO,
            "reloaded: nothing has changed; needs a restart: one was removed, two was added",
        ),
    ],
)
def test_report(tmp_path: Path, old: str, new: str, text: str) -> None:
    """The report names each change with old and new value, and what needs a restart."""
    assert news(tmp_path, old, new) == text


def test_effective_configuration(tmp_path: Path) -> None:
    """Options that can change take effect, the others stay, for each listener and the daemon."""
    old = configuration(tmp_path, "max-size = 5\n" + ONE + TWO)
    new = configuration(tmp_path, 'workers = 2\ndrain = "1s"\nmode = "0600"\n' + TWO + "max-size=7")
    now = reload(old, new, Changes())
    assert (now.settings.drain, now.settings.workers) == (1, 1)
    one, two = now.listeners
    assert (one.name, one.settings.max_size, one.settings.mode) == ("one", 5, 0o640)
    assert (two.name, two.settings.max_size, two.settings.mode) == ("two", 7, 0o640)
    assert two.settings.port == 1002
    assert Configuration.from_json(now.to_json()).to_json() == now.to_json()


def test_second_reload(tmp_path: Path) -> None:
    """The next reload is compared with the effective configuration, not with the last file."""
    first = configuration(tmp_path, "max-size = 5\nport = 1")
    second = reload(first, configuration(tmp_path, "max-size = 6\nport = 2"), Changes())
    changes = Changes()
    reload(second, configuration(tmp_path, "max-size = 6\nport = 1"), changes)
    assert str(changes) == "reloaded: nothing has changed"
