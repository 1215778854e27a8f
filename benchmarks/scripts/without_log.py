"""
twistd, whose `upload` has no log of uploads: `without_log.py -n upload --port 6666`.

In everything else it is the daemon that twistd starts.
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.scripts.twistd import run

from twisted_upload.daemon import tap as daemon
from twisted_upload.frontends.refusal_log import RateLimitedLog

tap: Any = daemon
every_observer = tap.observers


def all_but_the_log(*arguments: Any) -> Any:
    """Who is told of each upload, the log excepted."""
    told = every_observer(*arguments)
    others = tuple(it for it in told if not isinstance(it, RateLimitedLog))
    if len(others) == len(told):
        sys.exit("no log of uploads was found that could be left out")
    return others


if __name__ == "__main__":
    tap.observers = all_but_the_log
    run()
