"""
Answers to a sender, written and read.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_upload.core.answers import (
    CODES,
    FAILURE,
    LONGEST_ANSWER,
    SUCCESS,
    StoredAnswer,
    quoted,
    read_answer,
    refused_answer,
    speaks_tls,
    stored_answer,
)
from twisted_upload.errors import UploadRefused
from twisted_upload.interfaces import Receipt

DIGEST = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

RECEIPT = Receipt("1795328130123.jpg", 5, DIGEST, "192.0.2.7:50123", 1.0, 2.0)

_LINES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=60)


def test_success() -> None:
    """Success is twelve bytes of UTF-8 and no newline."""
    answer = stored_answer(RECEIPT)
    assert answer == b"\xe4\xb8\x8a\xe4\xbc\xa0\xe6\x88\x90\xe5\x8a\x9f"
    assert answer.decode() == "上传成功"
    assert len(answer) == 12


def test_custom_success_answer() -> None:
    """The operator's text replaces the default, and nothing else changes."""
    assert stored_answer(RECEIPT, "我很好,谢谢你") == "我很好,谢谢你".encode()


def test_receipt() -> None:
    """A receipt is one line: the success text, name, size, SHA-256."""
    expected = f"上传成功 1795328130123.jpg 5 {DIGEST}\n".encode()
    assert stored_answer(RECEIPT, receipts=True) == expected


def test_codes() -> None:
    """The codes are a closed list."""
    assert set(CODES) == {
        "empty",
        "too-large",
        "timeout",
        "busy",
        "not-allowed",
        "no-space",
        "store-error",
        "shutting-down",
        "bad-request",
        "unauthorized",
        "not-found",
        "conflict",
        "digest-mismatch",
    }
    assert all(CODES[code].code == code for code in CODES)


@pytest.mark.parametrize("code", CODES)
def test_refusal(code: str) -> None:
    """A refusal is one line with its code and an explanation for people."""
    answer = refused_answer(CODES[code]()).decode()
    assert answer.startswith(f"上传失败: {code} ")
    assert answer.endswith("\n")
    assert answer.count("\n") == 1
    assert len(answer.encode()) < LONGEST_ANSWER
    assert "/" not in answer


def test_explanation_of_timeout() -> None:
    """The refusal for silence says which option nc needs."""
    assert "nc -N" in refused_answer(CODES["timeout"]()).decode()


@pytest.mark.parametrize("code", CODES)
def test_refusal_read_back(code: str) -> None:
    """The client raises the exception that the daemon refused with."""
    read = read_answer(refused_answer(CODES[code]("because of this")))
    assert type(read) is CODES[code]
    assert read.explanation == "because of this"
    assert str(read) == f"{code}: because of this"


def test_default_explanation() -> None:
    """A refusal without an explanation gets the default one of its code."""
    read = read_answer(f"{FAILURE}: busy\n".encode())
    assert isinstance(read, CODES["busy"])
    assert read.explanation == CODES["busy"].default_explanation


def test_unknown_code() -> None:
    """An unknown code of a newer server is read as a refusal with that code."""
    read = read_answer(f"{FAILURE}: moon-phase wait for it\n".encode())
    assert type(read) is UploadRefused
    assert read.code == "moon-phase"
    assert UploadRefused.code == "refused"


@pytest.mark.parametrize("line", [f"{FAILURE}:busy later", f"{FAILURE}: busy later"])
def test_refusal_of_a_sloppy_server(line: str) -> None:
    """A refusal with a missing space or newline is still a refusal."""
    assert isinstance(read_answer(line.encode()), CODES["busy"])


@pytest.mark.parametrize(
    "answer",
    ["上传成功", "上传成功\n", "上传成功\r\n", " 上传成功 "],
    ids=["bare", "lf", "crlf", "blanks"],
)
def test_success_of_a_sloppy_server(answer: str) -> None:
    """White space around success is still success."""
    assert read_answer(answer.encode()) == StoredAnswer()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"OK",
        "上传成功".encode()[:-1],
        "上传成功!".encode(),
        "上传成功 name\n".encode(),
        f"上传成功 name 5 {DIGEST}".encode(),
        f"上传成功 name -5 {DIGEST}\n".encode(),
        f"上传成功 name 5 {DIGEST.upper()}\n".encode(),
        f"上传成功 name 5 {DIGEST} more\n".encode(),
        f"上传成功 two names 5 {DIGEST}\n".encode(),
        f"上传成功x name 5 {DIGEST}\n".encode(),
        f"上传成功 name 5 {DIGEST}\n\n".encode(),
        "上传失败".encode(),
        "上传失败: \n".encode(),
        "上传失败: BUSY x\n".encode(),
        "上传失败: busy x\ny\n".encode(),
        "上传成功".encode("utf-16"),
        b"\xff" * 100,
    ],
)
def test_neither(answer: bytes) -> None:
    """Anything that is not clearly success or refusal is neither."""
    assert read_answer(answer) is None


@settings(deadline=None, derandomize=True)
@given(text=_LINES, name=_LINES, size=st.integers(0, 2**63), receipts=st.booleans())
def test_stored_round_trip(text: str, name: str, size: int, receipts: bool) -> None:
    """An answer written as success is read as success, with its receipt."""
    if text.startswith(FAILURE):
        return
    receipt = Receipt(name, size, DIGEST, "x", 0, 0)
    read = read_answer(stored_answer(receipt, text, receipts=receipts), text)
    assert isinstance(read, StoredAnswer)
    if receipts:
        assert (read.size, read.sha256) == (size, DIGEST)
    else:
        assert read == StoredAnswer()


@settings(deadline=None, derandomize=True)
@given(answer=st.binary(max_size=200))
def test_anything_can_be_read(answer: bytes) -> None:
    """Any bytes of a server can be read without an exception."""
    read_answer(answer)
    read_answer(FAILURE.encode() + b": " + answer)
    read_answer(SUCCESS.encode() + b" " + answer)


_WORDS = st.sampled_from(
    [SUCCESS, FAILURE, ": ", " ", "\n", "\r", "busy", "x.bin", "5", "9" * 5000, "-1", DIGEST, "\0"]
)


@settings(deadline=None, derandomize=True, max_examples=300)
@given(answer=st.lists(_WORDS | st.text(max_size=5), max_size=8).map("".join))
def test_any_words_can_be_read(answer: str) -> None:
    """Any combination of the parts of answers can be read, and the result is printable."""
    read = read_answer(answer.encode())
    if isinstance(read, UploadRefused):
        assert str(read).isprintable()
        assert len(str(read)) < 600
    elif read is not None:
        assert (read.name or "").isprintable()


@pytest.mark.parametrize(
    ("size", "read"),
    [
        ("5", 5),
        ("0005", 5),
        ("9" * 20, 10**20 - 1),
        ("9" * 21, None),
        ("9" * 4000, None),
        ("9" * 5000, None),
        ("٥", None),
        ("5_0", None),
    ],
)
def test_size_of_a_receipt(size: str, read: int | None) -> None:
    """A size is a number of up to 20 digits; with any other size it is not a receipt."""
    answer = read_answer(f"{SUCCESS} x.bin {size} {DIGEST}\n".encode())
    assert answer == (None if read is None else StoredAnswer("x.bin", read, DIGEST))


def test_bounds() -> None:
    """Names, codes and explanations from a server have a maximum length."""
    assert read_answer(f"{SUCCESS} {'x' * 256} 5 {DIGEST}\n".encode()) is None
    assert read_answer(f"{FAILURE}: {'x' * 65} y\n".encode()) is None
    long = read_answer(f"{FAILURE}: busy {'x' * 4000}\n".encode())
    assert isinstance(long, UploadRefused)
    assert len(long.explanation) == 500


@pytest.mark.parametrize(
    ("answer", "quotation"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", '"SSH-2.0-OpenSSH_9.2p1 Debian-2"'),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", '"HTTP/1.1 400 Bad Request"'),
        (b"\x1b[2J\x00\xff", '"\\x1b[2J\\x00�"'),
        ("照片\u202e".encode(), '"照片\\u202e"'),
        (b"x" * 61, f'"{"x" * 60}..."'),
        (b"x" * 60, f'"{"x" * 60}"'),
    ],
)
def test_quotation(answer: bytes, quotation: str) -> None:
    """The start of an invalid answer is quoted, with control characters escaped."""
    assert quoted(answer) == quotation


@given(answer=st.binary(max_size=5000))
@settings(deadline=None)
def test_any_quotation(answer: bytes) -> None:
    """Any quotation is short and contains no control characters."""
    assert quoted(answer).isprintable()
    assert len(quoted(answer)) <= 60 * len("\\U00012345") + 5


@pytest.mark.parametrize(
    ("answer", "tls"),
    [
        (b"\x15\x03\x01\x00\x02\x02\x46", True),
        (b"\x15\x03\x03\x00\x02\x02\x0a", True),
        (b"\x15\x03\x03\x00\x02", False),
        (b"\x16\x03\x03\x00\x02\x02\x0a", False),
        (SUCCESS.encode(), False),
        (b"", False),
    ],
)
def test_alert(answer: bytes, tls: bool) -> None:
    """A TLS alert is distinguished from an answer."""
    assert speaks_tls(answer) == tls


@pytest.mark.parametrize("hostile", ["\x1b[2J", "\x07", "\r", "\u202e", "\u2028", "\x9b2J", "\x00"])
def test_nothing_unprintable(hostile: str) -> None:
    """A server cannot send control codes to a terminal."""
    refusal = read_answer(f"{FAILURE}: busy a{hostile}b\n".encode())
    assert isinstance(refusal, UploadRefused)
    assert hostile not in refusal.explanation
    answer = read_answer(f"{SUCCESS} a{hostile}b 5 {DIGEST}\n".encode())
    blank = hostile.isspace()
    assert answer == (None if blank else StoredAnswer(f"a{printed(hostile)}b", 5, DIGEST))


def printed(hostile: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in hostile)
