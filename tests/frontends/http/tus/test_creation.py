"""
tus 1.0: creation, with and without a body, without a length; expiration.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime

import pytest

from tests.support.exchanges import CLIENT, FakeExchange, request_for
from tests.support.tus import Reply, TusRig, checksum, encoded, reply
from twisted_upload.errors import Busy, ShuttingDown
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.http.tus.headers import CONTENT_TYPE
from twisted_upload.interfaces import Metadata

BODY = {"content-type": CONTENT_TYPE}


def created_at(rig: TusRig, host: str | None, scheme: str = "http") -> Reply:
    fields = {"tus-resumable": "1.0.0", "upload-length": "5"}
    request = request_for("POST", "/files/", fields if host is None else {**fields, "host": host})
    if host is None:
        del request.fields["host"]  # type: ignore[attr-defined]
    client = CLIENT._replace(scheme=scheme)
    return reply(FakeExchange(request, client, frontend=rig.frontend).handle(rig.handler))


@pytest.mark.parametrize(
    ("host", "scheme"),
    [
        ("box.example", "http"),
        ("box.example:8080", "https"),
        ("192.0.2.1", "http"),
        ("[2001:db8::1]:8443", "https"),
        ("my_box", "http"),
    ],
)
def test_location(rig: TusRig, host: str, scheme: str) -> None:
    """E1: creation tells the absolute URL of the upload, by the client's name for the server."""
    created = created_at(rig, host, scheme)
    assert created.status == 201
    prefix, _, identity = created["location"].rpartition("/")
    assert prefix == f"{scheme}://{host}/files"
    assert identity in rig.store.partials.all


@pytest.mark.parametrize(
    "host", [None, "", "evil.example/x", "a b", "a@b", "a\r\nb", "[::1", "a:b", "a:999999", "?"]
)
def test_location_without_a_host(rig: TusRig, host: str | None) -> None:
    """E1: a Host that cannot be part of a URL is not made one."""
    created = created_at(rig, host)
    assert created.status == 201
    assert created["location"].removeprefix("/files/") in rig.store.partials.all


def test_two_uploads_have_two_urls(rig: TusRig) -> None:
    """E1: each creation makes another upload."""
    assert rig.create(5) != rig.create(5)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"upload-length": "5", "upload-defer-length": "1"},
        {"upload-defer-length": "0"},
        {"upload-defer-length": "2"},
        {"upload-length": "-1"},
        {"upload-length": "x"},
        {"upload-length": ""},
        {"upload-length": "5, 6"},
        {"upload-length": "99999999999999999999999"},
    ],
)
def test_length_of_a_creation(rig: TusRig, fields: dict[str, str]) -> None:
    """E2: a creation has a length that is a number, or defers it: not both, not neither."""
    assert rig.ask("POST", fields=fields).status == 400
    assert not rig.store.partials.all


def test_too_long() -> None:
    """E3: an upload that is longer than Tus-Max-Size is refused when it is created."""
    rig = TusRig(HTTPSettings(max_size=10))
    assert rig.ask("POST", fields={"upload-length": "11"}).status == 413
    assert rig.ask("POST", fields={"upload-length": "10"}).status == 201
    assert rig.kinds == ["too-large"]


def test_upload_of_nothing(rig: TusRig) -> None:
    """E4: an upload of length 0 is stored when it is created."""
    created = rig.ask("POST", fields={"upload-length": "0"})
    assert (created.status, created["stored-as"]) == (201, "1795328130123.bin")
    assert "upload-expires" not in created
    assert rig.stored == [b""]
    assert rig.kinds == ["stored"]
    told = rig.ask("HEAD", rig.path_of(created))
    assert (told["upload-offset"], told["upload-length"]) == ("0", "0")


METADATA = [
    f"filename {encoded('照片.jpg'.encode())},filetype {encoded(b'image/jpeg')}",
    f"a , b,c {encoded(bytes(range(256)))}",
    "is_confidential",
]


@pytest.mark.parametrize("metadata", METADATA)
def test_metadata(rig: TusRig, metadata: str) -> None:
    """E5: Upload-Metadata comes back as it was given, before and after the upload is stored."""
    path = rig.create(5, {"upload-metadata": metadata})
    assert rig.ask("HEAD", path)["upload-metadata"] == metadata
    rig.patch(path, 0, b"12345")
    assert rig.ask("HEAD", path)["upload-metadata"] == metadata


@pytest.mark.parametrize(
    "metadata", ["a YQ==,a Yg==", "a no!base64", ",", "a b c", "\xe9 YQ==", "a " + "YWFh" * 4000]
)
def test_wrong_metadata(rig: TusRig, metadata: str) -> None:
    """E5: keys that are there twice or empty, and values that are not Base64, are refused."""
    refused = rig.ask("POST", fields={"upload-length": "5", "upload-metadata": metadata})
    assert refused.status == 400
    assert not rig.store.partials.all


def test_no_metadata(rig: TusRig) -> None:
    """E5: without metadata, or with an empty one, HEAD has none."""
    assert "upload-metadata" not in rig.ask("HEAD", rig.create(5))
    assert "upload-metadata" not in rig.ask("HEAD", rig.create(5, {"upload-metadata": ""}))


@pytest.mark.parametrize(
    ("pairs", "metadata"),
    [
        ({"filename": "photo.jpg", "filetype": "image/jpeg"}, ("photo.jpg", "image/jpeg")),
        ({"name": "photo.jpg", "type": "image/jpeg"}, ("photo.jpg", "image/jpeg")),
        ({"filename": "../../etc/passwd", "filetype": "nothing"}, ("passwd", "")),
        ({"filename": "", "name": "b.txt"}, ("b.txt", "")),
        ({"filename": "\x1b[31m\u202e.txt"}, ("[31m.txt", "")),
    ],
)
def test_name_and_type(rig: TusRig, pairs: dict[str, str], metadata: tuple[str, str]) -> None:
    """The file's name and type are taken from the metadata, made harmless."""
    text = ",".join(f"{key} {encoded(value.encode())}" for key, value in pairs.items())
    path = rig.create(5, {"upload-metadata": text})
    (partial,) = rig.store.partials.all.values()
    assert partial.upload.terms.arrival.metadata == Metadata(*metadata)
    rig.patch(path, 0, b"12345")
    assert rig.outcomes[0].metadata == Metadata(*metadata)


# -- creation-with-upload -----------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_creation_with_a_body(rig: TusRig, chunked: bool) -> None:
    """W1: a creation with a body is told the URL and the offset."""
    fields = {**BODY, "upload-length": "10"}
    created = rig.ask("POST", fields=fields, body=b"12345", chunked=chunked)
    assert (created.status, created["upload-offset"]) == (201, "5")
    assert "upload-expires" in created
    assert rig.patch(rig.path_of(created), 5, b"67890").status == 204
    assert rig.stored == [b"1234567890"]
    assert rig.kinds == ["stored"]


def test_creation_with_the_whole_body(rig: TusRig) -> None:
    """W1: a creation with all bytes stores the upload, and tells its name."""
    created = rig.ask("POST", fields={**BODY, "upload-length": "5"}, body=b"12345")
    assert (created.status, created["upload-offset"]) == (201, "5")
    assert created["stored-as"] == "1795328130123.bin"
    assert rig.stored == [b"12345"]
    assert rig.ask("HEAD", rig.path_of(created))["upload-offset"] == "5"


def test_creation_with_a_body_past_the_length(rig: TusRig) -> None:
    """W1: a body that is longer than the upload is refused; nobody knows the URL: it is removed."""
    fields = {**BODY, "upload-length": "5"}
    assert rig.ask("POST", fields=fields, body=b"123456").status == 413
    assert rig.ask("POST", fields=fields, body=b"123456", chunked=True).status == 413
    assert rig.ask("POST", fields={**BODY, "upload-length": "0"}, chunked=True).status == 413
    assert not rig.store.partials.all
    assert not rig.stored


def test_broken_creation_with_a_body(rig: TusRig) -> None:
    """W1: a creation that broke is aborted: nobody knows the URL of the upload."""
    exchange = rig.begin("POST", fields={**BODY, "upload-length": "5"}, length=5)
    exchange.send(b"123").break_off()
    assert not rig.store.partials.all
    assert rig.kinds == ["aborted"]


def test_refused_creation_with_a_body(rig: TusRig) -> None:
    """W1: a creation that the daemon ends is refused, and no URL is told."""
    exchange = rig.begin("POST", fields={**BODY, "upload-length": "5"}, length=5)
    told = reply(exchange.send(b"123").refuse(ShuttingDown()))
    assert told.status == 503
    assert "location" not in told
    assert not rig.store.partials.all
    assert rig.kinds == ["shutting-down"]


def test_client_that_leaves_before_the_response(rig: TusRig) -> None:
    """W1: an upload whose URL could not be told is removed, unless it is stored."""
    for length, kept in ("10", 0), ("5", 1):
        rig.store.holding = True
        exchange = rig.begin("POST", fields={**BODY, "upload-length": length}, length=5)
        rig.store.release()  # the creation
        rig.store.holding = True
        exchange.send(b"12345").break_off()
        rig.store.release()
        assert len(rig.store.partials.all) == kept
    assert rig.kinds == ["aborted", "stored"]
    assert not rig.outcomes[1].answered


def test_refused_before_100_continue() -> None:
    """W2: a creation that waits for 100 Continue is refused before it is sent."""
    rig = TusRig(HTTPSettings(max_size=10))
    for fields, status in (
        ({**BODY, "upload-length": "11"}, 413),
        ({"content-type": "text/plain", "upload-length": "5"}, 415),
        ({**BODY, "upload-length": "4"}, 413),
        ({**BODY}, 400),
        ({**BODY, "upload-length": "5", "upload-checksum": "md5 x"}, 400),
        ({**BODY, "upload-length": "5", "tus-resumable": "0.1"}, 412),
    ):
        exchange = rig.begin("POST", fields=fields, length=5, expects_continue=True)
        assert exchange.reader is None
        assert reply(exchange).status == status


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("chunked", [False, True])
def test_creation_with_a_body_of_another_type(rig: TusRig, kind: str, chunked: bool) -> None:
    """W3: a body of another type on the creation URL is refused."""
    fields = {"content-type": kind, "upload-length": "5"}
    assert rig.ask("POST", fields=fields, body=b"12345", chunked=chunked).status == 415
    assert not rig.store.partials.all


def test_creation_of_another_type_without_a_body(rig: TusRig) -> None:
    """W3: without a body, its type does not matter."""
    rig.create(5, {"content-type": "application/x-www-form-urlencoded"})


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_creation_with_a_checksum(rig: TusRig, algorithm: str) -> None:
    """K4: a checksum on a creation with a body counts."""
    fields = {**BODY, "upload-length": "5"}
    right = {**fields, "upload-checksum": checksum(b"12345", algorithm)}
    wrong = {**fields, "upload-checksum": checksum(b"1234x", algorithm)}
    assert rig.ask("POST", fields=wrong, body=b"12345").status == 460
    assert not rig.store.partials.all
    assert rig.ask("POST", fields=right, body=b"12345").status == 201
    assert rig.stored == [b"12345"]


# -- creation-defer-length ----------------------------------------------------


def test_deferred_length(rig: TusRig) -> None:
    """D1: HEAD says that the length is deferred, until it is known."""
    path = rig.create()
    rig.patch(path, 0, b"12345")
    told = rig.ask("HEAD", path)
    assert told["upload-defer-length"] == "1"
    assert told["upload-offset"] == "5"
    assert "upload-length" not in told
    rig.patch(path, 5, b"67", {"upload-length": "10"})
    told = rig.ask("HEAD", path)
    assert "upload-defer-length" not in told
    assert (told["upload-offset"], told["upload-length"]) == ("7", "10")


def test_length_with_the_last_patch(rig: TusRig) -> None:
    """D2: the length comes with a later PATCH, which may be the last."""
    path = rig.create()
    rig.patch(path, 0, b"12345")
    told = rig.patch(path, 5, b"67890", {"upload-length": "10"})
    assert (told.status, told["upload-offset"]) == (204, "10")
    assert rig.stored == [b"1234567890"]


def test_length_with_an_empty_patch(rig: TusRig) -> None:
    """D2: a PATCH without a byte that says that this was all stores the upload."""
    path = rig.create()
    rig.patch(path, 0, b"12345")
    told = rig.patch(path, 5, b"", {"upload-length": "5"})
    assert (told.status, told["upload-offset"], told["stored-as"]) == (
        204,
        "5",
        "1795328130123.bin",
    )
    assert rig.stored == [b"12345"]
    assert rig.kinds == ["stored"]


@pytest.mark.parametrize("length", ["9", "11", "x"])
def test_length_that_changes(rig: TusRig, length: str) -> None:
    """D2: a length never changes."""
    path, deferred = rig.create(10), rig.create()
    rig.patch(deferred, 0, b"1", {"upload-length": "10"})
    assert rig.patch(path, 0, b"12345", {"upload-length": length}).status == 400
    assert rig.patch(deferred, 1, b"12345", {"upload-length": length}).status == 400
    assert (rig.offset(path), rig.offset(deferred)) == (0, 1)
    assert rig.patch(path, 0, b"12345", {"upload-length": "10"}).status == 204


def test_length_that_is_too_short(rig: TusRig) -> None:
    """D2: a length that is less than what has arrived is refused, and not noted."""
    path = rig.create()
    rig.patch(path, 0, b"12345")
    assert rig.patch(path, 5, b"", {"upload-length": "4"}).status == 400
    assert rig.ask("HEAD", path)["upload-defer-length"] == "1"


def test_length_at_a_wrong_offset(rig: TusRig) -> None:
    """D2: a PATCH that is refused for its offset does not set the length."""
    path = rig.create()
    assert rig.patch(path, 3, b"x", {"upload-length": "4"}).status == 409
    assert rig.ask("HEAD", path)["upload-defer-length"] == "1"


def test_length_that_is_too_long() -> None:
    """D2: a length beyond Tus-Max-Size is refused when it is told."""
    rig = TusRig(HTTPSettings(max_size=10))
    path = rig.create()
    assert rig.patch(path, 0, b"12345", {"upload-length": "11"}).status == 413
    assert rig.offset(path) == 0


# -- expiration ---------------------------------------------------------------


def expires(told: Reply) -> float:
    text = told["upload-expires"]
    assert text.endswith(" GMT")
    return parsedate_to_datetime(text).timestamp()


def test_expires() -> None:
    """X1: POST, PATCH and HEAD tell when an upload expires, as an IMF-fixdate."""
    rig = TusRig(HTTPSettings(resume_for=3600.0))
    created = rig.ask("POST", fields={"upload-length": "10"})
    assert created["upload-expires"] == "Sat, 21 Nov 2026 21:15:30 GMT" or expires(created)
    assert expires(created) == int(rig.now + 3600)
    path = rig.path_of(created)
    assert expires(rig.ask("HEAD", path)) == int(rig.now + 3600)
    rig.now += 1800
    assert expires(rig.patch(path, 0, b"12345")) == int(rig.now + 3600)
    assert expires(rig.ask("HEAD", path)) == int(rig.now + 3600)
    assert "upload-expires" not in rig.patch(path, 5, b"67890")
    assert "upload-expires" not in rig.ask("HEAD", path)


def test_expired() -> None:
    """X2: an upload that has expired is not found, and a PATCH in time extends it."""
    rig = TusRig(HTTPSettings(resume_for=3600.0))
    path = rig.create(10)
    rig.now += 3599
    rig.patch(path, 0, b"12345")
    rig.now += 3599
    assert rig.offset(path) == 5
    rig.now += 1
    assert rig.ask("HEAD", path).status == 404
    assert rig.patch(path, 5, b"67890").status == 404
    assert not rig.stored


def test_store_that_accepts_nothing(rig: TusRig) -> None:
    """A creation that the store refuses is told why."""
    rig.store.refusing = Busy()
    refused = rig.ask("POST", fields={"upload-length": "5"})
    assert (refused.status, "retry-after" in refused) == (503, True)
    assert rig.kinds == ["busy"]
