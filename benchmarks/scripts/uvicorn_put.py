"""An ASGI application that streams PUT bodies to files: uvicorn_put.py PORT DIRECTORY."""

from __future__ import annotations

import os
import sys
from typing import Any

import uvicorn  # type: ignore[import-not-found,unused-ignore]


class App:
    """Writes each body to a temporary file, which gets the name of the path at the end."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.number = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        self.number += 1
        temporary = f"{self.directory}/.{self.number}"
        whole = False
        with open(temporary, "wb", buffering=0) as file:  # noqa: ASYNC230
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    break
                if body := message.get("body"):
                    file.write(body)
                if not message.get("more_body"):
                    whole = True
                    break
        if not whole:
            os.unlink(temporary)
            return
        os.replace(temporary, f"{self.directory}/{os.path.basename(scope['path'])}")
        start = {
            "type": "http.response.start",
            "status": 201,
            "headers": [(b"content-length", b"0")],
        }
        await send(start)
        await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    uvicorn.run(
        App(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), http="httptools",
        log_level="warning", access_log=False, lifespan="off",
    )  # fmt: skip
