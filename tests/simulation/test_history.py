"""
The account of what was sent and told.
"""

from __future__ import annotations

import hashlib

import pytest

from tests.simulation.history import (
    REFUSED,
    STORED,
    Attempt,
    History,
    Violation,
    content_of,
    content_piece,
    number_in,
)


def history() -> History:
    return History(lambda: 1.0)


def sent(account: History, number: int = 7, size: int = 100) -> Attempt:
    """Return an attempt whose end was sent."""
    attempt = account.begin(number, "raw-whole", size)
    attempt.sent, attempt.complete = size, True
    return attempt


@pytest.mark.parametrize("number", [0, 1, 2**24 - 1])
def test_contents_tell_their_number(number: int) -> None:
    """The number of a content can be read in its first bytes."""
    assert number_in(content_of(number, 100)) == number
    assert number_in(content_of(number, 8)) == number


def test_pieces_make_up_the_content() -> None:
    """Pieces of a content, of any size, are what is there in the whole."""
    size = 2_500_000
    whole = content_of(5, size)
    assert len(whole) == size
    at = 0
    for step in (1, 3, 5, 1000, 1_000_000, 1_048_576, size):
        assert content_piece(5, size, at, at + step) == whole[at : at + step]
        at = min(size, at + step)


def test_contents_differ_and_do_not_repeat_at_the_same_place() -> None:
    """Two contents have nothing in common, so that pieces of them cannot be confused."""
    one, other = content_of(2, 5000), content_of(4, 5000)
    assert sum(a == b for a, b in zip(one, other, strict=True)) < 100


def test_foreign_content_has_no_number() -> None:
    """Content that no sender has made is recognised as such."""
    assert number_in(b"something else") is None
    assert number_in(b"TUxyz") is None
    assert number_in(b"TU       ") is None


def test_stored_before_its_end() -> None:
    """To be told success before the end was sent is a violation."""
    account = history()
    attempt = account.begin(1, "raw-whole", 100)
    with pytest.raises(Violation, match="before its end"):
        account.stored(attempt, None)
    assert account.violations


def test_silence_may_be_an_end() -> None:
    """With --finish-after-idle, what was sent so far may be stored."""
    account = history()
    account.ends_by_idle = True
    attempt = account.begin(1, "raw-no-end", 100)
    attempt.sent = 40
    digest = hashlib.sha256(content_of(1, 100)[:40]).hexdigest()
    account.stored(attempt, "a", 40, digest)
    with pytest.raises(Violation, match="size"):
        account.stored(attempt, "a", 41, None)


def test_stored_after_refused_and_the_other_way_round() -> None:
    """A sender is told one of the two."""
    account = history()
    one, other = sent(account, 1), sent(account, 2)
    account.refused(one, "busy")
    with pytest.raises(Violation, match="refused"):
        account.stored(one, "x")
    account.stored(other, "y")
    with pytest.raises(Violation, match="refused"):
        account.refused(other, "busy")
    assert (one.told, other.told) == (REFUSED, STORED)
    assert account.counts[STORED] == account.counts[REFUSED] == 1


def test_wrong_receipts() -> None:
    """Size and SHA-256 of a receipt are those of the content."""
    account = history()
    attempt = sent(account)
    with pytest.raises(Violation, match="size"):
        account.stored(attempt, "a", 99, None)
    with pytest.raises(Violation, match="SHA-256"):
        account.stored(attempt, "a", 100, "0" * 64)
    account.stored(attempt, "a", 100, hashlib.sha256(attempt.data()).hexdigest())
    with pytest.raises(Violation, match="another name"):
        account.stored(attempt, "b")


def test_one_name_for_two() -> None:
    """No two uploads are told the same name, unless they are one concatenation."""
    account = history()
    account.stored(sent(account, 1), "a")
    with pytest.raises(Violation, match="both"):
        account.stored(sent(account, 2), "a")
    parts = [sent(account, 3), sent(account, 4)]
    finals = [account.begin(number, "tus-concat", 0) for number in (5, 6)]
    for final in finals:
        account.concatenate(final, parts)
        final.complete = True
        account.stored(final, "b", 200)
    assert finals[0].data() == parts[0].data() + parts[1].data()


def test_offsets() -> None:
    """An offset does not go back, and is not that of bytes that were never sent."""
    account = history()
    attempt = account.begin(1, "tus", 100)
    attempt.sent = 60
    account.offset(attempt, 50, 0)
    with pytest.raises(Violation, match="after 50"):
        account.offset(attempt, 49, 50)
    with pytest.raises(Violation, match="fewer bytes"):
        account.offset(attempt, 61, 50)
    account.offset(attempt, 55, 50)
    assert attempt.offset == 55


def test_retries_have_the_same_content() -> None:
    """An attempt that sends a content again is known as that."""
    account = history()
    first = sent(account, 1)
    again = account.begin(9, "raw-whole", 0, again=first)
    assert again.data() == first.data()
    assert account.contents[1] == [first, again]
