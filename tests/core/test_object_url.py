"""
Buckets and prefixes.  ``tests/system/test_usage.py`` has more texts that are invalid.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twisted_upload.core.object_url import LONGEST_PREFIX, ObjectURL


@pytest.mark.parametrize(
    ("text", "bucket", "prefix"),
    [
        ("s3://inbox", "inbox", ""),
        ("s3://inbox/", "inbox", ""),
        ("s3://my.bucket-1/scans", "my.bucket-1", "scans/"),
        ("s3://inbox/2026/Scans_of+us/", "inbox", "2026/Scans_of+us/"),
    ],
)
def test_url(text: str, bucket: str, prefix: str) -> None:
    """A URL names a bucket and a prefix; the prefix ends with a slash unless it is empty."""
    url = ObjectURL.parse(text)
    assert url == (bucket, prefix)
    assert str(url) == text.rstrip("/")
    assert ObjectURL.parse(str(url)) == url


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("inbox", "not of the form"),
        ("S3://inbox", "not of the form"),
        ("https://s3.example/inbox", "not of the form"),
        ("s3://", "not the name of a bucket"),
        ("s3://ab", "not the name of a bucket"),
        ("s3://Inbox", "not the name of a bucket"),
        ("s3://a..b", "not the name of a bucket"),
        ("s3://key:secret@inbox", "^no credentials here"),
        ("s3://inbox\n", "not the name of a bucket"),
        ("s3://inbox//a", "cannot be a part"),
        ("s3://inbox/a/../b", "cannot be a part"),
        ("s3://inbox/a b", "cannot be a part"),
        ("s3://inbox/a?b", "cannot be a part"),
        ("s3://inbox/ä", "cannot be a part"),
        ("s3://inbox/" + "a" * (LONGEST_PREFIX + 1), "longer than 512 B"),
    ],
)
def test_invalid_url(text: str, why: str) -> None:
    """What could be misunderstood by an object store, a shell or a log is no URL."""
    with pytest.raises(ValueError, match=why) as refused:
        ObjectURL.parse(text)
    assert "secret" not in str(refused.value)


@given(st.text(max_size=20))
def test_any_text(text: str) -> None:
    """A prefix is harmless in a path and a log line, whatever it was made of."""
    try:
        url = ObjectURL.parse(f"s3://abc/{text}")
    except ValueError:
        return
    assert url.prefix.isascii()
    assert url.prefix.isprintable()
    assert not {"", ".", ".."} & {*url.prefix.split("/")[:-1]}
