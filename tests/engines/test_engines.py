"""
The engines that tests use are there, and do what the tests rely on.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engines.engine import Place
from tests.engines.keeper import shared
from tests.engines.seaweedfs import MISSING, SeaweedFS, program
from tests.support import ROOT
from tests.support.daemon import wait_until
from tests.support.processes import gone

needs_seaweedfs = pytest.mark.skipif(program() is None, reason=MISSING)


def test_witness(place: Place) -> None:
    """The witness sees each object of its place, its size and its content, and no other's."""
    key = f"{place.prefix}a name+ä~.jpg"
    place.witness.put(key, b"content")
    assert place.witness.objects(place.prefix) == {key: 7}
    assert place.witness.get(key) == b"content"
    assert (place.witness.head(key) or {})["content-length"] == "7"
    assert place.witness.tags(key) == {}
    place.witness.remove(key)
    assert place.witness.objects(place.prefix) == {}
    assert place.witness.head(key) is None
    with pytest.raises(KeyError):
        place.witness.get(key)


def test_pending(place: Place) -> None:
    """The witness sees a multipart upload that was begun, which is no object."""
    key = f"{place.prefix}large"
    identity = place.witness.begin(key)
    assert place.witness.pending(place.prefix) == [(key, identity)]
    assert place.witness.objects(place.prefix) == {}
    place.witness.put(f"{place.prefix}small", b"x")
    place.clear()
    assert place.witness.pending(place.prefix) == []
    assert place.witness.objects(place.prefix) == {}


def test_pages(place: Place) -> None:
    """A listing of several pages is read to its end."""
    for number in range(5):
        place.witness.put(f"{place.prefix}{number}", b"x")
    query = {"list-type": "2", "prefix": place.prefix, "max-keys": "2"}
    pages = list(place.witness._pages(query, {"continuation-token": "NextContinuationToken"}))
    assert [len(page.findall("Contents")) for page in pages] == [2, 2, 1]


def test_kill(own_seaweedfs: SeaweedFS) -> None:
    """SeaweedFS that is killed is started at the same address, with what it had."""
    place = own_seaweedfs.engine.place()
    place.witness.put(f"{place.prefix}one", b"content")
    own_seaweedfs.kill()
    with pytest.raises((OSError, http.client.HTTPException)):
        place.witness.get(f"{place.prefix}one")
    own_seaweedfs.start()
    assert place.witness.get(f"{place.prefix}one") == b"content"


@needs_seaweedfs
def test_shared(tmp_path: Path) -> None:
    """All users share one; it ends with the last of them, even if that is killed."""
    code = (
        "import sys; from pathlib import Path; from tests.engines.keeper import shared\n"
        "with shared(Path(sys.argv[1])) as engine:"
        "    print(engine.pid, engine.endpoint, flush=True); sys.stdin.read()"
    )
    users = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    try:
        lines = [user.stdout.readline().split() for user in users if user.stdout]
        assert lines[0] == lines[1]
        users[0].communicate()
        with shared(tmp_path) as engine:
            assert [str(engine.pid), engine.endpoint] == [word.decode() for word in lines[0]]
        assert not gone(engine.pid)
        users[1].kill()
        wait_until(lambda: gone(engine.pid), "the engine to end")
    finally:
        for user in users:
            user.kill()
            user.communicate()
    wait_until(lambda: not (tmp_path / "engine.json").exists(), "the keeper to clean up")
    wait_until(lambda: not [*tmp_path.glob("weed-*/data")], "its data to be removed")
    assert os.listdir(tmp_path)
