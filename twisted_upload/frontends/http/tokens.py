"""
Tokens: who has one may upload, under the token's name.

A token is 256 random bits, so that nobody can guess it, and so that a fast hash of it
tells nothing.  A file has the hashes, one ``NAME:SHA256`` a line; the token itself is
shown once, when it is made, and is stored nowhere.  Empty lines, and lines that begin
with ``#``, are comments; any other line is an error, because a line that was meant to
revoke a token must not go unnoticed.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping

from twisted_upload.disk.files import Files
from twisted_upload.disk.secret_files import parse_secret_file

__all__ = [
    "TokenTable",
    "new_token",
    "parse_tokens",
    "read_tokens",
    "token_digest",
    "token_line",
    "with_token",
    "without_token",
]

PREFIX = "tok_"
"""How each token begins, for tools that search texts for secrets."""

MOST_TOKENS = 10_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\Z")
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._@-]{0,63}):([0-9a-f]{64})\Z")


def new_token(random: Callable[[int], bytes]) -> str:
    """
    Return a new token: text that can be part of a header field and of an address.

    :param random: returns so many random bytes, which nobody can guess.
    """
    return PREFIX + urlsafe_b64encode(random(32)).rstrip(b"=").decode()


def token_digest(token: str) -> str:
    """Return the hash that is stored of a token: 64 lower-case hexadecimal digits."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def token_line(name: str, token: str) -> str:
    """
    Return the line of a token.

    :raises ValueError: the name is not valid; the text says what is accepted.
    """
    if not _NAME.match(name):
        raise ValueError(
            f"{name!r} is not a name: 1 to 64 letters, digits and . _ @ -, beginning with a letter"
            " or a digit"
        )
    return f"{name}:{token_digest(token)}"


def parse_tokens(content: bytes) -> dict[str, str]:
    """
    Parse the content of a file of tokens.

    :return: the hash of each token, by its name.
    :raises ValueError: it is not valid; the text names the line.
    """
    tokens: dict[str, str] = {}
    for number, line in _lines(content):
        found = _LINE.match(line)
        if found is None:
            raise ValueError(f"line {number} is not NAME:SHA256")
        if found[1] in tokens:
            raise ValueError(f"line {number}: there is another token of this name")
        tokens[found[1]] = found[2]
    if len(tokens) > MOST_TOKENS:
        raise ValueError(f"it has more than {MOST_TOKENS} tokens")
    return tokens


def _lines(content: bytes) -> Iterator[tuple[int, str]]:
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.startswith("#"):
            yield number, line


def with_token(content: bytes, name: str, token: str) -> bytes:
    """
    Return the content of a file with one more token.

    :raises ValueError: the name is taken or not valid, or the file is not valid.
    """
    line = token_line(name, token)
    if name in parse_tokens(content):
        raise ValueError(f"there is a token of the name {name}; revoke it first")
    ended = content if not content or content.endswith(b"\n") else content + b"\n"
    return ended + f"{line}\n".encode()


def without_token(content: bytes, name: str) -> bytes:
    """
    Return the content of a file without a token; comments stay.

    :raises ValueError: there is no such token, or the file is not valid.
    """
    digest = parse_tokens(content).get(name)
    if digest is None:
        raise ValueError(f"there is no token of the name {name!r}")
    line = f"{name}:{digest}".encode()
    return b"\n".join(it for it in content.split(b"\n") if it != line)


class TokenTable:
    """
    The tokens in force.

    :param digests: the hash of each token, by its name.
    """

    def __init__(self, digests: Mapping[str, str]) -> None:
        self._names = {digest: name for name, digest in digests.items()}
        self._digests = {digest[:16]: digest for digest in digests.values()}

    def __len__(self) -> int:
        """Return their number."""
        return len(self._digests)

    def name_of(self, token: str) -> str | None:
        """Return the name of a token; `None` if it is not one of these."""
        digest = token_digest(token)
        # Finding a candidate by the beginning of the hash takes a time that depends on
        # hashes alone, and no sender can choose a token for a hash.
        candidate = self._digests.get(digest[:16], "0" * 64)
        return self._names[digest] if hmac.compare_digest(candidate, digest) else None


def read_tokens(path: str, files: Files) -> TokenTable:
    """
    Read a file of tokens.

    It has to belong to us or to root, and no other user may write to it.  Others may read
    it: it has nothing by which they could upload.

    :raises WrongConfiguration: it cannot be used; the text says why.
    """
    return TokenTable(parse_secret_file(path, parse_tokens, files, private=False))
