"""
Bugs can be planted, and the simulation finds them.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.simulation.planted import connections, found, partials, queues, write_path
from tests.simulation.planted.bug import Bug, NotThere, plant, source_of
from tests.simulation.planted.catalogue import CATALOGUE, SOON_FOUND
from tests.simulation.planted.hunt import Clean, Hunt, hunt, table
from tests.support import ROOT

_MANY = 30

_KERNEL = (
    *("disk.file_calls", "disk.files", "net.sockets", "daemon.system"),
    *("client.sockets", "client.system", "hooks.hook_spawner", "stores.s3.s3_bucket"),
)
"""Modules whose calls the simulated kernel carries out itself."""


def test_enough() -> None:
    """There are many bugs, and no two have the same name."""
    written = [*write_path.BUGS, *partials.BUGS, *connections.BUGS, *queues.BUGS, *found.BUGS]
    assert len(CATALOGUE) == len(written) >= _MANY


def test_soon_found() -> None:
    """Those that CI chooses from exist."""
    assert {*SOON_FOUND} <= {*CATALOGUE}
    assert len(SOON_FOUND) >= _MANY


@pytest.mark.parametrize("bug", CATALOGUE.values(), ids=lambda bug: bug.name)
def test_can_be_planted(bug: Bug) -> None:
    """What a bug replaces is in its module exactly once, and Python can read the result."""
    source = source_of(bug.module)
    planted = bug.put_into(source)
    assert planted != source
    compile(planted, bug.full_name, "exec")
    assert bug.breaks
    assert bug.promise


@pytest.mark.parametrize("bug", CATALOGUE.values(), ids=lambda bug: bug.name)
def test_is_not_simulated(bug: Bug) -> None:
    """A bug is in code that a world runs: not in what the simulated kernel takes the place of."""
    assert bug.module not in _KERNEL


def test_text_that_is_not_there() -> None:
    """A bug whose text is not there exactly once cannot be planted."""
    bug = CATALOGUE["file-not-synced"]
    for text in ("no such text", "import"):
        with pytest.raises(NotThere, match="file-not-synced"):
            bug._replace(old=text).put_into(source_of(bug.module))


def test_too_late() -> None:
    """A bug cannot be planted into a module that has been imported."""
    assert "twisted_upload.core.lifecycle" in sys.modules
    with pytest.raises(NotThere, match="imported already"):
        plant(CATALOGUE["refused-and-stored"])


def test_planted() -> None:
    """The module with the bug is imported, and no other module changes."""
    code = (
        "from tests.simulation.planted.bug import plant\n"
        "from tests.simulation.planted.catalogue import CATALOGUE, SOON_FOUND\n"
        "plant(CATALOGUE['uncommitted-bytes-kept'])\n"
        "import inspect\n"
        "from twisted_upload.stores.directory import resumable_open, resumable_file\n"
        "constants = resumable_open._open_data.__code__.co_names\n"
        "print('truncate' in constants, resumable_open.__file__ == "
        "resumable_open.__spec__.origin, resumable_file.__spec__.loader.__class__.__name__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False True SourceFileLoader\n"


def test_found() -> None:
    """A bug is found, with the seed that shows it, and the check that noticed it."""
    found = hunt(CATALOGUE["aborted-upload-committed"], 1, 60.0, Clean())
    assert found.seed is not None
    assert found.where
    assert found.violation


def test_table() -> None:
    """The table says how each bug was found, and which were not."""
    bug = CATALOGUE["file-not-synced"]
    found = Hunt(bug, seed=7, where="files.check", violation="lost", seeds=3, cpu=1.25)
    text = table([found, Hunt(bug, seeds=9, cpu=2.0)])
    assert "| `files.check` | 7 | 3 | 1.2 |" in text
    assert "| **not found** | - | 9 | 2.0 |" in text
