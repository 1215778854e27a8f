"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .settings import GIB, Settings
from .storage import memory, mount_of


def machine(settings: Settings) -> dict[str, str]:
    """The day, the machine and the versions, as words for a report."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory('MemTotal') / GIB:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system of the large case": _file_system(settings.directory),
        "Python": platform.python_version(),
        "Twisted": _version("twisted"),
        "twisted-upload": _version("twisted-upload"),
        "peers": ", ".join(_peers()),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _file_system(path: Path) -> str:
    kind = mount_of(path)[1]
    return "ext4" if kind == "ext4" else f"journalled ext4 on a loop device (over {kind})"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _peers() -> list[str]:
    found = [f"{name} {_version(name)}" for name in ("pyftpdlib", "uploadserver", "copyparty")]
    for name, option in (
        ("socat", "-V"),
        ("ncat", "--version"),
        ("nginx", "-v"),
        ("java", "-version"),
    ):
        try:
            done = subprocess.run([name, option], capture_output=True, text=True, check=False)
        except OSError:
            continue
        words = [word.strip('",') for word in (done.stdout + done.stderr).replace("/", " ").split()]
        numbers = [word for word in words if word[:1].isdigit()]
        found.append(f"{name} {numbers[0] if numbers else ''}".strip())
    return [name for name in found if "not installed" not in name] or [sys.implementation.name]
