"""
The name and media type of a file, from a request.
"""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_upload.core.metadata import clean_original_name
from twisted_upload.frontends.http.messages import Request
from twisted_upload.frontends.http.metadata import (
    disposition_name,
    path_name,
    request_metadata,
)
from twisted_upload.interfaces import NO_METADATA, Metadata


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/photo.jpg", "photo.jpg"),
        ("/", ""),
        ("/a%20b.jpg", "a b.jpg"),
        ("/a+b.jpg", "a+b.jpg"),
        ("/%E4%B8%AD%E6%96%87.txt", "\u4e2d\u6587.txt"),
        ("/%2541", "%41"),
        ("/%zz%4", "%zz%4"),
        ("/%ff.jpg", "\ufffd.jpg"),
        ("/..%2f..%2fetc%2fpasswd", "../../etc/passwd"),
    ],
)
def test_path(path: str, name: str) -> None:
    """The last segment of a path is decoded once."""
    assert path_name(path) == name


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ('attachment; filename="photo.jpg"', "photo.jpg"),
        ("attachment; filename=photo.jpg", "photo.jpg"),
        ('attachment;filename="a; b=\\"c\\".jpg"; x=y', 'a; b="c".jpg'),
        ("attachment; filename*=UTF-8''%e2%82%ac%20rates", "\u20ac rates"),
        ("attachment; filename*=iso-8859-1'en'%A3", "\u00a3"),
        ("attachment; filename=\"e.txt\"; filename*=utf-8''%C3%A9.txt", "\u00e9.txt"),
        ("attachment; FILENAME*=utf-8''%C3%A9.txt; FileName=e.txt", "\u00e9.txt"),
        ("attachment; filename=e.txt; filename*=utf-8''%FF", "e.txt"),
        ("attachment; filename=e.txt; filename*=utf-16''x", "e.txt"),
        ("attachment; filename=e.txt; filename*=utf-8''%zz", "e.txt"),
        ('attachment; filename="one"; filename="two"', "one"),
        ('form-data; name="f"; filename="\u00e4\u00b8\u00ad.txt"', "\u4e2d.txt"),
        ('attachment; filename="\u00e4.txt"', "\u00e4.txt"),
        ("inline", ""),
        ("filename=x", ""),
        ('attachment; filename="never ends', ""),
        ("", ""),
    ],
)
def test_disposition(value: str, name: str) -> None:
    """``filename*`` wins over ``filename``; what is malformed is ignored."""
    assert disposition_name(value) == name


@given(st.text(max_size=80))
@settings(deadline=None)
def test_round_trips(name: str) -> None:
    """Every name survives both ways of sending it."""
    name = clean_original_name(name)
    encoded = quote(name, safe="")
    assert path_name(f"/{encoded}") == name
    assert disposition_name(f"attachment; filename*=UTF-8''{encoded}") == name


@given(st.text(st.characters(codec="iso-8859-1"), max_size=200))
@settings(deadline=None)
def test_any_disposition(value: str) -> None:
    """No field makes the parser fail."""
    disposition_name(value)
    disposition_name(f"attachment; {value}")


def test_disposition_is_linear() -> None:
    """A field that is made to backtrack takes no time to speak of."""
    spaces = " " * 100_000
    for hostile in (
        *('a="' * 5000, "a;" * 8000, "attachment" + ";a=" * 5000 + '"', "; " * 8000),
        *(f'filename={spaces}"a', f"filename*={spaces}a b", f"{spaces}=", f"a{spaces}!"),
    ):
        disposition_name(f"attachment; {hostile}")


def test_request() -> None:
    """Name and media type come from the fields and the path; the fields take precedence."""
    request = Request(
        "PUT",
        "/a.jpg?x=y.jpg",
        {"content-type": "Image/PNG; x=1", "content-disposition": "attachment; filename=/b/c.png"},
    )
    assert request_metadata(request, "Alice") == Metadata("c.png", "image/png", "Alice")
    assert request_metadata(Request("PUT", "/a.jpg?x=y.jpg")) == Metadata("a.jpg")
    curls = {"content-type": "application/x-www-form-urlencoded"}
    assert request_metadata(Request("POST", "/", curls)) == NO_METADATA
