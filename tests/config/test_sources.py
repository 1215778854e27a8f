"""
Values from the environment and from a file.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from twisted_upload.config.option import Option
from twisted_upload.config.options import OPTIONS
from twisted_upload.config.sources import (
    LARGEST_FILE,
    SourcedValue,
    from_environment,
    nearest,
    read_file,
)
from twisted_upload.errors import WrongConfiguration


def file(folder: Path, text: str | bytes) -> str:
    path = folder / "upload.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def error_of(folder: Path, text: str | bytes) -> str:
    """Return the error for an invalid file."""
    with pytest.raises(WrongConfiguration) as wrong:
        read_file(file(folder, text), "--config")
    assert "\n" not in str(wrong.value)
    return str(wrong.value).replace(f"{folder}/", "")


# The environment


def test_environment() -> None:
    """A variable has the same text as on the command line, and is recorded as the source."""
    environment = {"TWISTED_UPLOAD_MAX_SIZE": "5M", "PATH": "/bin", "TWISTED_UPLOAD_SUFFIX": ""}
    assert from_environment(environment) == {
        "max-size": SourcedValue("5M", "TWISTED_UPLOAD_MAX_SIZE"),
        "suffix": SourcedValue("", "TWISTED_UPLOAD_SUFFIX"),
    }


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_has_a_variable(option: Option) -> None:
    """Every option has a variable."""
    variable = "TWISTED_UPLOAD_" + option.name.replace("-", "_").upper()
    assert [*from_environment({variable: "yes"})] == [option.name]


def test_environment_lists() -> None:
    """Repeated values are separated by spaces."""
    layer = from_environment({"TWISTED_UPLOAD_LISTEN": "tcp:1  unix:/a "})
    assert layer["listen"].text == ("tcp:1", "unix:/a")


@pytest.mark.parametrize(
    ("text", "truth"),
    [
        *((word, True) for word in ("yes", "TRUE", "1", "on")),
        *((word, False) for word in ("no", "False", "0", "off")),
    ],
)
def test_environment_flags(text: str, truth: bool) -> None:
    """A flag is yes or no, in several spellings, so that the file's flags can be switched off."""
    assert from_environment({"TWISTED_UPLOAD_RECEIPTS": text})["receipts"].text is truth


def test_environment_flag_is_invalid() -> None:
    """The error for an invalid flag names the variable."""
    with pytest.raises(WrongConfiguration, match=r"^TWISTED_UPLOAD_RECEIPTS: '' is neither"):
        from_environment({"TWISTED_UPLOAD_RECEIPTS": ""})


def test_unknown_variable() -> None:
    """The error for an unknown variable names it and the nearest known one."""
    with pytest.raises(WrongConfiguration) as wrong:
        from_environment({"TWISTED_UPLOAD_MAXSIZE": "5M"})
    assert str(wrong.value) == (
        "TWISTED_UPLOAD_MAXSIZE: no such variable; the nearest is TWISTED_UPLOAD_MAX_SIZE"
    )


def test_variable_of_the_client() -> None:
    """TWISTED_UPLOAD_TO belongs to the client and is ignored."""
    assert from_environment({"TWISTED_UPLOAD_TO": "server"}) == {}


# Files


def test_values(tmp_path: Path) -> None:
    """A value is a string as on the command line, or the matching type of TOML."""
    path = file(
        tmp_path,
        'max-size = 5000\ndrain = 1.5\nsuffix = ".jpg"\nreceipts = true\nallow-empty = "no"\n'
        'listen = ["tcp:1", "tcp:2"]\nmode = "0600"\n',
    )
    top = read_file(path, "--config").top
    assert {name: given.text for name, given in top.items()} == {
        "max-size": "5000",
        "drain": "1.5",
        "suffix": ".jpg",
        "receipts": True,
        "allow-empty": False,
        "listen": ("tcp:1", "tcp:2"),
        "mode": "0600",
    }
    assert top["max-size"].source == f"{path}: max-size"


def test_single_value_of_a_list(tmp_path: Path) -> None:
    """A repeatable option may have a single value."""
    top = read_file(file(tmp_path, 'listen = "tcp:1"'), "--config").top
    assert top["listen"].text == ("tcp:1",)


def test_listeners(tmp_path: Path) -> None:
    """Listeners keep their order; each has its name and its values."""
    path = file(tmp_path, '[[listener]]\nname="b"\nport=1\n[[listener]]\nname="a-1"\nport=2\n')
    assert read_file(path, "--config").listeners == (
        ("b", {"port": SourcedValue("1", f"{path}: listener b: port")}),
        ("a-1", {"port": SourcedValue("2", f"{path}: listener a-1: port")}),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("max_size = 1", "upload.toml: max_size: no such key; the nearest is max-size"),
        ("listners = 1", "upload.toml: listners: no such key; the nearest is listener"),
        ('config = "x"', "upload.toml: config: no such key; the nearest is"),
        ("mode = 640", 'upload.toml: mode: write it as a string, such as "0640"'),
        ("mode = 0o640", 'upload.toml: mode: write it as a string, such as "0640"'),
        ("drain = true", "upload.toml: drain: True is neither a string nor a number"),
        ("drain = 2026-11-22", "upload.toml: drain: datetime.date(2026, 11, 22) is neither"),
        ("drain = [1]", "upload.toml: drain: [1] is neither"),
        ("drain = {}", "upload.toml: drain: {} is neither"),
        ("receipts = 2", "upload.toml: receipts: '2' is neither yes nor no"),
        ("listen = [[]]", "upload.toml: listen: [] is neither"),
        ("drain", "upload.toml: not valid TOML: Expected '=' after a key"),
        ("drain = 1\ndrain = 2", "upload.toml: not valid TOML: Cannot overwrite a value"),
        (b"answer = '\xff'", "upload.toml: not valid UTF-8 at byte 10"),
        ("x = " + "[" * 100_000, "upload.toml: not valid TOML"),
        ("listener = 1", "upload.toml: listener: write it as a table, [[listener]]"),
        ("[listener]\nname = 'a'", "upload.toml: listener: write it as a table, [[listener]]"),
        ("[[listener]]\nport = 1", "upload.toml: listener 1: it has no name"),
        ("[[listener]]\nname = 'A'", "upload.toml: listener 1: name: 'A' must consist of"),
        ("[[listener]]\nname = ''", "upload.toml: listener 1: name: '' must consist of"),
        ("[[listener]]\nname = 1", "upload.toml: listener 1: name: 1 must consist of"),
        ("[[listener]]\nname='a'\n" * 2, "upload.toml: listener 2: name: 'a' is used twice"),
        (
            "[[listener]]\nname='a'\nworkers=2",
            "upload.toml: listener a: workers: it applies to the whole daemon, not to one listener",
        ),
        (
            "[[listener]]\nname='a'\nprot=2",
            "upload.toml: listener a: prot: no such key; the nearest is port",
        ),
        ("x" * (LARGEST_FILE + 1), "--config: upload.toml is larger than 1 MiB"),
    ],
)
def test_wrong_file(tmp_path: Path, text: str | bytes, says: str) -> None:
    """The error for an invalid file names the file, the listener and the key."""
    assert error_of(tmp_path, text).startswith(says)


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing", "No such file or directory"), (".", "Is a directory"), ("a\0b", "embedded null")],
)
def test_unreadable_file(tmp_path: Path, path: str, reason: str) -> None:
    """The error for an unreadable file names the source of its name."""
    with pytest.raises(WrongConfiguration, match=f"^TWISTED_UPLOAD_CONFIG: cannot read .*{reason}"):
        read_file(f"{tmp_path}/{path}", "TWISTED_UPLOAD_CONFIG")


def test_endless_file() -> None:
    """An endless file is not read to its end."""
    with pytest.raises(WrongConfiguration, match="larger than 1 MiB"):
        read_file("/dev/zero", "--config")


def test_nearest() -> None:
    """There is always a nearest name."""
    assert nearest("prt", ["port", "mode"]) == "port"
    assert nearest("", ["port"]) == "port"
