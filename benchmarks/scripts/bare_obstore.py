"""
obstore alone: bare_obstore.py URL COUNT SIZE THREADS [--parts CONCURRENCY] [--alike]

Puts objects of random bytes under other names each time, in threads, or one object in parts.
With --alike, objects have metadata and a checksum, as those of the daemon do.
Prints the seconds it took and the CPU seconds of this process.
"""

import argparse
import os
import secrets
import threading
import time
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import obstore
from obstore.store import S3Store

parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("count", type=int)
parser.add_argument("size", type=int)
parser.add_argument("threads", type=int)
parser.add_argument("--parts", type=int, default=0)
parser.add_argument("--alike", action="store_true")
arguments = parser.parse_args()

where = urlsplit(arguments.url)
more: Any = {"checksum_algorithm": "SHA256"} if arguments.alike else {}
store = S3Store(
    where.netloc,
    prefix=where.path.strip("/"),
    endpoint=os.environ["AWS_ENDPOINT_URL"],
    region=os.environ["AWS_REGION"],
    client_options={"allow_http": True, "timeout": timedelta(seconds=60)},
    **more,
)
attributes: Any = None
if arguments.alike:
    attributes = {
        "Content-Type": "application/octet-stream",
        "mark": secrets.token_hex(16),
        "arrived": "2026-11-27T12:00:00.000Z",
        "sender": "127.0.0.1:40000",
        "node": "one",
        "sha256": secrets.token_hex(32),
    }
content = os.urandom(arguments.size)
names = iter([secrets.token_hex(16) for _ in range(arguments.count)])
lock = threading.Lock()


def put() -> None:
    """Put objects until all are there."""
    while True:
        with lock:
            name = next(names, None)
        if name is None:
            return
        if arguments.parts:
            size = 5 * 1024 * 1024
            obstore.put(store, name, content, chunk_size=size, max_concurrency=arguments.parts)
        else:
            obstore.put(store, name, content, mode="create", attributes=attributes)


obstore.put(store, secrets.token_hex(16), b"x")  # the connection
threads = [threading.Thread(target=put) for _ in range(arguments.threads)]
began, cpu = time.perf_counter(), time.process_time()
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(time.perf_counter() - began, time.process_time() - cpu)
