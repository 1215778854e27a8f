"""
Tests of the router: which handler a request goes to.
"""

from __future__ import annotations

import pytest

from tests.support.exchanges import FakeExchange, request_for
from twisted_upload.frontends.http.exchange import Handler, IExchange
from twisted_upload.frontends.http.messages import Response
from twisted_upload.frontends.http.router import Route, Router


def named(name: str) -> Handler:
    """Return a handler that responds with its name."""

    def handle(exchange: IExchange) -> None:
        exchange.respond(Response(200, (), name.encode()))

    return handle


ROUTER = Router(
    [
        Route("GET", "/", named("page")),
        Route("GET", "/page.css", named("style")),
        Route("POST", "/", named("form")),
        Route("PUT", "/*", named("put")),
        Route("*", "/files/*", named("tus")),
        Route("GET", "/files/special/*", named("special")),
    ]
)


def ask(method: str, target: str) -> Response:
    """Return the response to a request."""
    exchange = FakeExchange(request_for(method, target)).handle(ROUTER)
    assert exchange.response is not None
    return exchange.response


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/", "page"),
        ("GET", "/?lang=zh", "page"),
        ("HEAD", "/", "page"),
        ("POST", "/", "form"),
        ("PUT", "/", "put"),
        ("PUT", "/photo.jpg", "put"),
        ("PUT", "/a/b", "put"),
        ("PUT", "/page.css", "put"),
        ("GET", "/page.css", "style"),
        ("POST", "/files/", "tus"),
        ("OPTIONS", "/files/", "tus"),
        ("WHATEVER", "/files/0123", "tus"),
        ("GET", "/files/special/x", "special"),
        ("PUT", "/files/special/x", "tus"),
        ("PUT", "/files", "put"),
        ("PUT", "/%66iles/x", "put"),
    ],
)
def test_routes(method: str, target: str, expected: str) -> None:
    """The most exact route that has the method handles a request."""
    assert ask(method, target).body == expected.encode()


@pytest.mark.parametrize("target", ["/", "/page.css"])
def test_method_not_allowed(target: str) -> None:
    """A path that does not have the method says which it has: RFC 9110, section 15.5.6."""
    response = ask("DELETE", target)
    assert response.status == 405
    allow = dict(response.fields)["Allow"].split(", ")
    assert {"GET", "HEAD", "OPTIONS", "PUT"} <= {*allow}
    assert ("POST" in allow) == (target == "/")


def test_not_found() -> None:
    """A path without a route is not found."""
    router = Router([Route("GET", "/", named("page"))])
    exchange = FakeExchange(request_for("GET", "/favicon.ico")).handle(router)
    assert exchange.response is not None
    assert exchange.response.status == 404
    assert b"not-found" in exchange.response.body


def test_options() -> None:
    """OPTIONS of a path, or of the server, lists the methods."""
    assert dict(ask("OPTIONS", "/").fields)["Allow"] == "GET, HEAD, OPTIONS, POST, PUT"
    response = ask("OPTIONS", "*")
    assert response.status == 204
    assert dict(response.fields)["Allow"] == "GET, HEAD, OPTIONS, POST, PUT"


def test_two_routes() -> None:
    """The same method of the same path cannot have two handlers."""
    with pytest.raises(ValueError, match="two routes"):
        Router([Route("GET PUT", "/", named("a")), Route("PUT", "/", named("b"))])
