"""
tus 1.0: checksum, checksum-trailer, termination, concatenation.
"""

from __future__ import annotations

import pytest

from tests.support.tus import TusRig, checksum, encoded, reply
from twisted_upload.errors import ShuttingDown
from twisted_upload.frontends.http.settings import HTTPSettings

TRAILER = {"trailer": "Upload-Checksum"}


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_checksum(rig: TusRig, algorithm: str) -> None:
    """K1, K2: bytes with the right checksum are committed."""
    path = rig.create(10)
    right = {"upload-checksum": checksum(b"12345", algorithm)}
    assert rig.patch(path, 0, b"12345", right)["upload-offset"] == "5"
    right = {"upload-checksum": checksum(b"67890", algorithm)}
    assert rig.patch(path, 5, b"67890", right, chunked=True).status == 204
    assert rig.stored == [b"1234567890"]


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_wrong_checksum(rig: TusRig, algorithm: str) -> None:
    """K2: bytes with another checksum are thrown away, and the offset stays."""
    path = rig.create(10)
    rig.patch(path, 0, b"12345")
    wrong = {"upload-checksum": checksum(b"6789", algorithm)}
    refused = rig.patch(path, 5, b"67890", wrong)
    assert (refused.status, refused["upload-offset"]) == (460, "5")
    assert rig.patch(path, 5, b"67890").status == 204
    assert rig.stored == [b"1234567890"]
    assert rig.kinds == ["digest-mismatch", "stored"]


@pytest.mark.parametrize("text", ["md5 CY9rzUYh03PK3k6DJie09g==", "sha1", "sha1 x", "sha512 YQ=="])
def test_unknown_checksum(rig: TusRig, text: str) -> None:
    """K2: an unknown algorithm is a bad request; the offset stays."""
    path = rig.create(10)
    assert rig.patch(path, 0, b"12345", {"upload-checksum": text}).status == 400
    assert rig.offset(path) == 0


def test_checksum_in_many_pieces(rig: TusRig) -> None:
    """K2: the checksum is that of the whole request; nothing is committed before its end."""
    path = rig.create(10)
    exchange = rig.begin_patch(path, 0, 10, {"upload-checksum": checksum(b"1234567890")})
    exchange.send(b"123", b"4567")
    append = rig.store.partials  # the store must not commit in between
    assert exchange.reader is not None
    assert exchange.reader.incoming is None  # the bytes have to pass through the hash
    assert not rig.stored
    exchange.send(b"890")
    assert reply(exchange).status == 204
    assert append.all
    assert rig.stored == [b"1234567890"]


def test_checksummed_patch_that_breaks(rig: TusRig) -> None:
    """K3: a request with a checksum that is cut off is thrown away whole."""
    path = rig.create(10)
    fields = {"upload-checksum": checksum(b"1234567890")}
    rig.begin_patch(path, 0, 10, fields).send(b"1234567").break_off()
    assert rig.offset(path) == 0
    exchange = rig.begin_patch(path, 0, 10, fields).send(b"1234567").refuse(ShuttingDown())
    assert (reply(exchange).status, reply(exchange)["upload-offset"]) == (503, "0")
    assert rig.offset(path) == 0
    rig.begin_patch(path, 0, None, TRAILER).send(b"1234567").break_off()
    assert rig.offset(path) == 0


def test_checksummed_patch_that_is_too_long(rig: TusRig) -> None:
    """K3: a body with a checksum that goes past the length is thrown away whole."""
    path = rig.create(5)
    fields = {"upload-checksum": checksum(b"123456")}
    refused = rig.patch(path, 0, b"123456", fields)
    assert (refused.status, refused["upload-offset"]) == (413, "0")
    assert not rig.stored


def test_checksummed_patch_and_another_writer(rig: TusRig) -> None:
    """K3: a request with a checksum that another one replaces is thrown away whole."""
    path = rig.create(10)
    first = rig.begin_patch(path, 0, 10, {"upload-checksum": checksum(b"1234567890")})
    first.send(b"1234567")
    assert rig.patch(path, 0, b"12345")["upload-offset"] == "5"
    assert first.connection.aborted


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_checksum_in_the_trailer(rig: TusRig, algorithm: str) -> None:
    """T1: the checksum of a chunked body may follow it."""
    path = rig.create(10)
    wrong, right = ({"upload-checksum": checksum(data, algorithm)} for data in (b"1234", b"12345"))
    refused = rig.patch(path, 0, b"12345", TRAILER, chunked=True, trailers=wrong)
    assert (refused.status, refused["upload-offset"]) == (460, "0")
    told = rig.patch(path, 0, b"12345", TRAILER, chunked=True, trailers=right)
    assert (told.status, told["upload-offset"]) == (204, "5")


@pytest.mark.parametrize("trailers", [{}, {"upload-checksum": "x"}, {"x-other": "y"}])
def test_missing_trailer(rig: TusRig, trailers: dict[str, str]) -> None:
    """T1: a checksum that was announced, and is missing or not valid, is a bad request."""
    path = rig.create(10)
    refused = rig.patch(path, 0, b"12345", TRAILER, chunked=True, trailers=trailers)
    assert refused.status == 400
    assert rig.offset(path) == 0


def test_trailer_that_was_not_announced(rig: TusRig) -> None:
    """T1: a checksum that was not announced cannot be verified: nothing is committed."""
    path = rig.create(10)
    trailers = {"upload-checksum": checksum(b"12345")}
    assert rig.patch(path, 0, b"12345", chunked=True, trailers=trailers).status == 400
    assert rig.offset(path) == 0


# -- termination --------------------------------------------------------------


@pytest.mark.parametrize("sent", [0, 5, 10])
def test_termination(rig: TusRig, sent: int) -> None:
    """R1: DELETE removes an upload, complete or not; after that, it is not found."""
    path = rig.create(10)
    rig.patch(path, 0, b"1234567890"[:sent])
    removed = rig.ask("DELETE", path)
    assert (removed.status, removed.body) == (204, b"")
    for method in "HEAD", "GET", "DELETE", "PATCH":
        fields = {"upload-offset": "0", "content-type": "application/offset+octet-stream"}
        assert rig.ask(method, path, fields).status == 404
    # A file that is stored stays.
    assert rig.stored == ([b"1234567890"] if sent == 10 else [])
    assert rig.kinds[0] == ("stored" if sent == 10 else "aborted")
    assert rig.outcomes[0].size == sent


def test_termination_while_it_is_written(rig: TusRig) -> None:
    """R1: DELETE ends a request that is still sending."""
    path = rig.create(10)
    exchange = rig.begin_patch(path, 0, 10).send(b"123")
    assert rig.ask("DELETE", path).status == 204
    assert exchange.connection.aborted
    assert rig.ask("HEAD", path).status == 404


# -- concatenation ------------------------------------------------------------


def part(rig: TusRig, content: bytes) -> str:
    path = rig.create(len(content), {"upload-concat": "partial"})
    assert rig.patch(path, 0, content).status == 204
    return path


def test_concatenation(rig: TusRig) -> None:
    """N1: a final upload consists of its parts, in order; one may be there twice."""
    first, second = part(rig, b"12345"), part(rig, b"67890")
    assert not rig.stored
    assert not rig.outcomes
    concat = f"final;{second} http://box.example{first} {second}"
    created = rig.ask("POST", fields={"upload-concat": concat})
    assert created.status == 201
    assert created["stored-as"]
    assert rig.stored == [b"678901234567890"]
    assert rig.kinds == ["stored"]
    assert rig.outcomes[0].size == 15


def test_repeated_concatenation(rig: TusRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """N1: a repeat that gets the file of an earlier request is answered, and not reported."""
    fields = {"upload-concat": f"final;{part(rig, b'12345')}"}
    first = rig.ask("POST", fields=fields)
    identity = rig.path_of(first).rpartition("/")[2]
    monkeypatch.setattr(rig.store, "concatenate", lambda *_: rig.store.find(identity))
    rig.now += 1
    repeat = rig.ask("POST", fields=fields)
    assert (repeat.status, repeat["stored-as"]) == (201, first["stored-as"])
    assert repeat["location"] == first["location"]
    assert rig.kinds == ["stored"]


def test_many_parts(rig: TusRig) -> None:
    """N1: an upload may consist of hundreds of parts."""
    paths = [part(rig, b"%03d" % number) for number in range(300)]
    told = rig.ask("POST", fields={"upload-concat": f"final;{' '.join(paths)}"})
    assert told.status == 201
    assert rig.stored == [b"".join(b"%03d" % number for number in range(300))]


def test_metadata_of_a_final_upload(rig: TusRig) -> None:
    """N1: the name of the file is the final upload's, and not that of a part."""
    fields = {"upload-concat": "partial", "upload-metadata": f"filename {encoded(b'part')}"}
    path = rig.create(0, fields)
    fields = {
        "upload-concat": f"final;{path}",
        "upload-metadata": f"filename {encoded(b'whole.txt')}",
    }
    assert rig.ask("POST", fields=fields).status == 201
    assert rig.outcomes[0].metadata.original_name == "whole.txt"


def test_part(rig: TusRig) -> None:
    """N1: a part tells that it is one; it is not stored alone, and stays until it expires."""
    path = part(rig, b"12345")
    told = rig.ask("HEAD", path)
    assert told["upload-concat"] == "partial"
    assert (told["upload-offset"], told["upload-length"]) == ("5", "5")
    assert "upload-expires" in told
    assert "stored-as" not in told
    assert not rig.stored


def test_part_without_a_length(rig: TusRig) -> None:
    """N1: a part may have a deferred length, and come with its creation."""
    path = rig.create(None, {"upload-concat": "partial"})
    rig.patch(path, 0, b"12345", {"upload-length": "5"})
    fields = {
        "upload-concat": "partial",
        "upload-length": "3",
        "content-type": "application/offset+octet-stream",
    }
    other = rig.path_of(rig.ask("POST", fields=fields, body=b"678"))
    empty = rig.create(0, {"upload-concat": "partial"})
    concat = f"final;{path} {empty} {other}"
    assert rig.ask("POST", fields={"upload-concat": concat}).status == 201
    assert rig.stored == [b"12345678"]


def test_patch_of_a_final_upload(rig: TusRig) -> None:
    """N2: a final upload cannot be changed."""
    concat = f"final;{part(rig, b'12345')}"
    final = rig.path_of(rig.ask("POST", fields={"upload-concat": concat}))
    assert rig.patch(final, 5, b"6").status == 403
    assert rig.patch(final, 0, b"").status == 403
    assert rig.stored == [b"12345"]


def test_head_of_a_final_upload(rig: TusRig) -> None:
    """N3: HEAD of a final upload tells its parts as they were given, and its length."""
    concat = f"final;{part(rig, b'12345')} http://box.example{part(rig, b'67')}"
    metadata = "filename YQ=="
    fields = {"upload-concat": concat, "upload-metadata": metadata}
    told = rig.ask("HEAD", rig.path_of(rig.ask("POST", fields=fields)))
    assert told["upload-concat"] == concat
    assert told["upload-metadata"] == metadata
    assert (told["upload-offset"], told["upload-length"]) == ("7", "7")


def test_parts_that_cannot_be_used(rig: TusRig) -> None:
    """N4: parts that are unknown, unfinished, or uploads of another kind are refused."""
    complete, unfinished, plain = (
        part(rig, b"12345"),
        rig.create(5, {"upload-concat": "partial"}),
        rig.create(5),
    )
    rig.patch(plain, 0, b"12345")
    unknown = "/files/" + "0" * 32
    for path, status in (unfinished, 400), (unknown, 404), (plain, 400):
        for concat in f"final;{complete} {path}", f"final;{path} {complete}":
            assert rig.ask("POST", fields={"upload-concat": concat}).status == status
    assert rig.stored == [b"12345"]  # the plain one


@pytest.mark.parametrize(
    "concat", ["final", "final;", "final;/etc/passwd", "final;../x", "part", "final;/files/x"]
)
def test_wrong_concatenation(rig: TusRig, concat: str) -> None:
    """N4: what cannot be the URL of an upload is a bad request."""
    assert rig.ask("POST", fields={"upload-concat": concat, "upload-length": "5"}).status == 400


def test_final_upload_with_a_length(rig: TusRig) -> None:
    """N1: a final upload has the length of its parts, and no body."""
    concat = {"upload-concat": f"final;{part(rig, b'12345')}"}
    assert rig.ask("POST", fields={**concat, "upload-length": "5"}).status == 400
    assert rig.ask("POST", fields={**concat, "upload-defer-length": "1"}).status == 400
    fields = {**concat, "content-type": "application/offset+octet-stream"}
    assert rig.ask("POST", fields=fields, body=b"12345").status == 400
    assert not rig.stored


def test_final_upload_that_is_too_large() -> None:
    """N1: the limit of the server applies to all parts together."""
    rig = TusRig(HTTPSettings(max_size=10))
    path = part(rig, b"12345")
    assert rig.ask("POST", fields={"upload-concat": f"final;{path} {path} {path}"}).status == 413
    assert rig.ask("POST", fields={"upload-concat": f"final;{path} {path}"}).status == 201
    assert rig.stored == [b"1234512345"]
