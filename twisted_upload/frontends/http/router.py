"""
Which handler handles a request: by its path and method.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from twisted_upload.errors import NotFound
from twisted_upload.frontends.http.exchange import Handler, IExchange
from twisted_upload.frontends.http.messages import Problem, Response

__all__ = ["Route", "Router"]


class Route(NamedTuple):
    """
    Requests, and the handler that handles them.

    :ivar methods: separated by spaces: ``GET``, ``PUT POST``; ``*`` for all, which the
        handler then answers itself.
    :ivar path: ``/``, ``/page.css``; with a ``*`` at its end, it is every path that begins
        like this.  It is compared with what was sent: nothing is decoded.
    :ivar handler: handles them.
    """

    methods: str
    path: str
    handler: Handler


class Router:
    """
    Passes each request to the handler of its path and method; it is a `Handler` itself.

    An exact path takes precedence over one with a ``*``, and of those, the longest.
    What the methods of an exact path do not include, a ``*`` may: ``GET /page.css`` and
    ``PUT /*`` go together.  A route for all methods hides what is less exact.

    HEAD is handled like GET, and OPTIONS by the router, unless there is a route.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, dict[str, Handler]] = {}
        beginnings: dict[str, dict[str, Handler]] = {}
        for methods, path, handler in routes:
            table = beginnings if path.endswith("*") else self._exact
            entry = table.setdefault(path.removesuffix("*"), {})
            for method in methods.split():
                if method in entry:
                    raise ValueError(f"two routes for {method} {path}")
                entry[method] = handler
        self._beginnings = sorted(beginnings.items(), key=lambda item: -len(item[0]))

    def __call__(self, exchange: IExchange) -> None:
        """
        Handle a request.

        :raises NotFound: there is nothing at its path.
        :raises Problem: what is there does not have its method.
        """
        request = exchange.request
        if request.target == "*":
            exchange.respond(_options(self._all_methods()))
            return
        path, method = request.path, request.method
        methods: dict[str, Handler] = {}
        for entry in self._entries(path):
            # The first that has a method counts, so it is the last to be added.
            methods = {**entry, **methods}
            if "*" in methods:
                break
        handler = methods.get(method) or methods.get("*")
        if handler is None and method == "HEAD":
            handler = methods.get("GET")
        if handler is not None:
            handler(exchange)
        elif not methods:
            raise NotFound("there is nothing at this address")
        elif method == "OPTIONS":
            exchange.respond(_options({*methods}))
        else:
            raise Problem(
                405,
                "method-not-allowed",
                "this address does not have this method",
                (("Allow", _allow({*methods})),),
            )

    def _entries(self, path: str) -> Iterable[dict[str, Handler]]:
        if path in self._exact:
            yield self._exact[path]
        for beginning, entry in self._beginnings:
            if path.startswith(beginning):
                yield entry

    def _all_methods(self) -> set[str]:
        tables = [*self._exact.values(), *(entry for _, entry in self._beginnings)]
        return {method for entry in tables for method in entry if method != "*"}


def _allow(methods: set[str]) -> str:
    more = {"OPTIONS", "HEAD"} if "GET" in methods else {"OPTIONS"}
    return ", ".join(sorted(methods | more))


def _options(methods: set[str]) -> Response:
    return Response(204, (("Allow", _allow(methods)),))
