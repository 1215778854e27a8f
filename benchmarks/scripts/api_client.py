"""
Send one file with our Python API.

    api_client.py FILE PORT

Prints one JSON object: `wall`, the seconds from the call to the receipt.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from twisted.internet.task import react

from twisted_upload import upload


async def main(reactor: Any, path: str, port: str) -> None:
    """Send the file and print how long that took."""
    began = time.perf_counter()
    await upload(path, f"tcp:127.0.0.1:{port}", reactor=reactor)
    print(json.dumps({"wall": time.perf_counter() - began}))


if __name__ == "__main__":
    react(main, sys.argv[1:])
