"""
A configuration as a file.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_upload.config.configuration import Configuration, configure
from twisted_upload.config.dump import toml_text
from twisted_upload.config.options import OPTIONS
from twisted_upload.config.sources import SourcedValue, Text
from twisted_upload.errors import WrongConfiguration


def written(text: str) -> Configuration:
    """Return the configuration of a file with this text, in another folder."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.toml"
        path.write_text(text, encoding="utf-8")
        return configure({"config": SourcedValue(str(path), "--config")}, {}, folder)


def in_force(configuration: Configuration) -> object:
    listeners = [(it.name, it.settings) for it in configuration.listeners]
    return configuration.settings, listeners, configuration.named


A_LINE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)

SOME: dict[str, st.SearchStrategy[Text]] = {
    "port": st.integers(0, 65535).map(str),
    "interface": st.sampled_from(["", "127.0.0.1", "::1"]),
    "listen": st.lists(st.text(min_size=1), min_size=1, max_size=3).map(tuple),
    "directory": st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1),
    "suffix": st.sampled_from(["auto", "", ".jpg", ".tar.gz"]),
    "names": st.sampled_from(["time", "time-original"]),
    "mode": st.sampled_from(["0640", "600", "0o444"]),
    "reserve": st.sampled_from(["0", "5%", "1.5 %", "1G", "007"]),
    "answer": A_LINE.filter(lambda text: not text.startswith("上传失败")),
    "max-size": st.sampled_from(["0", "12", "1.5M", "007"]),
    "idle-timeout": st.sampled_from(["0", "1h"]),
    "finish-after-idle": st.sampled_from(["0", "1s", "0.5"]),
    "drain": st.sampled_from(["0", "10s", "2.50"]),
    "workers": st.sampled_from(["1", "07", "auto"]),
    "disk-threads": st.sampled_from(["1", "256"]),
}


FLAGS: dict[str, st.SearchStrategy[Text]] = {
    option.name: st.booleans() for option in OPTIONS if option.flag
}


@given(st.fixed_dictionaries({}, optional={**SOME, **FLAGS}))
@settings(deadline=None)
def test_round_trip(texts: dict[str, Text]) -> None:
    """The printed configuration, used as a file in another folder, gives the same values."""
    line = {name: SourcedValue(text, f"--{name}") for name, text in texts.items()}
    try:
        configuration = configure(line, {}, "/srv")
    except WrongConfiguration:
        return  # conflicting values
    assert in_force(written(toml_text(configuration))) == in_force(configuration)


TWO = """
drain = 3
[[listener]]
name = "scanner"
port = 7000
mode = "0600"
[[listener]]
name = "photos"
listen = ["tcp:7001:interface=\\\\:\\\\:1", 'unix:/"s"']
receipts = true
"""


def test_round_trip_of_listeners() -> None:
    """The printed configuration of several listeners gives the same listeners."""
    configuration = written(TWO)
    assert in_force(written(toml_text(configuration))) == in_force(configuration)


def test_sources() -> None:
    """Every line ends with the source of its value."""
    line = {
        "max-size": SourcedValue("5M", "--max-size"),
        "listen": SourcedValue(("tcp:1",), "--listen"),
    }
    text = toml_text(configure(line, {"TWISTED_UPLOAD_RECEIPTS": "yes"}, "/srv"))
    lines = dict(line.split("  # ") for line in text.splitlines())
    assert lines.pop('max-size = "5M"'.ljust(32)) == "--max-size"
    assert lines.pop('listen = ["tcp:1"]'.ljust(32)) == "--listen"
    assert lines.pop("receipts = true".ljust(32)) == "TWISTED_UPLOAD_RECEIPTS"
    assert lines.pop("# port is not set".ljust(32)) == "default"
    assert {*lines.values()} == {"default"}
    assert len(lines) == len(OPTIONS) - 4


def test_source_with_a_strange_name() -> None:
    """The name of a file cannot end its comment."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a\nport = 1.toml"
        path.write_text("drain = 4")
        text = toml_text(configure({"config": SourcedValue(str(path), "--config")}, {}, folder))
    assert "a\\nport = 1.toml: drain" in text
    assert written(text).settings.drain == 4


def test_not_representable_in_toml() -> None:
    """A path that is not UTF-8 cannot be written as TOML, and the error says so."""
    line = {"directory": SourcedValue("/srv/\udcff", "--directory")}
    with pytest.raises(WrongConfiguration, match=r"--directory: .* cannot be written as TOML"):
        toml_text(configure(line, {}, "/"))
