"""
The plain order, one file after the other: write, fsync, publish, fsync the
directory.

    plain_order.py DIRECTORY COUNT SIZE

Prints one JSON object: files, seconds, CPU seconds.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time


def keep(directory: int, name: str, data: bytes) -> None:
    """Write one file durably."""
    file = os.open(f"{name}.part", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=directory)
    try:
        os.write(file, data)
        os.fsync(file)
    finally:
        os.close(file)
    os.rename(f"{name}.part", name, src_dir_fd=directory, dst_dir_fd=directory)
    os.fsync(directory)


def main() -> None:
    """Store COUNT files of SIZE bytes and print how long it took."""
    path, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    data = os.urandom(size)
    began = time.perf_counter()
    for serial in range(count):
        keep(directory, f"{serial}.bin", data)
    wall = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"files": count, "wall": wall, "cpu": used.ru_utime + used.ru_stime}))


if __name__ == "__main__":
    main()
