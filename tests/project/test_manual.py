"""
The manual pages.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

import twisted_upload
from docs.man.generate import PAGES, main, path_of
from twisted_upload.cli.invite import invite
from twisted_upload.cli.log import read_journal
from twisted_upload.cli.main import program
from twisted_upload.cli.ping import ping
from twisted_upload.cli.streams import ExitStatus
from twisted_upload.cli.token import token
from twisted_upload.cli.watch import watch
from twisted_upload.config.option import Option
from twisted_upload.config.options import OPTIONS
from twisted_upload.config.sources import read_file
from twisted_upload.core.answers import CODES
from twisted_upload.daemon.tap import Options
from twisted_upload.errors import WrongConfiguration

FOLDER = Path(twisted_upload.__file__).parent / "share" / "man"


def page(name: str) -> str:
    return (FOLDER / path_of(name)).read_text("ascii")


def terms(name: str, heading: str) -> list[str]:
    """Return the terms that are explained under a heading."""
    part = page(name).partition(f'.SH "{heading}"\n')[2].partition(".SH ")[0]
    found = re.findall(r"^\.TP\n(.*)$", part, re.MULTILINE)
    return [re.sub(r"\\f[BIR]", "", term).replace(r"\-", "-") for term in found]


def named(found: list[str]) -> set[str]:
    return {name for term in found for name in re.findall(r"--[a-z0-9-]+", term)}


@pytest.mark.parametrize("name", PAGES)
def test_committed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """
    The shipped page is up to date with the options.  If not, run:
    ``python -m docs.man.generate --write twisted_upload/share/man``.
    """
    main([name])
    assert capsys.readouterr().out == page(name)


def test_nothing_else() -> None:
    """There are no other pages."""
    shipped = {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}
    assert shipped == {path_of(name) for name in PAGES}


def test_options_of_the_daemon() -> None:
    """twistd-upload(8) has all options."""
    assert named(terms("twistd-upload", "OPTIONS")) == {
        f"--{name.rstrip('=')}" for name in Options().longOpt
    }
    assert terms("twistd-upload", "CODES") == [*CODES]


def test_options_of_listeners(tmp_path: Path) -> None:
    """twistd-upload(8) lists the options that a listener in a configuration file may set."""
    (listed,) = re.findall(r"can override: ([^.]*)\.\n", page("twistd-upload").replace("\\-", "-"))
    file = tmp_path / "x.toml"

    def may_be_set(option: Option) -> bool:
        file.write_text(f'[[listener]]\nname = "x"\n{option.name} = "yes"\n')
        try:
            read_file(str(file), "--config")
        except WrongConfiguration:
            return False
        return True

    assert listed.replace("\n", " ").split(", ") == [it.name for it in OPTIONS if may_be_set(it)]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("twisted-upload", program),
        ("twisted-upload-log", read_journal),
        ("twisted-upload-ping", ping),
        ("twisted-upload-invite", invite),
        ("twisted-upload-watch", watch),
        ("twisted-upload-token", token.commands["add"]),
    ],
)
def test_options_of_the_command(name: str, command: click.Command) -> None:
    """The pages of the command have all options."""
    options = command.get_params(click.Context(command, **command.context_settings))
    names = {name for it in options if isinstance(it, click.Option) for name in it.opts}
    found = terms(name, "OPTIONS")
    assert named(found) == {name for name in names if name.startswith("--")}
    assert all(name in " ".join(found) for name in names)


def test_exit_statuses() -> None:
    """The page of the command has all exit statuses."""
    statuses = {str(value) for name, value in vars(ExitStatus).items() if name.isupper()}
    assert {*terms("twisted-upload", "EXIT STATUS")} == statuses


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    "checker",
    [
        ["mandoc", "-Tlint", "-Wstyle"],
        ["groff", "-man", "-ww", "-z", "-Tutf8"],
        ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"],
    ],
    ids=" ".join,
)
def test_clean(checker: list[str], name: str) -> None:
    """Formatters have no complaints about a page."""
    if not shutil.which(checker[0]):
        pytest.skip(f"{checker[0]} is not installed")
    done = subprocess.run(
        [*checker, str(FOLDER / path_of(name))], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    if checker[0] == "mandoc":
        assert done.stdout == ""
    assert done.returncode == 0


def test_write(tmp_path: Path) -> None:
    """One command writes all pages, and reports write errors."""
    command = [sys.executable, "-m", "docs.man.generate", "--write"]
    subprocess.run([*command, str(tmp_path / "man")], check=True)
    for name in PAGES:
        assert (tmp_path / "man" / path_of(name)).read_text("ascii") == page(name)
    (tmp_path / "file").touch()
    done = subprocess.run(
        [*command, str(tmp_path / "file")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("python -m docs.man.generate: cannot write ")
    assert done.stderr.count("\n") == 1
