"""Tokens: the file of their hashes, and which token is in it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from twisted_upload.disk.files import Files
from twisted_upload.errors import WrongConfiguration
from twisted_upload.frontends.http.tokens import (
    TokenTable,
    new_token,
    parse_tokens,
    read_tokens,
    token_digest,
    token_line,
    with_token,
    without_token,
)


def line(name: str, token: str = "tok_secret") -> bytes:
    return f"{token_line(name, token)}\n".encode()


def test_new_token() -> None:
    """A token has 256 random bits, and fits into a header field and an address."""
    one, other = new_token(Files().random), new_token(Files().random)
    assert one != other
    assert len(one) == len("tok_") + 43
    assert one.replace("_", "").replace("-", "").isalnum()


def test_hash_only() -> None:
    """The file has the SHA-256 of the token, and not the token."""
    assert line("scanner") == f"scanner:{hashlib.sha256(b'tok_secret').hexdigest()}\n".encode()


def test_parse() -> None:
    """Empty lines and comments do not count."""
    content = b"# scanners\n\n" + line("a") + b"  \n" + line("b", "other")
    assert parse_tokens(content) == {"a": token_digest("tok_secret"), "b": token_digest("other")}


@pytest.mark.parametrize(
    "content",
    [
        b"a\n",
        b"a:00\n",
        b" " + line("a"),
        line("a").replace(b"\n", b" \n"),
        line("a").replace(b"\n", b"\r\n"),
        line("a").upper(),
        line("a").replace(b"a:", b"a b:", 1),
        b"-" + line("a"),
        b"\xff\n",
        line("a") + line("a", "other"),
    ],
)
def test_strict(content: bytes) -> None:
    """Any other line is an error: it may have been meant to revoke a token."""
    with pytest.raises(ValueError, match=r"line \d|UTF-8"):
        parse_tokens(content)


@pytest.mark.parametrize("name", ["", "a:b", "a b", "ü", ".a", "x" * 65, "a\n"])
def test_names(name: str) -> None:
    """A name that would break the file is not accepted."""
    with pytest.raises(ValueError, match="is not a name"):
        token_line(name, "x")


def test_add_and_remove() -> None:
    """What is added can be removed; everything else stays as it is."""
    before = b"# by hand\n" + line("a").rstrip()
    both = with_token(before, "b", "other")
    assert parse_tokens(both).keys() == {"a", "b"}
    assert without_token(both, "b") == before + b"\n"
    with pytest.raises(ValueError, match="there is a token of the name a"):
        with_token(before, "a", "other")
    with pytest.raises(ValueError, match="there is no token of the name 'c'"):
        without_token(before, "c")


def test_table() -> None:
    """A token is found by its hash; anything else is not."""
    table = TokenTable({"a": token_digest("one"), "b": token_digest("two")})
    assert len(table) == 2
    assert [table.name_of(it) for it in ("one", "two", "three", "", "\udcff")] == [
        *("a", "b"),
        *(None, None, None),
    ]
    assert table.name_of(token_digest("one")) is None
    assert TokenTable({}).name_of("one") is None


def test_read(tmp_path: Path) -> None:
    """A file that others may read is accepted; one that they may write is not."""
    path = tmp_path / "tokens"
    path.write_bytes(line("a"))
    path.chmod(0o644)
    assert read_tokens(str(path), Files()).name_of("tok_secret") == "a"
    path.chmod(0o664)
    with pytest.raises(WrongConfiguration, match=r"tokens: other users may write to it: chmod"):
        read_tokens(str(path), Files())


def test_unreadable(tmp_path: Path) -> None:
    """The error is one line, and names the file."""
    with pytest.raises(WrongConfiguration, match=r"cannot read .*/tokens: No such file"):
        read_tokens(str(tmp_path / "tokens"), Files())
    with pytest.raises(WrongConfiguration, match="it is not a file"):
        read_tokens(str(tmp_path), Files())
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WrongConfiguration, match="it is not a file"):
        read_tokens(str(tmp_path / "pipe"), Files())
    (tmp_path / "broken").write_bytes(b"# ok\nnonsense\n")
    with pytest.raises(WrongConfiguration, match="broken: line 2 is not NAME:SHA256"):
        read_tokens(str(tmp_path / "broken"), Files())
