"""
``impatient.py SECONDS COMMAND...``: twistd, with a kernel that gives up on dead peers
after the given number of seconds instead of a minute.
"""

from __future__ import annotations

import runpy
import sys

from twisted_upload.net import ports

if __name__ == "__main__":
    seconds = int(sys.argv[1])
    ports.KEEPALIVE_IDLE, ports.KEEPALIVE_INTERVAL = seconds, 1
    ports.USER_TIMEOUT = 1000 * seconds
    del sys.argv[:2]
    runpy.run_path(sys.argv[0], run_name="__main__")
