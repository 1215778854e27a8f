"""Pages of other sites: which requests of theirs are refused, and what they may read."""

from __future__ import annotations

import pytest

from tests.support.exchanges import CLIENT, request_for
from twisted_upload.errors import NotAllowed
from twisted_upload.frontends.http.messages import Response
from twisted_upload.frontends.http.origins import Origins

APP = "https://app.example"
OURS = "http://box.example"


def is_allowed(
    fields: dict[str, str], method: str = "POST", scheme: str = "http", *allowed: str
) -> bool:
    """Return whether a request is allowed."""
    client = CLIENT._replace(scheme=scheme)
    try:
        Origins(allowed).check(request_for(method, fields=fields), client)
    except NotAllowed:
        return False
    return True


@pytest.mark.parametrize(
    ("fields", "allowed"),
    [
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-origin, cross-site"}, False),
        ({"Sec-Fetch-Site": ""}, False),
        ({"Origin": OURS}, True),
        ({"Origin": "http://box.example:80"}, True),
        ({"Origin": "https://box.example"}, False),
        ({"Origin": "http://box.example:8080"}, False),
        ({"Origin": APP}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
        ({"Origin": f"{OURS}, {APP}"}, False),
        ({"Origin": f"{OURS}.evil.example"}, False),
        ({"Origin": OURS, "Sec-Fetch-Site": "cross-site"}, False),
        # The proxy has changed Host; the browser knows better.
        ({"Origin": "https://public.example", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": APP, "Host": ""}, False),
        ({"Origin": "", "Host": ""}, False),
        ({"Origin": "http://box.example", "Host": "BOX.example:80"}, True),
        ({"Origin": "http://[::1]:8080", "Host": "[::1]:8080"}, True),
    ],
)
def test_writing(fields: dict[str, str], allowed: bool) -> None:
    """A request that writes comes from our own page, or from no page."""
    assert is_allowed(fields) is allowed


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "MKCOL", "post"])
def test_every_method_that_writes(method: str) -> None:
    """It does not matter how a request writes."""
    assert not is_allowed({"Origin": APP}, method)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_reading(method: str) -> None:
    """Requests that only read are not refused, unless they stand for one that writes."""
    fields = {"Origin": APP, "Sec-Fetch-Site": "cross-site"}
    assert is_allowed(fields, method)
    assert not is_allowed({**fields, "X-HTTP-Method-Override": "PATCH"}, method)


def test_scheme_of_the_proxy() -> None:
    """Behind a proxy with TLS, ours is the https origin."""
    assert is_allowed({"Origin": "https://box.example"}, "POST", "https")
    assert is_allowed({"Origin": "https://box.example", "Host": "box.example:443"}, "PUT", "https")
    assert not is_allowed({"Origin": OURS}, "POST", "https")


def test_allowed_origin() -> None:
    """A page of an allowed origin may write; one of a similar origin may not."""
    for site in {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {}:
        assert is_allowed({"Origin": APP, **site}, "POST", "http", APP)
        for similar in "http://app.example", f"{APP}:8443", f"{APP}.evil.example", "null":
            assert not is_allowed({"Origin": similar, **site}, "POST", "http", APP)


def test_off() -> None:
    """Without allowed origins, no response has a field of CORS."""
    request = request_for("OPTIONS", fields={"Origin": APP, "Access-Control-Request-Method": "PUT"})
    assert Origins().fields(request) == ()
    assert Origins().preflight(request) is None
    assert not Origins()


def test_fields() -> None:
    """A page of an allowed origin may read the responses; caches are told why."""
    fields = dict(Origins([APP]).fields(request_for(fields={"Origin": APP})))
    assert fields["Access-Control-Allow-Origin"] == APP
    assert fields["Vary"] == "Origin"
    exposed = {it.strip() for it in fields["Access-Control-Expose-Headers"].split(",")}
    assert exposed >= {
        *("Location", "Upload-Offset", "Upload-Length", "Upload-Expires", "Upload-Metadata"),
        *("Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Max-Size", "Stored-As"),
        *("Tus-Checksum-Algorithm", "Repr-Digest", "Upload-Concat", "Upload-Defer-Length"),
    }


@pytest.mark.parametrize("fields", [{}, {"Origin": "https://evil.example"}, {"Origin": "null"}])
def test_fields_for_others(fields: dict[str, str]) -> None:
    """Everybody else is told nothing."""
    assert Origins([APP]).fields(request_for(fields=fields)) == (("Vary", "Origin"),)


def preflight(**fields: str) -> Response | None:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return Origins([APP]).preflight(request_for("OPTIONS", fields=named))


def test_preflight() -> None:
    """A preflight is answered with the methods and fields of tus and of plain uploads."""
    response = preflight(Origin=APP, Access_Control_Request_Method="PATCH")
    assert response is not None
    fields = dict(response.fields)
    assert (response.status, response.body) == (204, b"")
    assert fields["Access-Control-Allow-Origin"] == APP
    methods = {it.strip() for it in fields["Access-Control-Allow-Methods"].split(",")}
    assert methods >= {"POST", "PUT", "HEAD", "PATCH", "DELETE"}
    allowed = {it.strip() for it in fields["Access-Control-Allow-Headers"].split(",")}
    assert allowed >= {
        *("Authorization", "Content-Type", "Tus-Resumable", "Upload-Length", "Upload-Offset"),
        *("Upload-Metadata", "Upload-Checksum", "Upload-Concat", "Upload-Defer-Length"),
        *("X-HTTP-Method-Override", "Repr-Digest", "Content-Digest", "Want-Repr-Digest"),
    }
    assert "Origin" in fields["Vary"]
    assert "*" not in str(response)
    assert "Credentials" not in str(response)


def test_no_preflight() -> None:
    """Anything else is for the handler: other origins, and OPTIONS as tus clients send it."""
    assert preflight(Origin="https://evil.example", Access_Control_Request_Method="PUT") is None
    assert preflight(Origin=APP) is None
    assert preflight(Access_Control_Request_Method="PUT") is None
