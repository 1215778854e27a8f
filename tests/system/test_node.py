"""
A daemon with the name of a node, and its resumable uploads.
"""

from __future__ import annotations

import http.client
import re
from pathlib import Path

from tests.support.tus_daemon import TusDaemon

TUS = {"Tus-Resumable": "1.0.0"}
APPEND = {**TUS, "Content-Type": "application/offset+octet-stream"}


def ask(
    daemon: TusDaemon, method: str, path: str, body: bytes = b"", **fields: str
) -> tuple[int, str]:
    """Return the status of a response, and the path of the upload that it names."""
    connection = http.client.HTTPConnection("127.0.0.1", daemon.http_port, timeout=10)
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    connection.request(method, path, body, {**(APPEND if body else TUS), **named})
    response = connection.getresponse()
    path = re.sub("^http://[^/]*", "", response.getheader("Location", ""))
    connection.close()
    return response.status, path


def test_uploads(tmp_path: Path) -> None:
    """The URL of an upload begins with the node, before and after a restart, also as a part."""
    with TusDaemon(tmp_path, "--node=one") as daemon:
        status, whole = ask(daemon, "POST", "/files/", Upload_Length="11")
        assert status == 201
        assert re.fullmatch(r"/files/one-[0-9a-f]{32}", whole)
        assert ask(daemon, "PATCH", whole, b"hello ", Upload_Offset="0") == (204, "")
        _, part = ask(daemon, "POST", "/files/", Upload_Length="3", Upload_Concat="partial")
        assert ask(daemon, "PATCH", part, b"abc", Upload_Offset="0") == (204, "")
    with TusDaemon(tmp_path, "--node=one") as daemon:
        assert ask(daemon, "PATCH", whole, b"world", Upload_Offset="6") == (204, "")
        status, final = ask(daemon, "POST", "/files/", Upload_Concat=f"final;{part} {part}")
        assert (status, final[:11]) == (201, "/files/one-")
        assert sorted(it.read_bytes() for it in daemon.files()) == [b"abcabc", b"hello world"]


def test_upload_of_another_node(tmp_path: Path) -> None:
    """A client that arrives at the wrong node begins anew, and the operator reads why."""
    with TusDaemon(tmp_path, "--node=one") as daemon:
        ask(daemon, "POST", "/files/", Upload_Length="11")
        path = f"/files/two-{'0' * 32}"
        assert [ask(daemon, method, path)[0] for method in ("HEAD", "DELETE")] == [404, 404]
        daemon.wait_for_line("the last one for node two, but this is one")
