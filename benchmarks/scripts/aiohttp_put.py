"""An aiohttp application that streams PUT bodies to files: aiohttp_put.py PORT DIRECTORY."""

from __future__ import annotations

import itertools
import os
import sys
from typing import Any

from aiohttp import web  # type: ignore[import-not-found,unused-ignore]


def application(directory: str) -> Any:
    """Return an application that gives each file the name of the path at the end."""
    numbers = itertools.count()

    async def put(request: Any) -> Any:
        temporary = f"{directory}/.{next(numbers)}"
        with open(temporary, "wb", buffering=0) as file:  # noqa: ASYNC230
            async for piece in request.content.iter_any():
                file.write(piece)
        os.replace(temporary, f"{directory}/{request.match_info['name']}")
        return web.Response(status=201)

    app = web.Application(client_max_size=0)
    app.router.add_put("/{name}", put)
    return app


if __name__ == "__main__":
    web.run_app(
        application(sys.argv[2]), host="127.0.0.1", port=int(sys.argv[1]), access_log=None,
        print=None,
    )  # fmt: skip
