"""
The examples in the guides, in the reference and in the pages for operators work.
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

from tests.support.daemon import Configured, Daemon, connect, deadly, finish, photo, twistd
from tests.support.pages import DOCS, block, page, shell
from tests.support.tools import tool

if not DOCS.exists():
    pytest.skip("the pages are not beside the tests", allow_module_level=True)

SERVICE_FOLDER = "/var/lib/twisted-upload"

CONFIGURATION = "docs/guide/configuration.md"


@pytest.mark.parametrize("marker", ["send-nc", "send"])
def test_first_upload(tmp_path: Path, marker: str) -> None:
    """Each command of the first steps sends a photo and shows the answer."""
    if marker == "send-nc":
        tool("nc")
        usage = subprocess.run(["nc", "-h"], capture_output=True, text=True, check=False)
        if "-N" not in usage.stderr:
            pytest.skip("this nc does not support -N")
    (tmp_path / "photo.jpg").write_bytes(photo(100_000))
    with Daemon(tmp_path) as daemon:
        command = block("docs/guide/start.md", marker)
        output = shell(command.replace("6666", str(daemon.address[1])), tmp_path)
        assert output == {"send": "photo.jpg: stored\n", "send-nc": "上传成功"}[marker]
        assert daemon.only_file() == photo(100_000)


def test_first_upload_by_curl(tmp_path: Path) -> None:
    """The first command of the first steps sends a photo over HTTP and shows the receipt."""
    tool("curl")
    (tmp_path / "photo.jpg").write_bytes(photo(100_000))
    with Daemon(tmp_path, "--http=tcp:0:interface=127.0.0.1") as daemon:
        command = block("docs/guide/start.md", "send-curl").replace("curl", "curl -sS")
        output = shell(command.replace("localhost:8080", "{}:{}".format(*daemon.address)), tmp_path)
        assert output.startswith("上传成功 ")
        assert daemon.only_file() == photo(100_000)


def test_plain_uploads(tmp_path: Path) -> None:
    """The commands for HTTP store each file, and show the answers."""
    tool("curl")
    (tmp_path / "photo.jpg").write_bytes(photo(100_000))
    with Daemon(tmp_path, "--http=tcp:0:interface=127.0.0.1") as daemon:
        command = block("docs/reference/http.md", "plain").replace("curl", "curl -sS")
        where = "{}:{}".format(*daemon.address)
        answers = shell(command.replace("server:8080", where), tmp_path).splitlines()
        assert [line.split()[0] for line in answers] == ["上传成功"] * 3
        assert {file.read_bytes() for file in daemon.files()} == {photo(100_000)}


def test_tokens(tmp_path: Path) -> None:
    """With the token that the first command prints, curl uploads in both ways."""
    tool("curl")
    page_name = "docs/guide/access.md"
    add, start = block(page_name, "tokens").splitlines()
    (tmp_path / "photo.jpg").write_bytes(photo(1000))
    token = shell(add, tmp_path).strip()
    options = start.partition("--http 8080 ")[2].split()
    with Daemon(tmp_path, "--http=tcp:0:interface=127.0.0.1", *options) as daemon:
        where = "{}:{}".format(*daemon.address)
        commands = block(page_name, "token-curl").replace("server:8080", where)
        answers = shell(f"TOKEN={token}\n{commands.replace('curl', 'curl -sS')}", tmp_path)
        assert answers.count("上传成功") == 2
        record = daemon.wait_for_line("stored ")
        assert 'label "scanner"' in record


def test_invitations(tmp_path: Path) -> None:
    """The commands make a key, and a link that the daemon accepts."""
    tool("curl")
    page_name = "docs/guide/access.md"
    new_key, start = block(page_name, "invitations").splitlines()
    shell(new_key, tmp_path)
    (tmp_path / "photo.jpg").write_bytes(photo(1000))
    token = shell(block(page_name, "invite"), tmp_path).strip().partition("#token=")[2]
    options = start.partition("--http 8080 ")[2].split()
    with Daemon(tmp_path, "--http=tcp:0:interface=127.0.0.1", *options) as daemon:
        url = "http://{}:{}/".format(*daemon.address)
        command = f'curl -sS -T photo.jpg -H "Authorization: Bearer {token}" {url}'
        assert shell(command, tmp_path).startswith("上传成功")
        assert 'label "Alice"' in daemon.wait_for_line("stored ")


def test_ping(tmp_path: Path) -> None:
    """The command that checks a server works, and nothing is stored."""
    with Daemon(tmp_path) as daemon:
        command = block("docs/guide/start.md", "ping")
        shell(command.replace("6666", str(daemon.address[1])), tmp_path)
        assert daemon.files() == []


def test_watch(tmp_path: Path) -> None:
    """The commands of a folder that empties itself store its files, and tell what it does."""
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.jpg").write_bytes(photo(100_000))
    with Daemon(tmp_path, "--http=tcp:0:interface=127.0.0.1") as daemon:
        where = "{}:{}".format(*daemon.address)
        command = block("docs/guide/watch.md", "watch").replace("localhost:8080", where)
        status = block("docs/guide/watch.md", "watch-status")
        script = (
            "export XDG_STATE_HOME=$PWD/state; touch watch.log\n"
            f"{command.strip()} --settle 1s > watch.log &\n"
            "until grep -q deleted watch.log; do sleep 0.1; done\n"
            f"until {status.strip()} | grep 'stored: 1'; do sleep 0.1; done; kill $!; wait $!"
        )
        script = script.replace("twisted-upload watch", ".venv/bin/twisted-upload watch")
        assert "stored: 1 file" in shell(script, tmp_path)
        assert daemon.only_file() == photo(100_000)
        assert not [*(tmp_path / "scans").iterdir()]


def test_watch_unit(tmp_path: Path) -> None:
    """systemd understands the unit, if it is there to be asked."""
    unit = tmp_path / "scans.service"
    text = block("docs/guide/watch.md", "watch-unit")
    unit.write_text(text.replace("/opt/twisted-upload/bin/twisted-upload", "/bin/true"))
    command = text.partition("ExecStart=")[2].splitlines()[0].split()
    assert command[1] == "watch"
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert "scans.service" not in done.stderr


@pytest.mark.parametrize(
    ("name", "marker"), [("docs/guide/senders.md", "unix"), ("docs/guide/limits.md", "allow")]
)
def test_command_of_the_daemon(tmp_path: Path, name: str, marker: str) -> None:
    """A command that starts the daemon is valid, and --check finds no error."""
    command = block(name, marker).replace("twistd ", f"{twistd()} ").strip()
    assert "configuration: no file, 1 listener" in shell(f"{command} --check", tmp_path)


def test_configuration(tmp_path: Path) -> None:
    """The sample of a configuration file is valid, and its listeners serve."""
    text = block(CONFIGURATION, "configuration").replace("6666", "0").replace("7777", "0")
    with Configured(tmp_path, text) as daemon:
        assert len(daemon.addresses) == 3
        for family, address in daemon.addresses:
            # A relative path is relative to the folder in which the daemon runs.
            where = str(tmp_path / address) if isinstance(address, str) else address
            with connect(family, where) as peer:
                peer.sendall(b"something")
                assert finish(peer).decode().startswith("上传成功")
        assert len([*(tmp_path / "scans").glob("*.pdf")]) == 1
        assert len([*(tmp_path / "photos").glob("*.txt")]) == 2
        daemon.stop()


def test_print_config(tmp_path: Path) -> None:
    """The documented lines of --print-config are among those that it prints."""
    command, _, shown = block(CONFIGURATION, "print-config").partition("\n")
    sample = block(CONFIGURATION, "configuration")
    (tmp_path / "upload.toml").write_text(sample, encoding="utf-8")
    printed = shell(command.removeprefix("$ ").replace("twistd ", f"{twistd()} "), tmp_path)
    lines = printed.replace(f"{tmp_path}/", "/etc/").splitlines()
    for line in shown.splitlines():
        assert line in lines or line == "...", line


def without_measures(text: str) -> list[str]:
    """Return lines with numbers, mount points and types of file systems replaced."""
    text = re.sub(r"\S+ at \S+,", "FS at FOLDER,", re.sub(r"[\d.]+", "N", text))
    return re.sub(r"[KMGT]iB|published by \w+", "X", text).splitlines()


def test_check(tmp_path: Path) -> None:
    """--check prints the documented output."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command, _, shown = block(CONFIGURATION, "check").partition("\n")
    command = command.removeprefix("$ ").replace("twistd ", f"{twistd()} ")
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    printed = shell(f"{command} --port {port}".replace("/srv/inbox", str(inbox)), tmp_path)
    printed = printed.replace(str(inbox), "/srv/inbox")
    lines = [line for line in printed.splitlines() if not line.startswith("warning:")]
    assert without_measures("\n".join(lines)) == without_measures(shown)


def test_haproxy(tmp_path: Path) -> None:
    """The configuration for HAProxy is valid."""
    haproxy = tool("haproxy")
    file = tmp_path / "haproxy.cfg"
    file.write_text(block("docs/guide/limits.md", "haproxy"), encoding="utf-8")
    subprocess.run([haproxy, "-c", "-f", file], check=True)


@pytest.mark.skipif(not shutil.which("man"), reason="man is not installed")
def test_manual_page(tmp_path: Path) -> None:
    """The command that shows a manual page works."""
    command = block("docs/reference/command.md", "man")
    command = command.replace(".venv/bin/python", f"cd {DOCS.parent} && .venv/bin/python")
    assert "a drop box for files" in shell(command, tmp_path)


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("bash", "{line}\ncomplete -p twisted-upload"),
        ("zsh", "autoload -Uz compinit; compinit -D -u\n{line}\nprint $_comps[twisted-upload]"),
        ("fish", "{line}\ncomplete --command twisted-upload"),
    ],
)
def test_completion(tmp_path: Path, name: str, script: str) -> None:
    """The line for each shell enables completion."""
    text = page("docs/reference/command.md")
    (line,) = re.findall(rf"^\| {name} \| `(.+?)` \|", text, re.MULTILINE)
    done = subprocess.run(
        [tool(name), "-c", script.format(line=line.replace("\\|", "|"))],
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


@pytest.mark.parametrize(
    ("name", "marker"),
    [("docs/guide/on-upload.md", "replay"), ("docs/operations/runbook.md", "replay-service")],
)
def test_replay(tmp_path: Path, name: str, marker: str) -> None:
    """After the command that moves markers back, the program is started again."""
    fails, output = tmp_path / "fails", tmp_path / "output"
    fails.touch()
    program = f"sh -c 'echo $UPLOAD_ATTEMPT >> {output}; [ ! -e {fails} ]'"
    with Daemon(tmp_path, "--on-upload", program, "--on-upload-attempts=1") as daemon:
        daemon.send(b"hello")
        daemon.wait_for_line("GIVEN UP")
        fails.unlink()
        shell(block(name, marker).replace(SERVICE_FOLDER, "inbox"), tmp_path)
        daemon.wait_for_line("exit status 0")
    assert output.read_text() == "1\n1\n"


def test_custom_store(tmp_path: Path) -> None:
    """The example of a store prints each message, and its sender gets an answer."""
    program = tmp_path / "printer.py"
    program.write_text(block("docs/guide/store.md", "store"), encoding="utf-8")
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


def test_finished_file(tmp_path: Path) -> None:
    """The store of ten lines moves each file to its folder, and prints its name."""
    program = tmp_path / "inbox.py"
    program.write_text(block("docs/guide/store.md", "finished"), encoding="utf-8")
    with subprocess.Popen(
        [*deadly(), sys.executable, str(program), "tcp:0:interface=127.0.0.1"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    ) as inbox:
        try:
            assert inbox.stdout is not None
            port = int(inbox.stdout.readline().rpartition(" ")[2])
            with socket.create_connection(("127.0.0.1", port), 10) as peer:
                peer.sendall(photo(100_000))
                assert finish(peer).decode() == "上传成功"
            _, name, size = inbox.stdout.readline().split()
        finally:
            inbox.kill()
    assert (name[-4:], size) == (".jpg", "100000")
    assert (tmp_path / "inbox" / name).read_bytes() == photo(100_000)


@pytest.mark.parametrize(
    ("options", "expected"),
    [([], ""), (["--max-size=1"], "not stored: too-large: "), (None, "not stored: ")],
    ids=["stored", "refused", "no server"],
)
def test_errors_in_python(tmp_path: Path, options: list[str] | None, expected: str) -> None:
    """The Python program prints what has happened."""
    program = block("docs/guide/python.md", "errors")

    def run(port: int) -> str:
        return subprocess.run(
            [sys.executable, "-c", program.replace("6666", str(port))],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout

    if options is None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        printed = run(port)
    else:
        with Daemon(tmp_path, *options) as daemon:
            printed = run(daemon.address[1])
    assert printed.startswith(expected)
    assert bool(printed) == bool(expected)


@pytest.mark.parametrize("marker", ["sync", "aio", "state"])
def test_other_programs(tmp_path: Path, marker: str) -> None:
    """The Python programs without Twisted store the photo, and print its name."""
    (tmp_path / "photo.jpg").write_bytes(photo(100_000))
    with Daemon(tmp_path, "--http=tcp:0:interface=127.0.0.1") as daemon:
        program = block("docs/guide/python.md", marker)
        printed = subprocess.run(
            [sys.executable, "-c", program.replace("8080", str(daemon.address[1]))],
            cwd=tmp_path,
            env={**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        ).stdout
        (stored,) = daemon.files()
        assert stored.read_bytes() == photo(100_000)
    assert (f"stored as {stored.name}" in printed) == (marker != "state")


def inbox_with_old_files(tmp_path: Path) -> Path:
    """A daemon's folder in which everything is old."""
    inbox = tmp_path / "inbox"
    for folder in ".incoming", ".on-upload/waiting", ".on-upload/failed":
        (inbox / folder).mkdir(parents=True)
    for name in "1.jpg", ".incoming/2", ".on-upload/waiting/3", ".on-upload/failed/4":
        (inbox / name).touch()
        os.utime(inbox / name, (0, 0))
    return inbox


def test_retention(tmp_path: Path) -> None:
    """The command removes old files, but neither new ones nor the daemon's folders."""
    inbox = inbox_with_old_files(tmp_path)
    (inbox / "new.jpg").touch()
    command = block("docs/operations/files.md", "retention")
    shell(command.replace(SERVICE_FOLDER, str(inbox)), tmp_path)
    assert not (inbox / "1.jpg").exists()
    left = {str(path.relative_to(inbox)) for path in inbox.rglob("*") if path.is_file()}
    assert left == {"new.jpg", ".incoming/2", ".on-upload/waiting/3", ".on-upload/failed/4"}


def test_retention_by_systemd(tmp_path: Path) -> None:
    """The lines for systemd-tmpfiles remove old files too (here at any age)."""
    program = tool("systemd-tmpfiles")
    inbox = inbox_with_old_files(tmp_path)
    text = block("docs/operations/files.md", "tmpfiles")
    assert " 30d\n" in text
    file = tmp_path / "twisted-upload.conf"
    file.write_text(text.replace(SERVICE_FOLDER, str(inbox)).replace(" 30d\n", " 0\n"))
    subprocess.run([program, "--clean", file], check=True)
    left = {str(path.relative_to(inbox)) for path in inbox.rglob("*") if path.is_file()}
    assert left == {".incoming/2", ".on-upload/waiting/3", ".on-upload/failed/4"}


def test_logrotate(tmp_path: Path) -> None:
    """The configuration for logrotate is valid."""
    file = tmp_path / "upload"
    file.write_text(block("docs/operations/logs.md", "logrotate"), encoding="utf-8")
    subprocess.run([tool("logrotate"), "--debug", file], check=True)


def test_old_logs(tmp_path: Path) -> None:
    """The command removes old log files, and nothing else."""
    for name in "twistd.log", "twistd.log.1", "uploads.1":
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    (tmp_path / "twistd.log.2").touch()
    command = block("docs/operations/logs.md", "old-logs")
    shell(command.replace("/var/log/upload", str(tmp_path)), tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"twistd.log", "twistd.log.2", "uploads.1"}


def test_backup(tmp_path: Path) -> None:
    """The command copies the stored files, but no folder of the daemon."""
    tool("rsync")
    inbox = inbox_with_old_files(tmp_path)
    command = block("docs/operations/backup.md", "backup")
    command = command.replace(SERVICE_FOLDER, str(inbox))
    shell(command.replace("backup:/srv/uploads/", str(tmp_path / "copy/")), tmp_path)
    assert [path.name for path in (tmp_path / "copy").iterdir()] == ["1.jpg"]


def test_share(tmp_path: Path) -> None:
    """The command prints where alert rules and dashboard are."""
    command = block("docs/reference/metrics.md", "share")
    command = command.replace("/opt/twisted-upload/bin/python", sys.executable)
    folder = Path(shell(command, tmp_path).strip())
    assert (folder / "alerts.yml").exists()
    assert (folder / "grafana.json").exists()
