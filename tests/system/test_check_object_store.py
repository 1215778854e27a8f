"""
``twistd upload --check`` with a real object store.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.engines.engine import Engine, Place
from tests.support.daemon import run_twistd
from tests.support.tools import free_port
from tests.support.twistd import assert_one_line


def check(
    folder: Path, option: str, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Check a daemon with a store."""
    options = ("--port=0", "--interface=127.0.0.1", f"--directory={folder}/inbox", option)
    return run_twistd(folder, "-n", "upload", "--check", *options, environment=environment)


@pytest.mark.parametrize("option", ["store", "forward"])
def test_check(tmp_path: Path, engine: Engine, place: Place, option: str) -> None:
    """--check tries everything in the object store, and leaves nothing there."""
    result = check(tmp_path, f"--{option}={place.url}", engine.environment())
    assert (result.returncode, result.stderr) == (0, "")
    assert f"{place.url}: multipart upload begun and aborted in " in result.stdout
    assert "warning" not in result.stdout
    assert place.witness.objects(place.prefix) == {}
    assert place.witness.pending(place.prefix) == []
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "check AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "wrong"}, "check AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": ""}, "no credentials: set AWS_ACCESS_KEY_ID"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:{port}"}, "no connection to 127.0.0.1:{port}"),
        ({"AWS_CA_BUNDLE": "/nowhere"}, "AWS_CA_BUNDLE is not a readable file"),
    ],
)
def test_wrong_access(
    tmp_path: Path, seaweedfs: Engine, changed: dict[str, str], says: str
) -> None:
    """What prevents the access to the object store is one line that names what to change."""
    port = free_port()
    changed = {name: value.format(port=port) for name, value in changed.items()}
    place = seaweedfs.place()
    result = check(tmp_path, f"--store={place.url}", {**seaweedfs.environment(), **changed})
    assert result.returncode == 1
    result.stdout = ""  # what was tested before
    assert_one_line(result, says.format(port=port), 1)
    assert "--store: cannot use s3://" in result.stderr


def test_no_such_bucket(tmp_path: Path, engine: Engine) -> None:
    """A bucket that does not exist is an error, unless the object store creates it."""
    result = check(tmp_path, "--store=s3://no-such-bucket-here/x", engine.environment())
    if engine.name == "seaweedfs":  # it creates buckets by itself
        assert result.returncode == 0
        return
    result.stdout = ""
    assert_one_line(result, "--store: cannot use s3://no-such-bucket-here/x", 1)
    assert "bucket" in result.stderr


def test_not_installed(tmp_path: Path) -> None:
    """Without its libraries, an object store is an error of one line that says what to install."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text("import sys; sys.modules['obstore'] = None\n")
    for option in "--store=s3://abc", "--forward=s3://abc":
        for arguments in ["--check"], []:
            result = run_twistd(
                tmp_path,
                *("-n", "--pidfile=", "upload", "--port=0", "--interface=127.0.0.1"),
                *(f"--directory={tmp_path}/inbox", option, *arguments),
                environment={"PYTHONPATH": str(hidden)},
            )
            result.stdout = ""
            name = option.partition("=")[0]
            assert_one_line(result, f"{name}: pip install 'twisted-upload[s3]'", 2)
    assert not (tmp_path / "inbox").exists()
