"""
Uppy in Chromium, on a page of another origin, against the daemon.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.support.chromium import Chromium, Tab
from tests.support.daemon import wait_until
from tests.support.tus_daemon import TusDaemon, installed, make_file, partial_size

SIZE = 3_333_333
RATE = 2_000_000
"""Bytes per second, so that there is a middle."""

PAGE = """
<!doctype html><title>Uppy</title><link rel="icon" href="data:,">
<input type="file" id="file"><script src="uppy.min.js"></script><script>
const endpoint = new URLSearchParams(location.search).get("to");
const uppy = new Uppy.Uppy({autoProceed: true});
uppy.use(Uppy.Tus, {endpoint, chunkSize: 262144, retryDelays: Array(200).fill(100)});
uppy.on("complete", (result) => { window.done = result.successful.length; });
uppy.on("upload-progress", (file, {bytesUploaded}) => { window.sent = bytesUploaded; });
document.getElementById("file").onchange = (event) => {
  for (const file of event.target.files) uppy.addFile({name: file.name, data: file});
};
</script>
"""


class Quiet(SimpleHTTPRequestHandler):
    """A web server that logs nothing."""

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Do nothing."""


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[str]:
    """The origin of a web server with a page that uses Uppy."""
    folder = tmp_path / "web"
    folder.mkdir()
    script = installed("uppy") / "dist" / "uppy.min.js"
    (folder / "uppy.min.js").write_bytes(script.read_bytes())
    (folder / "index.html").write_text(PAGE)
    handler = functools.partial(Quiet, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def created(tab: Tab) -> int:
    """Return how many uploads a page has created."""
    return sum(method == "POST" for method, _, _ in tab.requests)


def test_uppy(tmp_path: Path, chromium: Chromium, origin: str) -> None:
    """Uppy uploads a file from a page of an origin that is allowed."""
    path, digest = make_file(tmp_path, SIZE)
    with TusDaemon(tmp_path, "--cors-origin", origin) as daemon, chromium.tab() as tab:
        tab.open(f"{origin}/?to={daemon.url}")
        tab.put("#file", Path(path))
        assert tab.until("window.done") == 1
        assert daemon.digests() == [digest]
        assert '"照片.jpg"' in daemon.lines("stored ")[0]
        assert not tab.complaints
        assert not tab.failed_requests


def test_another_origin(tmp_path: Path, chromium: Chromium, origin: str) -> None:
    """Uppy on a page of another origin cannot upload."""
    path, _ = make_file(tmp_path, SIZE)
    with TusDaemon(tmp_path) as daemon, chromium.tab() as tab:
        tab.open(f"{origin}/?to={daemon.url}")
        tab.put("#file", Path(path))
        tab.wait(lambda: tab.failed_requests, "a request that is blocked")
        assert not daemon.files()


def test_reloaded_page(tmp_path: Path, chromium: Chromium, origin: str) -> None:
    """When the page is reloaded in the middle, and the file chosen again, the rest is sent."""
    path, digest = make_file(tmp_path, SIZE)
    with TusDaemon(tmp_path, "--cors-origin", origin) as daemon, chromium.tab() as tab:
        tab.open(f"{origin}/?to={daemon.url}")
        tab.throttle(RATE)
        tab.put("#file", Path(path))
        tab.until("window.sent > 600000")
        tab.reload()
        assert not daemon.files()
        tab.throttle()
        tab.put("#file", Path(path))
        assert tab.until("window.done") == 1
        assert daemon.digests() == [digest]
        assert created(tab) == 1


def test_killed_daemon(tmp_path: Path, chromium: Chromium, origin: str) -> None:
    """When the daemon is killed in the middle, Uppy continues with the next one."""
    path, digest = make_file(tmp_path, SIZE)
    allowed = "--cors-origin", origin
    with chromium.tab() as tab:
        with TusDaemon(tmp_path, *allowed) as daemon:
            port = daemon.http_port
            tab.open(f"{origin}/?to={daemon.url}")
            tab.throttle(RATE)
            tab.put("#file", Path(path))
            wait_until(lambda: partial_size(daemon) > 600_000, "bytes of the upload")
            daemon.signal(9)
            daemon.wait_for_end()
        assert not tab.evaluate("window.done")
        tab.throttle()
        with TusDaemon(tmp_path, *allowed, port=port) as again:
            assert tab.until("window.done") == 1
            assert again.digests() == [digest]
            assert created(tab) == 1
