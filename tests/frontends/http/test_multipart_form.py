"""
Forms with files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.exchanges import FakeExchange
from tests.support.lifecycle import UnsureStore
from tests.support.plain_uploads import Box, form
from twisted_upload.errors import NoSpace, ShuttingDown, StoreFailed, TimedOut
from twisted_upload.frontends.http.access import Grant
from twisted_upload.frontends.http.exchange import IExchange
from twisted_upload.frontends.http.messages import Response
from twisted_upload.frontends.http.multipart_form import MOST_FILES, MOST_OVERHEAD
from twisted_upload.frontends.http.receipts import Result
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.sender import STORE_PATIENCE
from twisted_upload.interfaces import Metadata

KIND = "multipart/form-data; boundary=frontier"
NAME = "1795328130123.bin"

ONE = 'Content-Disposition: form-data; name="file"; filename="one.jpg"\r\nContent-Type: image/jpeg'
TWO = 'Content-Disposition: form-data; name="file"; filename="two.txt"'
FIELD = 'Content-Disposition: form-data; name="note"'
UNUSED = (
    'Content-Disposition: form-data; name="x"; filename=""\r\n'
    "Content-Type: application/octet-stream"
)
BOTH = form((ONE, b"first"), (TWO, b"second"))


def begin(box: Box, length: int | None = None, kind: str = KIND, **fields: str) -> FakeExchange:
    """Let the head of a form arrive."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return box.ask("POST", "/", {"content-type": kind, **named}, length=length)


def send(box: Box, body: bytes, pieces: int = 1 << 20, /, **fields: str) -> FakeExchange:
    """Let a form arrive, in pieces of this size."""
    exchange = begin(box, len(body), **fields)
    return exchange.send(*(body[start : start + pieces] for start in range(0, len(body), pieces)))


def told(exchange: FakeExchange) -> tuple[int, str]:
    """Return the response."""
    assert exchange.response is not None
    return exchange.response.status, exchange.response.body.decode()


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_files(size: int) -> None:
    """Each file of a form is stored, however its bytes arrive; other fields are ignored."""
    box = Box(grant_of=lambda _: Grant("token:a", "Alice"))
    body = form((FIELD, b"ignored"), (ONE, b"first\r\n--front"), (UNUSED, b""), (TWO, b"\r\n\r\n"))
    exchange = send(box, body, size)
    assert box.stored == {NAME: b"first\r\n--front", "1795328130123-1.bin": b"\r\n\r\n"}
    digests = [hashlib.sha256(data).hexdigest() for data in box.stored.values()]
    assert told(exchange) == (
        201,
        f"上传成功 {NAME} 14 {digests[0]}\n上传成功 1795328130123-1.bin 4 {digests[1]}\n",
    )
    assert box.outcomes == [("stored", None)] * 2
    assert [ended.metadata for ended in box.seen] == [
        Metadata("one.jpg", "image/jpeg", "Alice"),
        Metadata("two.txt", "", "Alice"),
    ]
    assert box.frontend.slots.taken == 0


def test_json() -> None:
    """A program gets a list."""
    status, body = told(send(Box(), BOTH, accept="application/json"))
    files = json.loads(body)["files"]
    assert status == 201
    assert [(one["name"], one["size"], one["original_name"]) for one in files] == [
        (NAME, 5, "one.jpg"),
        ("1795328130123-1.bin", 6, "two.txt"),
    ]


def page(exchange: IExchange, results: Sequence[Result], status: int) -> Response:
    """Return a page for tests."""
    lines = [
        f"{one.metadata.original_name} {one.receipt.name if one.receipt else one.refusal}"
        for one in results
    ]
    return Response(status, (("Content-Type", "text/html"),), "\n".join(lines).encode())


def test_page() -> None:
    """A browser gets a page, whatever the result."""
    browser = "text/html,application/xhtml+xml,*/*;q=0.8"
    box = Box(page=page)
    names = f"one.jpg {NAME}\ntwo.txt 1795328130123-1.bin"
    assert told(send(box, BOTH, accept=browser)) == (201, names)
    status, text = told(send(box, form((ONE, b"")), accept=browser))
    assert (status, text.partition(":")[0]) == (400, "one.jpg empty")
    box.store.refusing = NoSpace()
    exchange = begin(box, 10, accept=browser)
    assert exchange.reader is None
    status, text = told(exchange)
    assert (status, text.partition(":")[0]) == (507, " no-space")
    box.store.refusing = None
    assert told(send(box, BOTH))[1].startswith("上传成功")


def test_names() -> None:
    """Names are made harmless, in whatever way they are sent."""
    heads = {
        'filename="../../etc/passwd"': "passwd",
        'filename="C:\\\\fakepath\\\\a.jpg"': "a.jpg",
        'filename="中文.jpg"': "中文.jpg",
        "filename=\"x\"; filename*=UTF-8''%E4%B8%AD.jpg": "中.jpg",
        'filename="a%22b.jpg"': 'a"b.jpg',
        "filename=plain.jpg": "plain.jpg",
        'filename=".."': "",
    }
    for head, name in heads.items():
        box = Box()
        body = form((f'Content-Disposition: form-data; name="f"; {head}', b"x"))
        assert told(send(box, body))[0] == 201
        assert box.seen[0].metadata.original_name == name, head
    box = Box()
    latin = form((TWO, b"x")).replace(b"two", b"\xe4")
    assert told(send(box, latin))[0] == 201
    assert box.seen[0].metadata.original_name == "ä.txt"


def test_file_without_a_name() -> None:
    """A file without a name is stored; one that is empty too is an input that was left empty."""
    box = Box()
    assert told(send(box, form((UNUSED, b"content"))))[0] == 201
    status, text = told(send(box, form((UNUSED, b""), (FIELD, b"x"))))
    assert (status, text) == (400, "上传失败: empty there is no file in the form\n")
    assert box.outcomes == [("stored", None), ("refused", "empty")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--frontier--\r\n",
        BOTH[:-6],
        BOTH[: len(BOTH) // 2],
        BOTH.replace(b"frontier", b"other"),
        BOTH.replace(b"\r\n", b"\n"),
        BOTH.replace(b"form-data", b"attachment"),
        BOTH.replace(b"Content-Type: image/jpeg", b"no header"),
        BOTH.replace(b"Content-Type: image/jpeg", b"Content-Length: 3"),
        form(*([(ONE, b"x")] * (MOST_FILES + 1))),
        form((ONE, b"x"), *([(FIELD, b"")] * 1000)),
        form((ONE, b"x"), (FIELD, bytes(MOST_OVERHEAD))),
        form((ONE, b"x")) + bytes(MOST_OVERHEAD),
        form((f"X-Long: {'x' * 5000}\r\n{TWO}", b"x")),
        form(("\r\n".join([*(f"X-{n}: x" for n in range(9)), TWO]), b"x")),
    ],
)
def test_malformed(body: bytes) -> None:
    """Of a form that is not valid, or goes beyond the bounds, nothing is stored."""
    box = Box()
    exchange = begin(box, None).send(body) if body else begin(box, None)
    assert told(exchange.end())[0] in (400, 413)
    assert (box.stored, box.store.unfinished) == ({}, [])
    assert box.frontend.slots.taken == 0
    assert {outcome for outcome, _ in box.outcomes} == {"refused"}


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary=""',
        "multipart/form-data; boundary=" + "x" * 71,
        'multipart/form-data; boundary="a b "',
        'multipart/form-data; boundary="a\nb"',
        "multipart/form-data; boundary=a*b",
        "multipart/mixed; boundary=frontier",
    ],
)
def test_boundaries(kind: str) -> None:
    """A form without a valid boundary is refused before its body."""
    exchange = begin(Box(), 10, kind)
    assert exchange.reader is None
    assert told(exchange)[0] in (400, 415)
    other = begin(Box(), 10, 'Multipart/Form-Data; charset=x; Boundary="frontier"; y=z')
    assert other.response is None


def test_too_large() -> None:
    """If one file is refused on the way, the form is, at once, with the name; nothing is stored."""
    box = Box(HTTPSettings(max_size=5))
    exchange = begin(box).send(form((TWO, b"small"), (ONE, b"too large"), (TWO, b"never seen")))
    status, text = told(exchange)
    assert status == 413
    assert text.startswith("上传失败: too-large one.jpg: this server accepts at most 5 B")
    assert (box.stored, box.store.unfinished) == ({}, [])
    assert box.outcomes == [("refused", "too-large")] * 2
    exchange = begin(box, accept="application/json").send(form((ONE, b"too large")))
    assert json.loads(told(exchange)[1])["code"] == "too-large"


def test_form_that_is_surely_too_large() -> None:
    """A form that cannot fit, however many files it has, is refused before its body."""
    box = Box(HTTPSettings(max_size=1))
    assert told(begin(box, MOST_OVERHEAD + MOST_FILES + 1))[0] == 413


def test_one_empty_file() -> None:
    """If one file is empty, and may not be, nothing is stored; or all is, if it may."""
    body = form((TWO, b"x"), (ONE, b""))
    box = Box()
    status, text = told(send(box, body))
    assert (status, text.partition("; ")[0]) == (400, "上传失败: empty one.jpg: it is empty")
    assert (box.stored, box.store.unfinished) == ({}, [])
    box = Box(HTTPSettings(allow_empty=True))
    assert told(send(box, body))[0] == 201
    assert sorted(box.stored.values()) == [b"", b"x"]


def test_commits_together() -> None:
    """Nothing is stored before the whole form has arrived."""
    box = Box()
    exchange = begin(box).send(BOTH[:-1])
    assert (len(box.store.unfinished), box.stored) == (2, {})
    exchange.send(BOTH[-1:]).end()
    assert (len(box.store.unfinished), len(box.stored)) == (0, 2)


def test_broken_off() -> None:
    """A form that breaks off stores nothing."""
    box = Box()
    exchange = begin(box).send(BOTH[:-1]).break_off()
    assert exchange.response is None
    assert (box.stored, box.store.unfinished) == ({}, [])
    assert box.outcomes == [("aborted", None)] * 2
    assert box.frontend.slots.taken == 0


def test_some_are_not_stored() -> None:
    """If the store fails at the end, the response says which files are stored."""
    for accept in "*/*", "application/json":
        box = Box()
        box.store.holding = True
        exchange = send(box, BOTH, accept=accept)
        assert exchange.response is None
        first, *_ = box.store._held
        first()
        box.store.failing = StoreFailed()
        box.store.release()
        status, text = told(exchange)
        assert status == 503
        assert [*box.stored.values()] == [b"first"]
        if accept != "*/*":
            stored, failed = json.loads(text)["files"]
            assert (stored["name"], failed["name"], failed["code"]) == (NAME, None, "store-error")
        else:
            stored, failed = text.splitlines()
            assert stored.startswith(f"上传成功 {NAME} 5 ")
            assert failed.startswith("上传失败: store-error two.txt: ")


def test_store_that_fails_on_the_way() -> None:
    """If the store fails for one file on the way, the form is refused at once."""
    box = Box()
    exchange = begin(box).send(BOTH[:-30])
    box.store.unfinished[0].fail(NoSpace())
    assert told(exchange)[0] == 507
    assert (box.stored, box.store.unfinished) == ({}, [])


def test_client_that_has_left() -> None:
    """A client that leaves after the whole form loses the response, and not the files."""
    box = Box()
    box.store.holding = True
    exchange = send(box, BOTH).break_off()
    assert not exchange.over
    box.store.release()
    assert (exchange.over, exchange.response) == (True, None)
    assert len(box.stored) == 2
    assert [ended.answered for ended in box.seen] == [False, False]


def test_refused_by_the_connection() -> None:
    """A form that is too slow, or in the way of a stop, is refused in any state."""
    box = Box()
    assert told(begin(box).send(BOTH[:-1]).refuse(TimedOut()))[0] == 408
    box.store.holding = True
    assert told(send(box, BOTH).refuse(ShuttingDown()))[0] == 503
    left = send(box, BOTH).break_off().refuse(ShuttingDown())
    assert (left.over, left.response) == (True, None)
    box.store.release()
    assert (box.stored, box.store.unfinished) == ({}, [])


def test_refused_too_late() -> None:
    """A form of which a file may be visible all the same gets no response."""
    store = UnsureStore(lambda: 1_795_328_130.123)
    store.holding = True
    box = Box(store=store)
    waiting = send(box, BOTH).refuse(ShuttingDown())
    assert (waiting.response, waiting.connection.aborted) == (None, True)
    assert box.outcomes == [("refused", "shutting-down")] * 2


def test_stalled_store() -> None:
    """A store that makes no progress is not waited for forever; time of a stall does not count."""
    box = Box()
    box.store.holding = True
    exchange = send(box, BOTH)
    reader: Any = exchange.reader
    assert not reader.check(-STORE_PATIENCE)
    reader.stood_still()
    assert not reader.check(0.5)
    assert reader.check(STORE_PATIENCE + 1)
    assert told(exchange)[0] == 503


def test_back_pressure() -> None:
    """The form is paused as long as the store of any of its files is."""
    box = Box()
    exchange = begin(box).send(BOTH[:-1])
    one, two = [incoming.producer for incoming in box.store.unfinished]
    assert one is not None
    assert two is not None
    one.pauseProducing()
    two.pauseProducing()
    one.resumeProducing()
    assert exchange.paused
    two.resumeProducing()
    assert not exchange.paused
    one.stopProducing()
    assert exchange.stopped


def test_slots() -> None:
    """Each file but the first counts as a connection: it may take a file descriptor as long."""
    box = Box()
    box.frontend.slots.most = 1
    exchange = begin(box).send(BOTH[:-14])
    assert box.frontend.slots.taken == 1
    exchange.send(form((ONE, b"x")))
    assert told(exchange)[0] == 503
    assert box.frontend.slots.taken == 0


def test_invitation() -> None:
    """A form may have no more files than its invitation has uploads left."""
    box = Box(grant_of=lambda _: Grant(uploads_left=1))
    assert told(send(box, form((UNUSED, b""), (ONE, b"x"), (UNUSED, b""))))[0] == 201
    status, text = told(send(box, BOTH))
    assert (status, text) == (
        403,
        "上传失败: not-allowed this invitation takes at most 1 more file\n",
    )
    assert len(box.stored) == 1


def test_digest() -> None:
    """The digest of a form is verified too."""
    box = Box()
    assert told(send(box, BOTH, content_digest="sha-256=:" + "A" * 43 + "=:"))[0] == 460
    assert (box.stored, box.store.unfinished) == ({}, [])


@given(
    st.lists(st.binary(min_size=1, max_size=60) | st.text("\r\n-frontie").map(str.encode)),
    st.integers(1, 50),
)
@settings(deadline=None)
def test_any_content(contents: list[bytes], size: int) -> None:
    """Any files, in any pieces, are stored unchanged."""
    contents = [one for one in contents if one and b"\r\n--frontier" not in one]
    box = Box()
    exchange = send(box, form(*((ONE, one) for one in contents)), size)
    assert told(exchange)[0] == (201 if contents else 400)
    assert [*box.stored.values()] == contents


@given(st.binary(max_size=300), st.integers(1, 50), st.integers(0, 200))
@settings(deadline=None)
def test_any_body(body: bytes, size: int, start: int) -> None:
    """No body makes it fail; it ends, and leaves nothing behind."""
    box = Box()
    body = BOTH[:start] + body
    exchange = send(box, body, size) if body else begin(box).end()
    assert exchange.response is not None
    assert box.store.unfinished == []
