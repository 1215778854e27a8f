"""
``python -m tests.engines.seaweedfs``: SeaweedFS in one process, on free ports of 127.0.0.1,
until Ctrl-C.

It needs the program ``weed`` (`MISSING` says how to install it).
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.engines.engine import ACCESS_KEY, BUCKET, SECRET_KEY, Engine
from tests.support.daemon import deadly
from tests.support.tools import free_port

__all__ = ["MISSING", "SeaweedFS", "program"]

MISSING = "needs SeaweedFS: pip install --require-hashes -r tests/engines/requirements.txt"

_READY = 40.0
"""Seconds until it must answer; it takes 2 to 10."""

_CONFIG = {
    "identities": [
        {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
    ]
}

_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
)


def program() -> str | None:
    """Return the path of ``weed``, beside this Python or on the PATH; `None` if there is none."""
    return shutil.which("weed", path=f"{sysconfig.get_path('scripts')}:{os.environ['PATH']}")


class SeaweedFS:
    """
    SeaweedFS in a ``with`` block; it has the bucket `BUCKET`.

    It keeps its ports and its data if it is killed and started again.

    :param folder: for its data, which is removed at the end.
    :ivar engine: how it is reached.
    """

    def __init__(self, folder: Path) -> None:
        weed = program()
        assert weed is not None, MISSING
        self._folder = folder
        self._ports = {name: free_port() for name in _PORTS}
        self._command = [
            *(*deadly(), weed, "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
            *("-filer", "-s3", "-s3.iam=false", "-s3.port.iceberg=0", "-s3.port.lance=0"),
            *(f"-{name}={port}" for name, port in self._ports.items()),
            *(f"-dir={folder}/data", f"-s3.config={folder}/weed.json"),
            *("-master.volumeSizeLimitMB=1024", "-volume.max=20", "-volume.minFreeSpacePercent=0"),
            *("-master.telemetry=false", "-master.electionTimeout=1s"),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Return its log."""
        return self._folder / "weed.log"

    @property
    def engine(self) -> Engine:
        assert self._process is not None
        return Engine("seaweedfs", f"http://127.0.0.1:{self._ports['s3.port']}", self._process.pid)

    def __enter__(self) -> Self:
        (self._folder / "data").mkdir(parents=True)
        (self._folder / "weed.json").write_text(json.dumps(_CONFIG))
        try:
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._end()

    def start(self) -> None:
        """Start it, and wait until it serves requests."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder
            )
        end = time.monotonic() + _READY
        while not self._serves():
            assert self._process.poll() is None, f"SeaweedFS has ended: {self._end_of_log()}"
            assert time.monotonic() < end, f"SeaweedFS does not serve: {self._end_of_log()}"
            time.sleep(0.05)

    def pause(self) -> None:
        """Stop it as a machine that hangs does: connections are accepted, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it continue."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill it with -9; `start` starts it again."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _serves(self) -> bool:
        """Return whether an object can be stored, which is later than that S3 answers."""
        witness = self.engine.witness(BUCKET)
        try:
            witness.create()
            witness.put(".ready", b"ready")
            witness.remove(".ready")
        except (OSError, http.client.HTTPException):
            return False
        return True

    def _end_of_log(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def _end(self) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self._folder / "data", ignore_errors=True)
        for name, port in self._ports.items():  # it makes a socket for each, and leaves it
            which = name.replace(".port.", "-").removesuffix(".port")
            Path(f"/tmp/seaweedfs-{which}-{port}.sock").unlink(missing_ok=True)


def main() -> None:
    """Run one until Ctrl-C."""
    if program() is None:
        sys.exit(MISSING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with tempfile.TemporaryDirectory() as folder, SeaweedFS(Path(folder, "weed")) as server:
        for name, value in server.engine.environment().items():
            print(f"export {name}={value}")
        print(f"# bucket {BUCKET}; Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
