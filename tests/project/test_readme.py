"""
The README is true.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.daemon import Configured, Daemon, connect, deadly, finish, photo, twistd
from twisted_upload.cli.streams import ExitStatus
from twisted_upload.config.options import OPTIONS
from twisted_upload.core.answers import CODES
from twisted_upload.daemon.tap import Options

README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8") if README.exists() else ""

pytestmark = pytest.mark.skipif(not TEXT, reason="the README is not beside the tests")


def block(marker: str) -> str:
    """The code block below a marker."""
    match = re.search(rf"<!-- {marker} -->\n```\w+\n(.*?)```", TEXT, re.DOTALL)
    assert match is not None, marker
    return match[1]


def commands() -> list[str]:
    """Every shell command that a reader may copy."""
    return re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)


def test_options() -> None:
    """The table of options names all that there are, with their defaults."""
    table = TEXT[TEXT.index("<!-- options -->") :].split("\n\n")[0]
    rows = dict(re.findall(r"^\| `--([a-z-]+)` \| (.*?) \|", table, re.MULTILINE))
    options = Options()
    names = {name for name in (*options.longOpt,) if name not in ("help", "version")}
    assert set(rows) == {name.rstrip("=") for name in names}
    for option in OPTIONS:
        if option.default and not option.flag:
            assert rows[option.name] == f"`{option.default}`", option.name


def test_configuration(tmp_path: Path) -> None:
    """The sample of a configuration file is one, and its listeners serve."""
    text = block("configuration").replace("6666", "0").replace("7777", "0")
    with Configured(tmp_path, text) as daemon:
        assert len(daemon.addresses) == 3
        for family, address in daemon.addresses:
            # A relative path is one of the folder where the daemon runs.
            where = str(tmp_path / address) if isinstance(address, str) else address
            with connect(family, where) as peer:
                peer.sendall(b"something")
                assert finish(peer).decode().startswith("上传成功")
        assert len([*(tmp_path / "scans").glob("*.pdf")]) == 1
        assert len([*(tmp_path / "photos").glob("*.txt")]) == 2
        daemon.stop()


def test_print_config(tmp_path: Path) -> None:
    """The lines that --print-config is said to print are among those that it prints."""
    (shown,) = re.findall(r"```console\n\$ (TWISTED_UPLOAD_DRAIN.*?)\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "upload.toml").write_text(block("configuration"), encoding="utf-8")
    printed = _shell(shown[0].replace("twistd ", f"{twistd()} "), tmp_path)
    lines = printed.replace(f"{tmp_path}/", "/etc/").splitlines()
    for line in shown[1].splitlines():
        assert line in lines or line == "...", line


def test_codes() -> None:
    """The table of codes names all that there are."""
    assert re.findall(r"^\| `([a-z]+(?:-[a-z]+)?)` \| .* \| .* \|$", TEXT, re.MULTILINE) == [*CODES]


def test_exit_statuses() -> None:
    """The table of exit statuses names all that there are."""
    documented = {int(number) for number in re.findall(r"^\| (\d+) \|", TEXT, re.MULTILINE)}
    assert documented == {value for name, value in vars(ExitStatus).items() if name.isupper()}


@pytest.mark.skipif(not shutil.which("nc"), reason="nc is not installed")
def test_netcat_command(tmp_path: Path) -> None:
    """The netcat command sends a photo, and shows the answer."""
    if "-N" not in subprocess.run(["nc", "-h"], capture_output=True, text=True, check=False).stderr:
        pytest.skip("this nc knows no -N")
    (tmp_path / "photo.jpg").write_bytes(photo(100_000))
    with Daemon(tmp_path) as daemon:
        (command,) = [line for line in commands() if line.startswith("nc ")]
        said = _shell(command.replace("6666", str(daemon.address[1])), tmp_path)
        assert said == "上传成功"
        assert daemon.only_file() == photo(100_000)


def test_our_command(tmp_path: Path) -> None:
    """Our command sends a photo, and shows the answer."""
    (tmp_path / "photo.jpg").write_bytes(photo(100_000))
    with Daemon(tmp_path) as daemon:
        (command,) = [line for line in commands() if ".venv/bin/twisted-upload " in line]
        installed = f"{sys.executable} -m twisted_upload "
        command = command.replace(".venv/bin/twisted-upload ", installed)
        said = _shell(command.replace("6666", str(daemon.address[1])), tmp_path)
        assert said == "photo.jpg: 上传成功\n"
        assert daemon.only_file() == photo(100_000)


def test_python_program(tmp_path: Path) -> None:
    """The Python program sends a photo, and prints its hash."""
    (tmp_path / "photo.jpg").write_bytes(photo(100_000))
    with Daemon(tmp_path) as daemon:
        program = block("api").replace("6666", str(daemon.address[1]))
        said = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert said.stderr == ""
        assert "100000 bytes are safe, SHA-256 " in said.stdout
        assert daemon.only_file() == photo(100_000)


@pytest.mark.skipif(not shutil.which("man"), reason="man is not installed")
def test_manual_page(tmp_path: Path) -> None:
    """The command that shows a manual page does."""
    command = block("man").replace(".venv/bin/python", sys.executable)
    assert "a drop box for files" in _shell(command, tmp_path)


@pytest.mark.parametrize(
    ("shell", "script"),
    [
        ("bash", "{line}\ncomplete -p twisted-upload"),
        ("zsh", "autoload -Uz compinit; compinit -D -u\n{line}\nprint $_comps[twisted-upload]"),
        ("fish", "{line}\ncomplete --command twisted-upload"),
    ],
)
def test_completion(tmp_path: Path, shell: str, script: str) -> None:
    """The line for each shell has it complete the command."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    (line,) = re.findall(rf"^\| {shell} \| `(.+?)` \|", TEXT, re.MULTILINE)
    done = subprocess.run(
        [shell, "-c", script.format(line=line.replace("\\|", "|"))],
        env={
            "PATH": f"{Path(twistd()).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert "_twisted_upload_completion" in done.stdout


def test_replay(tmp_path: Path) -> None:
    """The command that moves notes back has the program started again."""
    fails, said = tmp_path / "fails", tmp_path / "said"
    fails.touch()
    program = f"sh -c 'echo $UPLOAD_ATTEMPT >> {said}; [ ! -e {fails} ]'"
    with Daemon(tmp_path, "--on-upload", program, "--on-upload-attempts=1") as daemon:
        daemon.send(b"hello")
        daemon.wait_for_line("SET ASIDE")
        fails.unlink()
        _shell(block("replay"), tmp_path)
        daemon.wait_for_line("exit status 0")
    assert said.read_text() == "1\n1\n"


def test_store_of_your_own(tmp_path: Path) -> None:
    """The example of a store prints each message, and its sender is answered."""
    program = tmp_path / "printer.py"
    program.write_text(block("store"), encoding="utf-8")
    with subprocess.Popen(
        [*deadly(), sys.executable, str(program), "tcp:0:interface=127.0.0.1"],
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env={"PYTHONUTF8": "1", "PATH": "/usr/bin:/bin"},
    ) as printer:
        try:
            assert printer.stdout is not None
            port = int(printer.stdout.readline().rpartition(" ")[2])
            with socket.create_connection(("127.0.0.1", port), 10) as peer:
                peer.sendall("你好么? tcp ,我来了".encode())
                assert finish(peer).decode() == "我很好,谢谢你"
            assert "你好么? tcp ,我来了" in printer.stdout.readline()
        finally:
            printer.kill()


def _shell(command: str, folder: Path) -> str:
    done = subprocess.run(
        ["sh", "-c", command], cwd=folder, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stderr == ""
    return done.stdout
