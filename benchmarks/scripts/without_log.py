"""
twistd whose `upload` has no log of uploads: `without_log.py -n upload --port 6666`.

In everything else it is the daemon that twistd starts.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.scripts.twistd import run

from twisted_upload.daemon import builder as daemon

builder: Any = daemon


def no_log(*_: object) -> Any:
    """Return an observer that ignores uploads, in place of the log."""
    return lambda _: None


if __name__ == "__main__":
    if not hasattr(builder, "RateLimitedLog"):
        sys.exit("no log of uploads was found that could be left out")
    builder.RateLimitedLog = no_log
    run()
