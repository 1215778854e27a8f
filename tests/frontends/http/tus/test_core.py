"""
tus 1.0, the core protocol: rows C1 to C13 of https://tus.io/protocols/resumable-upload
"""

from __future__ import annotations

import pytest

from tests.support.exchanges import FakeExchange, request_for
from tests.support.tus import Reply, TusRig, reply
from twisted_upload.errors import NoSpace, ShuttingDown, TimedOut, Unauthorized
from twisted_upload.frontends.http.exchange import IExchange
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.http.tus.resource import versioned

UNKNOWN = "/files/" + "0" * 32
PATCH = {"upload-offset": "0", "content-type": "application/offset+octet-stream"}


def some_responses(rig: TusRig) -> list[Reply]:
    path = rig.create(10)
    return [
        rig.ask("POST", fields={"upload-length": "1"}),
        rig.ask("POST"),
        rig.ask("POST", fields={"upload-length": "x"}),
        rig.ask("HEAD", path),
        rig.ask("HEAD", UNKNOWN),
        rig.patch(path, 0, b"12345"),
        rig.patch(path, 0, b"12345"),
        rig.patch(path, 5, b"1234567"),
        rig.ask("PATCH", path, {"upload-offset": "10"}),
        rig.ask("GET", path),
        rig.ask("PUT", path),
        rig.ask("DELETE", path),
        rig.ask("POST", fields={"tus-resumable": "0.2.2", "upload-length": "1"}),
    ]


def test_version_in_every_response(rig: TusRig) -> None:
    """C1: every response tells the version, those with an error too."""
    responses = some_responses(rig)
    assert {response.status for response in responses} == {
        200, 201, 204, 400, 404, 405, 409, 412, 413, 415,
    }  # fmt: skip
    assert [response["tus-resumable"] for response in responses] == ["1.0.0"] * len(responses)


def test_version_in_errors_of_others(rig: TusRig) -> None:
    """C1: a refusal by what decides who may upload tells the version too."""

    def refuse(exchange: IExchange) -> None:
        raise Unauthorized

    exchange = FakeExchange(request_for("PATCH", UNKNOWN), frontend=rig.frontend)
    refused = reply(exchange.handle(versioned(refuse)))
    assert (refused.status, refused["tus-resumable"]) == (401, "1.0.0")


@pytest.mark.parametrize("version", ["0.2.2", "1.0", "1.0.0, 1.0.0", "2.0.0", ""])
@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
def test_unsupported_version(rig: TusRig, method: str, version: str) -> None:
    """C2: a request of another version is not processed, and told which version is."""
    path = rig.create(10)
    target = "/files/" if method == "POST" else path
    fields = {**PATCH, "upload-length": "10", "tus-resumable": version}
    refused = rig.ask(method, target, fields, b"12345" if method == "PATCH" else b"")
    assert (refused.status, refused["tus-version"]) == (412, "1.0.0")
    assert rig.offset(path) == 0
    assert len(rig.store.partials.all) == 1


@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE"])
def test_missing_version(rig: TusRig, method: str) -> None:
    """C2b: a request without a version is not processed either."""
    request = request_for(method, UNKNOWN, {"upload-length": "10"})
    refused = reply(FakeExchange(request, frontend=rig.frontend).handle(rig.handler))
    assert (refused.status, refused["tus-version"]) == (412, "1.0.0")


@pytest.mark.parametrize("target", ["/files/", "/files", UNKNOWN])
@pytest.mark.parametrize("version", ["1.0.0", "0.2.2"])
def test_options(target: str, version: str) -> None:
    """C3: OPTIONS tells versions, extensions and the limit, whatever version it is asked in."""
    rig = TusRig(HTTPSettings(max_size=1000))
    told = rig.ask("OPTIONS", target, {"tus-resumable": version})
    assert told.status == 200
    assert told["tus-version"] == "1.0.0"
    assert told["tus-max-size"] == "1000"
    assert told["tus-checksum-algorithm"] == "sha1,sha256"
    assert set(told["tus-extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "creation-defer-length",
        "expiration",
        "checksum",
        "checksum-trailer",
        "termination",
        "concatenation",
    }


def test_options_without_a_limit(rig: TusRig) -> None:
    """C3: there is no Tus-Max-Size if there is no limit."""
    assert "tus-max-size" not in rig.ask("OPTIONS")


@pytest.mark.parametrize("method", ["POST", "GET", "PUT", "DELETE", "HEAD", "X"])
def test_method_override(rig: TusRig, method: str) -> None:
    """C4: X-HTTP-Method-Override replaces the method, whatever it is."""
    path = rig.create(5)
    fields = {**PATCH, "x-http-method-override": "PATCH"}
    assert rig.ask(method, path, fields, b"12345").status == 204
    assert rig.stored == [b"12345"]


def test_method_override_with_another(rig: TusRig) -> None:
    """C4: every method can be the replacement."""
    path = rig.create(5)
    assert rig.ask("PATCH", path, {"x-http-method-override": "HEAD"})["upload-offset"] == "0"
    assert rig.ask("POST", path, {"x-http-method-override": "DELETE"}).status == 204
    assert rig.ask("POST", path, {"x-http-method-override": "OPTIONS"}).status == 200
    assert rig.ask("POST", path, {"x-http-method-override": "patch"}).status == 405


def test_head(rig: TusRig) -> None:
    """C5: HEAD tells offset and length, at 0, in between and at the end, and is not cached."""
    path = rig.create(10)
    told = rig.ask("HEAD", path)
    assert told.status == 200
    assert (told["upload-offset"], told["upload-length"]) == ("0", "10")
    assert told["cache-control"] == "no-store"
    rig.patch(path, 0, b"12345")
    assert rig.ask("HEAD", path)["upload-offset"] == "5"
    rig.patch(path, 5, b"67890")
    told = rig.ask("HEAD", path)
    assert (told.status, told["upload-offset"], told["upload-length"]) == (200, "10", "10")
    assert told["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "target",
    [
        UNKNOWN,
        "/files/x",
        "/files/" + "0" * 31,
        "/files/" + "0" * 33,
        "/files/" + "A" * 32,
        UNKNOWN + "/",
        UNKNOWN + "/x",
        "/files/../files/" + "0" * 32,
        "/files/%30" + "0" * 31,
        "/files//" + "0" * 32,
        "/other/" + "0" * 32,
    ],
)
def test_unknown(rig: TusRig, target: str) -> None:
    """C6, C10: what is unknown is not found, without an offset; an id is never a path."""
    for method in "HEAD", "PATCH", "DELETE", "GET":
        told = rig.ask(method, target, PATCH)
        assert told.status == 404
        assert "upload-offset" not in told


@pytest.mark.parametrize(
    "kind", [None, "", "application/octet-stream", "application/offset+octet-stream2"]
)
def test_patch_of_another_type(rig: TusRig, kind: str | None) -> None:
    """C7: a PATCH of another content type is refused, and changes nothing."""
    path = rig.create(5)
    fields = {"upload-offset": "0"} if kind is None else {**PATCH, "content-type": kind}
    assert rig.ask("PATCH", path, fields, b"12345").status == 415
    assert rig.offset(path) == 0


def test_type_with_parameters(rig: TusRig) -> None:
    """C7: case and parameters of the content type do not matter."""
    path = rig.create(5)
    fields = {**PATCH, "content-type": "Application/Offset+Octet-Stream; charset=utf-8"}
    assert rig.ask("PATCH", path, fields, b"12345").status == 204


def test_compressed_patch(rig: TusRig) -> None:
    """C7: a body that is compressed is refused: nobody would decompress the file."""
    path = rig.create(5)
    refused = rig.patch(path, 0, b"12345", {"content-encoding": "gzip"})
    assert (refused.status, refused["accept-encoding"]) == (415, "identity")
    assert rig.patch(path, 0, b"12345", {"content-encoding": "identity"}).status == 204


@pytest.mark.parametrize("at", [0, 4, 6, 10, 2**63 - 1])
def test_wrong_offset(rig: TusRig, at: int) -> None:
    """C8: a PATCH at another offset than the present one changes nothing, and is told that."""
    path = rig.create(10)
    rig.patch(path, 0, b"12345")
    refused = rig.patch(path, at, b"xx")
    assert (refused.status, refused["upload-offset"]) == (409, "5")
    assert rig.patch(path, 5, b"67890").status == 204
    assert rig.stored == [b"1234567890"]


@pytest.mark.parametrize("at", ["", "-1", "x", "1.0", "99999999999999999999"])
def test_offset_that_is_no_number(rig: TusRig, at: str) -> None:
    """C8b: an offset that is no number is a bad request."""
    path = rig.create(10)
    assert rig.ask("PATCH", path, {**PATCH, "upload-offset": at}, b"12345").status == 400
    assert rig.ask("PATCH", path, {"content-type": PATCH["content-type"]}, b"1").status == 400
    assert rig.offset(path) == 0


def test_patch(rig: TusRig) -> None:
    """C9: a PATCH that is accepted has no content, and tells the new offset."""
    path = rig.create(10)
    told = rig.patch(path, 0, b"12345")
    assert (told.status, told["upload-offset"], told.body) == (204, "5", b"")
    assert not rig.stored
    told = rig.patch(path, 5, b"67890", chunked=True)
    assert (told.status, told["upload-offset"]) == (204, "10")
    assert rig.stored == [b"1234567890"]


def test_patch_waits_for_the_store(rig: TusRig) -> None:
    """C9: an offset is told when the store has committed it, and not before."""
    path = rig.create(10)
    rig.store.holding = True
    exchange = rig.begin_patch(path, 0, 5).send(b"12345")
    assert exchange.response is None
    rig.store.release()
    assert reply(exchange)["upload-offset"] == "5"


def test_empty_patch(rig: TusRig) -> None:
    """C9: a PATCH without a byte changes nothing."""
    path = rig.create(10)
    told = rig.patch(path, 0, b"")
    assert (told.status, told["upload-offset"]) == (204, "0")


@pytest.mark.parametrize("chunked", [False, True])
def test_body_past_the_length(rig: TusRig, chunked: bool) -> None:
    """C11: what goes past the length is refused; the bytes up to it are stored."""
    path = rig.create(10)
    rig.patch(path, 0, b"123")
    refused = rig.patch(path, 3, b"4567890123", chunked=chunked)
    assert (refused.status, refused["upload-offset"]) == (413, "10")
    assert rig.stored == [b"1234567890"]


def test_body_past_the_length_in_pieces(rig: TusRig) -> None:
    """C11: the connection is not read any more once there is too much."""
    path = rig.create(10)
    rig.store.holding = True
    exchange = rig.begin_patch(path, 0, None).send(b"12345", b"67890")
    assert not exchange.paused
    exchange.send(b"1")
    assert exchange.paused
    exchange.send(b"more that was on its way").end()
    rig.store.release()
    assert reply(exchange).status == 413
    assert rig.stored == [b"1234567890"]


def test_announced_body_past_the_length(rig: TusRig) -> None:
    """C11: who waits for 100 Continue with too much is refused before it is sent."""
    path = rig.create(10)
    refused = reply(rig.begin_patch(path, 0, 11, expects_continue=True))
    assert (refused.status, refused["upload-offset"]) == (413, "0")


def test_body_past_the_limit_of_the_server() -> None:
    """C11: without a length, the server's limit applies."""
    rig = TusRig(HTTPSettings(max_size=10))
    path = rig.create()
    refused = rig.patch(path, 0, b"12345678901", chunked=True)
    assert (refused.status, refused["upload-offset"]) == (413, "10")
    assert "10 bytes" in refused.body.decode()


def test_broken_patch(rig: TusRig) -> None:
    """C12: what has come of a broken request is kept; it is no aborted upload."""
    path = rig.create(10)
    rig.begin_patch(path, 0, 10).send(b"123", b"4567").break_off()
    assert rig.offset(path) == 7
    assert not rig.outcomes
    assert rig.patch(path, 7, b"890").status == 204
    assert rig.stored == [b"1234567890"]


def test_patch_broken_before_its_first_byte(rig: TusRig) -> None:
    """C12: a request that broke before its first byte changes nothing."""
    path = rig.create(10)
    rig.begin_patch(path, 0, 10).break_off()
    assert rig.offset(path) == 0


@pytest.mark.parametrize(
    ("refusal", "status"), [(TimedOut("too slow"), 408), (ShuttingDown(), 503)]
)
def test_refused_patch(rig: TusRig, refusal: TimedOut | ShuttingDown, status: int) -> None:
    """C12: a request that is too slow, or that the daemon ends, is told what was kept."""
    path = rig.create(10)
    exchange = rig.begin_patch(path, 0, 10).send(b"1234").refuse(refusal)
    told = reply(exchange)
    assert (told.status, told["upload-offset"], told["tus-resumable"]) == (status, "4", "1.0.0")
    assert rig.offset(path) == 4
    assert rig.kinds == [refusal.code]


def test_patch_at_the_end(rig: TusRig) -> None:
    """C13: an empty PATCH at the end of a complete upload is harmless, one with bytes refused."""
    path = rig.create(5)
    rig.patch(path, 0, b"12345")
    for chunked in False, True:
        told = rig.patch(path, 5, b"", chunked=chunked)
        assert (told.status, told["upload-offset"]) == (204, "5")
        refused = rig.patch(path, 5, b"6", chunked=chunked)
        assert (refused.status, refused["upload-offset"]) == (413, "5")
    assert rig.stored == [b"12345"]
    assert rig.kinds == ["stored", "too-large", "too-large"]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "HEAD", "DELETE"])
def test_methods_of_the_creation_url(rig: TusRig, method: str) -> None:
    """The creation URL creates, and does nothing else."""
    refused = rig.ask(method, "/files/", PATCH)
    assert (refused.status, refused["allow"]) == (405, "OPTIONS, POST")


@pytest.mark.parametrize("method", ["PUT", "POST", "TRACE", "X"])
def test_methods_of_an_upload(rig: TusRig, method: str) -> None:
    """An upload can be asked for, appended to and removed."""
    refused = rig.ask(method, rig.create(5), {**PATCH, "upload-length": "5"})
    assert (refused.status, refused["allow"]) == (405, "DELETE, HEAD, OPTIONS, PATCH")
    assert b": method-not-allowed " in refused.body
    assert rig.kinds == (["bad-request"] if method == "POST" else [])


def test_nothing_can_be_read(rig: TusRig) -> None:
    """GET gives nothing away, not even that an upload exists."""
    path = rig.create(5)
    assert rig.ask("GET", path).status == 404
    rig.patch(path, 0, b"12345")
    assert rig.ask("GET", path).status == 404


def test_store_that_fails_in_between(rig: TusRig) -> None:
    """A store that cannot take the bytes is reported; the offset is the committed one."""
    path = rig.create(10)
    rig.patch(path, 0, b"123")
    exchange = rig.begin_patch(path, 3, 7).send(b"45")
    append = exchange.reader.incoming  # type: ignore[union-attr]
    append.fail(NoSpace())  # type: ignore[union-attr]
    told = reply(exchange)
    assert (told.status, told["upload-offset"]) == (507, "3")
    assert rig.kinds == ["no-space"]


def test_store_that_fails_at_the_end(rig: TusRig) -> None:
    """Bytes that could not be committed are not acknowledged, and can be sent again."""
    path = rig.create(5)
    rig.store.failing = NoSpace()
    refused = rig.patch(path, 0, b"12345")
    assert refused.status == 507
    assert "upload-offset" not in refused
    rig.store.failing = None
    assert rig.offset(path) == 0
    assert rig.patch(path, 0, b"12345").status == 204
    assert rig.kinds == ["no-space", "stored"]
