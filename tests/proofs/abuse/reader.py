"""
``reader.py FILE COMMAND...``: run the command with a small pipe as its standard output.

Another process copies from the pipe to our standard output; its pid is written to the
file.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    out, into = os.pipe()
    fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, 4096)
    reader = os.fork()
    if reader == 0:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.close(into)
        while data := os.read(out, 65536):
            os.write(1, data)
        os._exit(0)
    Path(sys.argv[1]).write_text(str(reader))
    os.close(out)
    os.dup2(into, 1)
    os.close(into)
    os.execv(sys.argv[2], sys.argv[2:])
