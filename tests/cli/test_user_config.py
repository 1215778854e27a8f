"""
The user's defaults, from a file, and the tokens that are sent.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import click
import pytest

from tests.support.commands import PROGRAM, Process, start_process
from tests.support.frontends import open_frontend
from twisted_upload.cli.credentials import Given, find_token
from twisted_upload.cli.user_config import UserConfig, config_path, read_config
from twisted_upload.client.targets import parse_target


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """The file, which does not exist yet."""
    return tmp_path / "twisted-upload.toml"


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({"HOME": "/home/a"}, "/home/a/.config/twisted-upload.toml"),
        ({"HOME": "/home/a", "XDG_CONFIG_HOME": "/x"}, "/x/twisted-upload.toml"),
        ({"HOME": "/home/a", "XDG_CONFIG_HOME": "x"}, "/home/a/.config/twisted-upload.toml"),
    ],
)
def test_path(environment: Mapping[str, str], path: str) -> None:
    """The file is in the user's configuration directory."""
    assert config_path(environment) == path


def test_values(config: Path) -> None:
    """Paths in the file are relative to its folder, or to the home directory."""
    config.write_text('to = "https://a/"\ntoken-file = "token"\ncacert = "~/ca.pem"\n')
    assert read_config(str(config)) == UserConfig(
        str(config),
        {
            "to": "https://a/",
            "token-file": f"{config.parent}/token",
            "cacert": os.path.expanduser("~/ca.pem"),
        },
    )


@pytest.mark.parametrize("missing", ["nothing", "nothing/at/all", "file/below"])
def test_no_file(tmp_path: Path, missing: str) -> None:
    """Without a file there are no defaults."""
    (tmp_path / "file").touch()
    assert read_config(str(tmp_path / missing)) == UserConfig()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("to = ", "Invalid value"),
        ("to = 5", "to must be a text in quotation marks"),
        ('to = ""', "to must be a text in quotation marks"),
        ('token = "x"', "unknown key 'token'; there are to, token-file, cacert"),
        ("\udcff", "codec can't decode"),
    ],
)
def test_invalid(config: Path, content: str, error: str) -> None:
    """The error names the file, and what is wrong."""
    config.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match=rf"^{re.escape(str(config))}: .*{re.escape(error)}"):
        read_config(str(config))
    (config.parent / "folder").mkdir()
    with pytest.raises(ValueError, match=r"^cannot read .*/folder: Is a directory$"):
        read_config(str(config.parent / "folder"))


def _write(config: Path, text: str) -> None:
    config.write_text(text)


async def _run(*arguments: str | Path, config: Path, **environment: str) -> Process:
    environment["XDG_CONFIG_HOME"] = str(config.parent)
    return await start_process([*PROGRAM, *arguments], env=environment).ended


async def test_precedence(config: Path, tmp_path: Path) -> None:
    """The command line precedes the environment, which precedes the file."""
    path = tmp_path / "a"
    path.write_text("x")
    async with open_frontend() as frontend:
        where = "{}:{}".format(*frontend.address)
        _write(config, f'to = "{where}"\n')
        from_file = await _run(path, config=config)
        pinged = await _run("ping", config=config)
        _write(config, 'to = "127.0.0.1:1"\n')
        from_environment = await _run(path, config=config, TWISTED_UPLOAD_TO=where)
        from_option = await _run(
            path, "--to", where, config=config, TWISTED_UPLOAD_TO="127.0.0.1:2"
        )
        assert len(frontend.stored) == 3
    assert [it.status for it in (from_file, pinged, from_environment, from_option)] == [0] * 4


@pytest.mark.parametrize("command", [[], ["ping"]])
async def test_errors(config: Path, command: list[str]) -> None:
    """An error in the file is one line that names it: status 2; --help does not need it."""
    words = command or ["a"]
    _write(config, 'to = "server:x"\n')
    wrong_value = await _run(*words, config=config)
    _write(config, "nonsense\n")
    wrong_file = await _run(*words, config=config)
    helped = await _run(*command, "--help", config=config)
    assert wrong_value.errors == [
        f"Invalid value for {'where' if command else 'to'} in {config}:"
        " 'x' is not a port number from 1 to 65535"
    ]
    assert (wrong_value.status, wrong_file.status, helped.status) == (2, 2, 0)
    assert wrong_file.errors[0].startswith(f"{config}: ")
    assert len(wrong_file.errors) == 1


HTTP = parse_target("http://server:8080/")


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    """A folder with a file for each source of a token."""
    for name in ("option", "variable", "twisted-upload-token", "config"):
        (tmp_path / name).write_text(f"tok_{name}\n")
        (tmp_path / name).chmod(0o600)
    return tmp_path


def test_order_of_tokens(tokens: Path) -> None:
    """An invitation, the option, the environment, a credential, the user's file: the first."""
    option = Given(f"{tokens}/option", "--token-file")
    variable = Given(f"{tokens}/variable", "TWISTED_UPLOAD_TOKEN_FILE")
    file = Given(f"{tokens}/config", "")
    config = UserConfig("/config.toml", {"to": "http://server:8080"})
    secret = {"TWISTED_UPLOAD_TOKEN": "tok_direct"}
    credential = {"CREDENTIALS_DIRECTORY": str(tokens)}
    invited = parse_target("http://server:8080/#token=inv_x")
    everything = secret | credential
    assert find_token(invited, option, everything, config) == "inv_x"
    assert find_token(HTTP, option, everything, config) == "tok_option"
    assert find_token(HTTP, variable, everything, config) == "tok_direct"
    assert find_token(HTTP, variable, credential, config) == "tok_variable"
    assert find_token(HTTP, file, credential, config) == "tok_twisted-upload-token"
    assert find_token(HTTP, file, {}, config) == "tok_config"
    assert find_token(HTTP, None, {}, config) is None


def test_token_of_the_file_is_for_its_server(tokens: Path) -> None:
    """The token of the user's file is sent to no other server than that of the file."""
    file = Given(f"{tokens}/config", "")
    for to in ("http://other:8080/", "https://server:8080/", "", "nonsense:"):
        assert find_token(HTTP, file, {}, UserConfig("/c", {"to": to})) is None


def test_token_for_raw_tcp(tokens: Path) -> None:
    """Raw TCP has no tokens: one that is given for it is an error, others are not sent."""
    raw = parse_target("server")
    assert find_token(raw, None, {"TWISTED_UPLOAD_TOKEN": "x"}, UserConfig()) is None
    with pytest.raises(click.UsageError, match="raw TCP has no tokens"):
        find_token(raw, Given(f"{tokens}/option", "--token-file"), {}, UserConfig())


@pytest.mark.parametrize(
    ("content", "mode", "error"),
    [
        (b"two\nlines", 0o600, "it is not a token"),
        (b"", 0o600, "it is not a token"),
        (b"\xff", 0o600, "it is not a token"),
        (b"tok_value", 0o644, "other users may read it: chmod o-rwx"),
        (b"tok_value", 0o620, "other users may write to it: chmod go-w"),
        (None, 0, "No such file or directory"),
    ],
)
def test_unusable_token(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | None, mode: int, error: str
) -> None:
    """A file that has no token, or is not private, is an error that names it, not its content."""
    path = tmp_path_factory.mktemp("private") / "file"
    if content is not None:
        path.write_bytes(content)
        path.chmod(mode)
    with pytest.raises(click.UsageError) as raised:
        find_token(HTTP, Given(str(path), "--token-file"), {}, UserConfig())
    assert re.match(rf"--token-file: .*{re.escape(str(path))}: {error}", str(raised.value))
    assert "tok_value" not in str(raised.value)


def test_unusable_variable() -> None:
    """A variable that has no token is named, without its content."""
    with pytest.raises(click.UsageError, match=r"^TWISTED_UPLOAD_TOKEN: it is not a token"):
        find_token(HTTP, None, {"TWISTED_UPLOAD_TOKEN": "a b"}, UserConfig())
