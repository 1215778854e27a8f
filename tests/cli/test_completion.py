"""
Shell completion of the command, in real shells.
"""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.daemon import PATIENCE, deadly

SCRIPTS = sysconfig.get_path("scripts")

ASKED = [
    ("--t", {"--to", "--tls", "--tar", "--token-file"}),
    ("--retry", {"--retry", "--retry-unknown", "--retry-delay"}),
    ("photo.jpg --js", {"--json"}),
    ("pho", {"photo.jpg"}),
    ("not", {"notes.txt", "notes for you.txt"}),
    ("sub/", {"sub/inner.bin"}),
    ("lo", {"log", "logo.png"}),
    ("photo.jpg lo", {"logo.png"}),
    ("--cacert pho", {"photo.jpg"}),
    ("--token-file pho", {"photo.jpg"}),
    ("ping --se", {"--send"}),
    ("log --s", {"--since"}),
    ("log --outcome ", {"stored", "refused", "aborted"}),
    ("log --outcome stored --code no", {"not-allowed", "not-found", "no-space"}),
    ("log pho", {"photo.jpg"}),
    ("pi", {"ping"}),
    ("ping --ti", {"--timeout"}),
    ("tok", {"token"}),
    ("token add --f", {"--file"}),
    ("token list --file pho", {"photo.jpg"}),
    ("inv", {"invite"}),
    ("invite --inv", {"--invitation-keys"}),
    ("wat", {"watch"}),
    ("watch --mo", {"--move-to"}),
    ("serve --dis", {"--disk-threads"}),
    ("serve --config pho", {"photo.jpg"}),
]
"""What is typed, and the completions offered."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with files."""
    for name in ("photo.jpg", "notes.txt", "notes for you.txt", "logo.png", "sub/inner.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the completion script for each shell."""
    folder = tmp_path_factory.mktemp("scripts")
    for shell in ("bash", "zsh", "fish"):
        variables = environment(_TWISTED_UPLOAD_COMPLETE=f"{shell}_source")
        with (folder / shell).open("wb") as script:
            subprocess.run(["twisted-upload"], env=variables, stdout=script, check=True)
    return folder


def environment(**more: str) -> Mapping[str, str]:
    return {
        "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        "HOME": os.devnull,
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "COLUMNS": "200",
        **more,
    }


class Terminal:
    """
    A shell on a terminal.

    :param prompt: the prompt of the shell.
    """

    def __init__(self, command: Sequence[str], folder: Path, prompt: str) -> None:
        self._prompt = prompt
        self._ours, theirs = pty.openpty()
        try:
            self._shell = subprocess.Popen(
                [*deadly(), *command],
                cwd=folder,
                env=environment(PS1=prompt, PROMPT=prompt),
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                start_new_session=True,
            )
        finally:
            os.close(theirs)

    def close(self) -> None:
        """Close the terminal."""
        self._shell.kill()
        self._shell.wait()
        os.close(self._ours)

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self._ours, text.encode())

    def read(self, end: str) -> str:
        """Return the output up to and including a text."""
        shown = b""
        until = time.monotonic() + PATIENCE
        while end.encode() not in shown:
            ready, _, _ = select.select([self._ours], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"no {end!r} within the time: {shown.decode(errors='replace')}"
            shown += os.read(self._ours, 65536)
        return shown.decode(errors="replace")

    def offers(self, line: str) -> list[str]:
        """Return the lines that Tab shows at the end of a line."""
        self.type(f"{line}\t")
        shown = self.read(f"{self._prompt}{line}")
        return shown.partition("\r\n")[2].rpartition(self._prompt)[0].splitlines()

    def run(self, line: str) -> str:
        """Run a line, and return its output."""
        self.type(f"{line}\n")
        return self.read(self._prompt)


def needed(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed")
    return found


@pytest.fixture
def bash(folder: Path, scripts: Path) -> Iterator[Terminal]:
    """bash with completion of the command."""
    prompt = "bash waits> "
    with closing(
        Terminal([needed("bash"), "--norc", "--noprofile", "-i"], folder, prompt)
    ) as shell:
        shell.read(prompt)
        shell.run("bind 'set bell-style none'; bind 'set completion-query-items 0'")
        # Tab lists all completions and leaves the line unchanged.
        shell.run("bind '\"\\t\": possible-completions'; bind 'set page-completions off'")
        shell.run(f". {scripts}/bash")
        yield shell


@pytest.mark.parametrize(("typed", "offered"), ASKED)
def test_bash(bash: Terminal, typed: str, offered: set[str]) -> None:
    """In bash, Tab offers options, their values, files and the word log."""
    lines = bash.offers(f"twisted-upload {typed}")
    choices = {name for line in lines for name in re.split(r"\s{2,}", line) if name}
    assert choices == {name.rpartition("/")[2] for name in offered}


@pytest.mark.parametrize(("typed", "offered"), ASKED)
def test_fish(folder: Path, scripts: Path, typed: str, offered: set[str]) -> None:
    """fish offers the same."""
    script = f"source {scripts}/fish; complete --do-complete='twisted-upload {typed}'"
    done = subprocess.run(
        [needed("fish"), "--no-config", "--command", script],
        cwd=folder,
        env=environment(HOME=str(folder)),
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE,
    )
    assert {line.partition("\t")[0] for line in done.stdout.splitlines()} == offered


@pytest.fixture
def zsh(folder: Path, scripts: Path) -> Iterator[Terminal]:
    """zsh with completion of the command."""
    prompt = "zsh waits> "
    with closing(Terminal([needed("zsh"), "--no-rcs", "-i"], folder, prompt)) as shell:
        shell.read(prompt)
        shell.run("autoload -Uz compinit; compinit -D -u; unsetopt zle_bracketed_paste")
        shell.run(f". {scripts}/zsh")
        shell.run("bindkey '^I' list-choices; LISTMAX=10000")
        yield shell


@pytest.mark.parametrize(("typed", "offered"), ASKED)
def test_zsh(zsh: Terminal, typed: str, offered: set[str]) -> None:
    """zsh offers the same, with a description of each option."""
    lines = zsh.offers(f"twisted-upload {typed}")
    options = [line.partition(" -- ") for line in lines if line.startswith("--")]
    assert all(explained.strip() for _, _, explained in options)
    files = {name for line in lines if "--" not in line for name in re.split(r"\s{2,}", line)}
    files = {name.replace("\\", "") for name in files if name}
    choices = {name.strip() for name, _, _ in options} | files
    assert choices == {name.rpartition("/")[2] for name in offered}
