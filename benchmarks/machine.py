"""The machine and the versions that the figures were measured on."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from .build import HERE
from .settings import GIB, Settings
from .storage import memory, mount_of


def machine(settings: Settings) -> dict[str, str]:
    """Return the date, the machine and the versions, as text for a report."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "memory": f"{memory('MemTotal') / GIB:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system of the large case": _file_system(settings.directory),
        **_ours(settings),
        "peers": ", ".join(_peers()),
    }


def _ours(settings: Settings) -> dict[str, str]:
    words = {}
    own = about(Path(sys.executable))
    words["Python"] = interpreter(own)
    words["Twisted"] = own["twisted"]
    words["twisted-upload"] = daemon(own)
    if settings.before is not None:
        earlier = about(settings.before)
        words["earlier version"] = (
            f"{daemon(earlier)}, Twisted {earlier['twisted']}, Python {interpreter(earlier)}"
        )
    return words


def about(python: Path) -> dict[str, str]:
    """Return what `scripts/about.py` prints when `python` runs it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    line = [str(python), str(HERE / "scripts" / "about.py")]
    done = subprocess.run(
        line, capture_output=True, text=True, check=True, cwd="/", env=environment
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def interpreter(about: Mapping[str, str | None]) -> str:
    """Describe an interpreter: its version, and whether its build was optimized."""
    built = how_built(about["arguments"])
    name = "" if about["implementation"] == "CPython" else f"{about['implementation']} "
    return f"{name}{about['python']}, {about['compiler']}, built {built}"


def how_built(arguments: str | None) -> str:
    """
    Return what the arguments of its `configure` tell about an interpreter's speed.

    PGO is profile-guided optimization, LTO link-time optimization.
    """
    if arguments is None:
        return "nobody knows how"
    given = shlex.split(arguments)
    has = {
        "PGO": "--enable-optimizations" in given,
        "LTO": any(it.startswith("--with-lto") and not it.endswith("=no") for it in given),
    }
    words = [f"with{'' if there else 'out'} {what}" for what, there in has.items()]
    return ", ".join(words)


def daemon(about: Mapping[str, str | None]) -> str:
    """Return the version of the daemon, and its commit if it runs from a work tree."""
    return f"{about['version']}" + (f", commit {about['commit']}" if about["commit"] else "")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _file_system(path: Path) -> str:
    kind = mount_of(path)[1]
    return "ext4" if kind == "ext4" else f"journalled ext4 on a loop device (over {kind})"


PACKAGES = (
    "pyftpdlib", "uploadserver", "copyparty", "uvicorn", "aiohttp", "tuspyserver",
    "resumable-upload",
)  # fmt: skip
"""The peers that are Python packages."""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _peers() -> list[str]:
    found = [f"{name} {_version(name)}" for name in PACKAGES]
    pinned = json.loads((HERE / "node" / "package.json").read_text())["dependencies"]
    found += [f"{name} {number}" for name, number in pinned.items()]
    for name, option in (
        ("curl", "--version"),
        ("node", "--version"),
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
        numbers = [word for word in words if word.lstrip("v")[:1].isdigit()]
        found.append(f"{name} {numbers[0] if numbers else ''}".strip())
    return [name for name in found if "not installed" not in name] or [sys.implementation.name]
