"""
Send large uploads by FTP, all at the same time; report as `c/load.c` does.

Every upload is its own first block and then the rest of the source, sent by
sendfile without the interpreter lock.
"""

from __future__ import annotations

import argparse
import ftplib
import json
import resource
import struct
import sys
import threading
import time


def upload(port: int, path: str, source: str, serial: int, size: int) -> float:
    """Make one upload; return the seconds from connecting to the answer."""
    began = time.perf_counter()
    with ftplib.FTP() as session:
        session.connect("127.0.0.1", port, timeout=120)
        session.login()
        session.cwd(path)
        session.voidcmd("TYPE I")
        with open(source, "rb") as file, session.transfercmd(f"STOR {serial}.bin") as data:
            data.sendall(struct.pack("<QQ", serial, 0))
            data.sendfile(file, offset=16, count=size - 16)
        session.voidresp()
        return time.perf_counter() - began


def main() -> None:
    """Read the options, send, print one JSON object."""
    parser = argparse.ArgumentParser()
    for name in ("port", "count", "size", "base"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--path", default="/")
    parser.add_argument("--acks")
    options = parser.parse_args()
    times: dict[int, float] = {}

    def work(index: int) -> None:
        try:
            times[index] = upload(
                options.port, options.path, options.source, options.base + index, options.size
            )
        except (OSError, EOFError, ftplib.Error) as error:
            print(error, file=sys.stderr)

    began = time.perf_counter()
    threads = [threading.Thread(target=work, args=(index,)) for index in range(options.count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - began
    if options.acks:
        with open(options.acks, "w", encoding="ascii") as file:
            file.write("".join("1" if index in times else "0" for index in range(options.count)))
    ordered = sorted(times.values()) or [0.0]
    used = resource.getrusage(resource.RUSAGE_SELF)
    result = {"acknowledged": len(times), "failed": options.count - len(times), "wall": wall}
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("worst", 1.0)):
        result[name] = ordered[int(share * (len(ordered) - 1))]
    print(json.dumps({**result, "cpu": used.ru_utime + used.ru_stime}))


if __name__ == "__main__":
    main()
