"""
``python -m twisted_upload.daemon.systemd_units --install``: install a systemd service.

Installs the units from the package, with the path of this Python's ``twistd``, a user,
and a configuration file if there is none yet.  Run it again after an upgrade: it
prints what it has installed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins

__all__ = ["CannotInstall", "main", "units"]

CONFIGURATION = "etc/twisted-upload.toml"

PATHS = {
    "twisted-upload.service": "etc/systemd/system/twisted-upload.service",
    "twisted-upload.socket": "etc/systemd/system/twisted-upload.socket",
    "twisted-upload.sysusers": "etc/sysusers.d/twisted-upload.conf",
    "twisted-upload.toml": CONFIGURATION,
}
"""Where the files of the package go, relative to the root."""

_NOTIFY_RELOAD = 253  # the first version of systemd that has Type=notify-reload
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108 - not used, but refused


class CannotInstall(Exception):
    """The text is one line that names what to change."""


def units(twistd: str, version: int) -> dict[str, str]:
    """
    Return the text of each file, by its path relative to the root.

    :param twistd: the absolute path of the program.
    :param version: the version of systemd; 0 if there is none.
    :raises CannotInstall: the service could not see the program, or its path cannot
        be written in a unit.
    """
    for folder in _HIDDEN:
        if os.path.realpath(twistd).startswith(f"{folder}/"):
            raise CannotInstall(
                f"a service cannot see {twistd}: install twisted-upload elsewhere (python3 -m venv"
                " /opt/twisted-upload)"
            )
    if not re.fullmatch(r"/[\w./+@~-]+", twistd):
        raise CannotInstall(f"{twistd!r} has characters that are not allowed in a unit")
    notify_reload = version >= _NOTIFY_RELOAD
    reload = [] if notify_reload else ['ExecReload=/bin/sh -c "kill -HUP ${MAINPID}"']
    values = {
        "ExecReload=@RELOAD@\n": "".join(f"{line}\n" for line in reload),
        "@TYPE@": "notify-reload" if notify_reload else "notify",
        "@TWISTD@": twistd,
    }
    share = files("twisted_upload") / "share" / "systemd"
    found = {}
    for name, target in PATHS.items():
        text = (share / name).read_text("utf-8")
        for old, new in values.items():
            text = text.replace(old, new)
        found[target] = text
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """
    Run the command.

    :param arguments: instead of those of the command line.
    """
    parser = argparse.ArgumentParser(
        prog="python -m twisted_upload.daemon.systemd_units",
        description="Print the systemd units, or install them.",
    )
    parser.add_argument("--install", action="store_true", help="install; needs root")
    parser.add_argument(
        "--root", default="/", metavar="FOLDER", help="install into the system below this directory"
    )
    given = parser.parse_args(arguments)
    twistd = os.path.join(sysconfig.get_path("scripts"), "twistd")
    try:
        texts = units(twistd, _version())
        if given.install:
            _install(Path(given.root), texts)
        else:
            for target, text in texts.items():
                sys.stdout.write(f"# /{target}\n\n{text}\n")
    except CannotInstall as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        raise SystemExit(1) from None
    except OSError as error:
        sys.stderr.write(f"{parser.prog}: cannot write {error.filename}: {error.strerror}\n")
        raise SystemExit(1) from None


def _version() -> int:
    systemctl = shutil.which("systemctl")
    if systemctl is None:
        return 0
    done = subprocess.run([systemctl, "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"systemd (\d+)", done.stdout)
    return int(found[1]) if found else 0


def _install(root: Path, texts: Mapping[str, str]) -> None:
    for target, text in texts.items():
        path = root / target
        if target == CONFIGURATION and path.exists():
            continue
        if path.exists() and path.read_text("utf-8") == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
        sys.stdout.write(f"installed {path}\n")
    if root == Path("/"):
        _run("systemd-sysusers", str(root / PATHS["twisted-upload.sysusers"]))
        _run("systemctl", "daemon-reload")
        # This writes Twisted's cache of plugins, which the service may not write.
        list(getPlugins(IServiceMaker))
    sys.stdout.write("next: systemctl enable --now twisted-upload.socket twisted-upload.service\n")


def _run(*command: str) -> None:
    program = shutil.which(command[0])
    if program is None:
        raise CannotInstall(f"{command[0]} was not found")
    done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotInstall(f"{' '.join(command)}: {done.stderr.strip() or 'failed'}")


if __name__ == "__main__":
    main()
