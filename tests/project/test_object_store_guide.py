"""
What the pages say about object stores, tried.
"""

from __future__ import annotations

from pathlib import Path

from tests.support.forwarding import open_forwarding
from tests.support.pages import block, shell
from twisted_upload.hooks.runner import LOOK_INTERVAL
from twisted_upload.stores.s3.errors import Rejected
from twisted_upload.stores.s3.forward import ATTEMPTS

SERVICE_FOLDER = "/var/lib/twisted-upload"


def test_forward_again(tmp_path: Path) -> None:
    """After the command that moves markers back, files are forwarded without waiting an hour."""
    with open_forwarding(tmp_path) as forwarding:
        forwarding.start()
        forwarding.bucket.fail("put", Rejected("no"), times=ATTEMPTS)
        name = forwarding.store()
        while not forwarding.rejected:
            forwarding.pass_time(LOOK_INTERVAL)
        command = block("docs/operations/runbook.md", "forward-again")
        shell(command.replace(SERVICE_FOLDER, str(tmp_path)), tmp_path)
        forwarding.pass_time(LOOK_INTERVAL)
        assert forwarding.objects == {name: b"hello"}
        assert (forwarding.waiting, forwarding.rejected) == ([], [])
