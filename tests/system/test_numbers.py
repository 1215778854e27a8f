"""
Numbers have limits: any text is a valid number or an error of one line.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.daemon import Configured, wait_until
from twisted_upload.config.configuration import Configuration
from twisted_upload.config.dump import toml_text
from twisted_upload.config.option import Option
from twisted_upload.config.options import OPTIONS
from twisted_upload.daemon.frontends import frontend_settings
from twisted_upload.daemon.tap import Options
from twisted_upload.disk.files import Files

MANY = "9" * 5000  # more digits than Python converts
HUGE = "9" * 400  # larger than any float

NUMBERS = [
    *(MANY, f"{MANY}%", f"{MANY}P", f"{MANY}.0P", f"0.{MANY}", f"{MANY}s", f"-{MANY}"),
    *(HUGE, f"{HUGE}%", f"{HUGE}P", f"{HUGE}.0P", f"{HUGE}d", "1" + "0" * 30, "9" * 19, "9" * 20),
    *("-1", "-0", "-1s", "+1", "nan", "nan%", "inf", "-inf", "infinity", "NaNs", "1e400", "1e3"),
    *("1e400%", "1.7e308P", "1_000", "1_0%", "1__0", "0x10", "0b1", "0o17", "٣", "９", "1٣K", "٣%"),
    *("²", "½", "", " ", "\n", ".", "1.", ".5", "1.0", "1 2", "1\u00a0K", "--1"),
]

NUMBERED = [it for it in OPTIONS if not it.flag]


def is_valid(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> bool:
    """Whether arguments are valid and usable; otherwise the error has one line."""
    options = Options()
    status: object = 0
    try:
        options.parseOptions(arguments)
    except SystemExit as ended:
        status = ended.code
    if status != 0:
        error = capsys.readouterr().err
        assert status == 2
        assert re.fullmatch(r"twistd upload: .{1,1000}\n", error), error
        return False
    configuration = options.configuration
    for listener in configuration.listeners:
        settings = frontend_settings(listener, Files())
        assert 0 <= settings.min_rate < float("inf")
        assert 0 <= settings.max_size < 1 << 63
    again = Configuration.from_json(configuration.to_json())
    assert again.settings == configuration.settings
    toml_text(configuration)
    return True


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("option", NUMBERED, ids=lambda option: option.name)
def test_command_line(option: Option, capsys: pytest.CaptureFixture[str]) -> None:
    """On the command line, any text is a valid number or an error of one line."""
    for number in NUMBERS:
        is_valid([f"--{option.name}={number}"], capsys)


@pytest.mark.parametrize("option", NUMBERED, ids=lambda option: option.name)
def test_environment(
    option: Option, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same holds in the environment."""
    for number in NUMBERS:
        monkeypatch.setenv(option.variable, number)
        is_valid([], capsys)


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_file(option: Option, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The same holds in a file, for strings and TOML's numbers, also as the value of a flag."""
    for number in NUMBERS:
        quoted = number.replace("\n", "\\n")
        for written in (f'"{quoted}"', f'["{quoted}"]', number.strip()):
            (tmp_path / "x.toml").write_text(f"{option.name} = {written}\n", "utf-8")
            is_valid(["--config=x.toml"], capsys)


@pytest.mark.parametrize("number", ["٣", "1_000", "1٣K", "９", "²"])
@pytest.mark.parametrize("name", ["max-size", "idle-timeout", "mode", "reserve", "workers", "port"])
def test_only_digits(name: str, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Non-ASCII digits and underscores, which Python accepts, are not valid."""
    assert not is_valid([f"--{name}={number}"], capsys)


@pytest.mark.parametrize(
    ("name", "last", "too_many"),
    [
        ("max-size", str(2**63 - 1), str(2**63)),
        ("max-size", "8191P", "8192P"),
        ("min-rate", str(2**63 - 1), str(2**63)),
        ("reserve", "99.999%", "100%"),
        ("reserve", "8191P", "8192P"),
        ("idle-timeout", "3650d", "3651d"),
        ("workers", "64", "65"),
        ("port", "65535", "65536"),
        ("mode", "777", "1000"),
        ("journal-keep", "00001000", "1001"),
    ],
)
def test_limits(name: str, last: str, too_many: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The largest valid numbers, and the first invalid ones."""
    assert is_valid([f"--{name}={last}"], capsys)
    assert not is_valid([f"--{name}={too_many}"], capsys)


@pytest.mark.parametrize("workers", [1, 2])
def test_reloading(tmp_path: Path, workers: int) -> None:
    """On SIGHUP an invalid number is one line too, and the configuration stays."""
    text = f'port = 0\ninterface = "127.0.0.1"\nworkers = {workers}\nanswer = "OK"\n'
    with Configured(tmp_path, text) as daemon:
        for number in (f"{HUGE}.0P", MANY, "nan"):
            (tmp_path / "upload.toml").write_text(f'{text}min-rate = "{number}"\n')
            before = len(daemon.lines("reload failed"))
            daemon.signal(1)
            wait_until(lambda b=before: len(daemon.lines("reload failed")) > b, "a line")  # type: ignore[misc]
            assert len(daemon.lines("reload failed")[-1]) < 1200
        assert daemon.send(b"content") == b"OK"
        assert "Traceback" not in daemon.log.read_text()
