"""
The units in the package, and the command that installs them.

``tests/proofs/under_systemd.py`` tests them under a real systemd.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from twisted_upload.config.configuration import configure
from twisted_upload.config.options import DaemonSettings
from twisted_upload.config.sources import Layer, SourcedValue
from twisted_upload.daemon.service import MAX_STOP_TIME
from twisted_upload.daemon.systemd_units import CONFIGURATION, CannotInstall, main, units

TWISTD = "/opt/twisted-upload/bin/twistd"
SERVICE = "etc/systemd/system/twisted-upload.service"
SOCKET = "etc/systemd/system/twisted-upload.socket"


def values(name: str, text: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


def test_program() -> None:
    """The service runs the installed twistd, and no placeholder is left."""
    texts = units(TWISTD, 252)
    assert values("ExecStart", texts[SERVICE]) == [
        f"{TWISTD} --nodaemon --pidfile= upload --config /etc/twisted-upload.toml"
    ]
    assert not re.search("@[A-Z]+@", "".join(texts.values()))
    assert "ListenStream=6666\n" in texts[SOCKET]


@pytest.mark.parametrize(
    ("version", "kind", "reload"),
    [
        (0, "notify", ['/bin/sh -c "kill -HUP ${MAINPID}"']),
        (252, "notify", ['/bin/sh -c "kill -HUP ${MAINPID}"']),
        (253, "notify-reload", []),
        (260, "notify-reload", []),
    ],
)
def test_reload(version: int, kind: str, reload: list[str]) -> None:
    """If systemd can wait for a reload, it does."""
    service = units(TWISTD, version)[SERVICE]
    assert values("Type", service) == [kind]
    assert values("ExecReload", service) == reload


def test_time_to_stop() -> None:
    """systemd waits longer than a stop takes with the default drain time."""
    (seconds,) = values("TimeoutStopSec", units(TWISTD, 0)[SERVICE])
    assert float(seconds) > DaemonSettings().drain + MAX_STOP_TIME


def test_journal(tmp_path: Path) -> None:
    """The installed configuration has a journal in a folder that the service may write to."""
    texts = units(TWISTD, 252)
    (tmp_path / "x.toml").write_text(texts[CONFIGURATION])
    layer: Layer = {
        "config": SourcedValue("x.toml", "--config"),
        "listen": SourcedValue(("systemd",), "x"),
    }
    configuration = configure(layer, {}, str(tmp_path))
    (logs,) = values("LogsDirectory", texts[SERVICE])
    assert configuration.settings.journal == f"/var/log/{logs}/uploads"
    (state,) = values("StateDirectory", texts[SERVICE])
    assert configuration.listeners[0].settings.directory == f"/var/lib/{state}"


@pytest.mark.parametrize("program", ["docker", "podman"])
def test_container(program: str) -> None:
    """The container file has commands for both programs, unprivileged and with time to stop."""
    text = (ROOT / "Containerfile").read_text("utf-8")
    joined = re.sub(r"\\\n# +", " ", text)
    (build,) = re.findall(rf"^#   ({program} build .*)$", joined, re.MULTILINE)
    (run,) = re.findall(rf"^#   ({program} run .*)$", joined, re.MULTILINE)
    assert ("-f Containerfile" in build) is (program == "docker")
    assert ("--format docker" in build) is (program == "podman")
    for option in ("--read-only", "--security-opt no-new-privileges", "-p 6666:6666"):
        assert option in run
    assert re.search("--cap-drop all", run, re.IGNORECASE)
    (seconds,) = re.findall(r"--stop-timeout (\d+)", run)
    assert float(seconds) > MAX_STOP_TIME + 10
    (inbox,) = re.findall(r"^VOLUME (.*)$", text, re.MULTILINE)
    assert f"-v inbox:{inbox} " in run


@pytest.mark.parametrize("where", ["/home/me/v/bin/twistd", "/root/twistd", "/tmp/v/bin/twistd"])
def test_hidden(where: str) -> None:
    """A program that the sandbox hides from the service is an error that suggests a solution."""
    with pytest.raises(CannotInstall, match=r"^a service cannot see .* /opt/twisted-upload\)$"):
        units(where, 0)


@pytest.mark.parametrize("where", ["/opt/my venv/bin/twistd", '/opt/"/twistd', "/opt/%h/twistd"])
def test_strange_path(where: str) -> None:
    """A path with characters that are special to systemd is an error."""
    with pytest.raises(CannotInstall, match="characters"):
        units(where, 0)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command seem to run from a folder that a service can see."""
    monkeypatch.setattr("sysconfig.get_path", lambda _: "/opt/twisted-upload/bin")


@pytest.mark.usefixtures("scripts")
def test_print(capsys: pytest.CaptureFixture[str]) -> None:
    """Without --install it prints what it would write, and writes nothing."""
    main([])
    out = capsys.readouterr().out
    assert f"# /{SERVICE}\n" in out
    assert TWISTD in out


@pytest.mark.usefixtures("scripts")
def test_install(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It writes four files; a second run updates them, except for the configuration."""
    main(["--install", f"--root={tmp_path}"])
    out = capsys.readouterr().out
    assert out.count("installed ") == 4
    assert "next: systemctl enable --now twisted-upload.socket twisted-upload.service\n" in out
    configuration = tmp_path / "etc/twisted-upload.toml"
    configuration.write_text("mine")
    (tmp_path / SERVICE).write_text("older")
    main(["--install", f"--root={tmp_path}"])
    assert capsys.readouterr().out.count("installed ") == 1
    assert configuration.read_text() == "mine"
    assert TWISTD in (tmp_path / SERVICE).read_text()


@pytest.mark.usefixtures("scripts")
def test_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A write error is one line and exit status 1."""
    (tmp_path / "etc").write_text("a file")
    with pytest.raises(SystemExit) as ended:
        main(["--install", f"--root={tmp_path}"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_system_calls() -> None:
    """Of the resource calls, only the two that lower its priority are allowed."""
    assert values("SystemCallFilter", units(TWISTD, 252)[SERVICE]) == [
        "@system-service",
        "~@privileged @resources",
        "setpriority",
        "sched_setscheduler",
    ]


def test_security(tmp_path: Path) -> None:
    """systemd rates the service's exposure at 0.5 or better."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze")
    for place in (SERVICE, SOCKET):
        text = units(TWISTD, 252)[place].replace(TWISTD, "/bin/true")
        (tmp_path / os.path.basename(place)).write_text(text)
    options = ["--no-pager", "--offline=true", "--threshold=5"]
    done = subprocess.run(
        ["systemd-analyze", "security", *options, str(tmp_path / "twisted-upload.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd-analyze is too old for this")
    found = re.search(r"exposure level for twisted-upload.service: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    assert float(found[1]) <= 0.5
    assert done.returncode == 0
