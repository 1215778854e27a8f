"""
Text written for people and read from them.
"""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_upload.core.text import (
    counted,
    format_duration,
    format_size,
    is_suffix,
    parse_duration,
    parse_size,
    printable,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("4096B", 4096),
        ("512K", 512 << 10),
        ("512k", 512 << 10),
        ("1.5M", 3 << 19),
        ("20M", 20 << 20),
        ("4G", 4 << 30),
        ("4GiB", 4 << 30),
        ("4 GB", 4 << 30),
        (" 1T ", 1 << 40),
        ("2P", 2 << 50),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_sizes(text: str, size: int) -> None:
    """Sizes are bytes, or powers of 1024."""
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "K", "-1", "1e9", "1,5M", "4X", "4 G G", "0x10", "four", "1.M", ".5M", "inf", "nan"],
)
def test_invalid_sizes(text: str) -> None:
    """The error for an invalid size gives examples of valid ones."""
    with pytest.raises(ValueError, match="such as 4096, 512K or 4G"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("30", 30),
        ("30s", 30),
        ("0.5", 0.5),
        ("500ms", 0.5),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("1.5 M", 90),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    """Durations are seconds, or have a unit."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1e3", "5 minutes", "1h30m", "inf", "nan", "1y"])
def test_invalid_durations(text: str) -> None:
    """The error for an invalid duration gives examples of valid ones."""
    with pytest.raises(ValueError, match="such as 30s, 500ms or 5m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["4000d", "9" * 400, "99999999999h"])
def test_too_long(text: str) -> None:
    """A duration beyond the range of timers is an error."""
    with pytest.raises(ValueError, match="ten years"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (20 << 20, "20.0 MiB"),
        (4 << 30, "4.0 GiB"),
        (1 << 60, "1024.0 PiB"),
    ],
)
def test_format_size(size: int, text: str) -> None:
    """A size is shown in the unit that fits it."""
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (1, "1.0 s"),
        (59, "59.0 s"),
        (60, "1.0 min"),
        (90, "1.5 min"),
        (3600, "1.0 h"),
        (86400, "24.0 h"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    """A duration is shown in the unit that fits it."""
    assert format_duration(seconds) == text


@settings(deadline=None, derandomize=True)
@given(size=st.integers(0, 2**60))
def test_shown_sizes_can_be_read(size: int) -> None:
    """A size that is shown is read as about the same size, never in another unit."""
    read = parse_size(format_size(size).replace("iB", "").replace(" ", "").removesuffix("B"))
    assert abs(read - size) <= max(size * 0.05, 0.5)


@settings(deadline=None, derandomize=True)
@given(size=st.floats(0, 2**50))
def test_next_unit(size: float) -> None:
    """1024 of a unit are shown as 1 of the next larger one."""
    number, unit = format_size(size).split()
    assert float(number) < 1024 or unit in ("PiB", "B")


@settings(deadline=None, derandomize=True)
@given(text=st.text(max_size=20))
def test_any_text(text: str) -> None:
    """Any text gives a value or a ValueError."""
    for parse in parse_size, parse_duration:
        with contextlib.suppress(ValueError):
            assert parse(text) >= 0


@pytest.mark.parametrize("suffix", ["", ".jpg", ".tar.gz", ".7z", ".JPEG", ".a-b", ".x_1"])
def test_suffixes(suffix: str) -> None:
    """These suffixes are valid."""
    assert is_suffix(suffix)


@pytest.mark.parametrize(
    "suffix",
    ["jpg", ".", "..", ".jpg.", "/", "./x", ".a/b", ".a b", ".jpg\n", ".\0", ".é", "." + "x" * 32,
     ".a.b.c.d.e", "-.jpg"],
)  # fmt: skip
def test_invalid_suffixes(suffix: str) -> None:
    """These suffixes are invalid."""
    assert not is_suffix(suffix)


@given(st.text(st.characters()))
@settings(deadline=None)
def test_printable(text: str) -> None:
    """Printing any name of a file sends no control codes to a terminal."""
    shown = printable(text)
    assert shown.isprintable()
    shown.encode()


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("照片 1.jpg", "照片 1.jpg"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("two\nlines", "two\\nlines"),
        ("caf\udce9", "caf\\xe9"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("\u2028", "\\u2028"),
        ("\ud800", "\\ud800"),
    ],
)
def test_printable_escapes(name: str, shown: str) -> None:
    """Invisible characters are shown as escapes, the others unchanged."""
    assert printable(name) == shown


def test_counted() -> None:
    """The number 1 takes the singular, every other number the plural."""
    numbers = [counted(number, "upload") for number in (0, 1, 2)]
    assert numbers == ["0 uploads", "1 upload", "2 uploads"]
