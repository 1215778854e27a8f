"""
Tests of errors as responses.
"""

from __future__ import annotations

import json

import pytest

from twisted_upload.core.answers import CODES, read_answer
from twisted_upload.errors import (
    Busy,
    NotFound,
    StoreFailed,
    TooLarge,
    Unauthorized,
    UploadRefused,
)
from twisted_upload.frontends.http.messages import Problem
from twisted_upload.frontends.http.problems import (
    REASONS,
    STATUSES,
    problem_of,
    problem_response,
    wants_json,
)


@pytest.mark.parametrize("kind", CODES.values(), ids=lambda kind: kind.code)
def test_every_refusal_has_a_status(kind: type[UploadRefused]) -> None:
    """Each code has an HTTP status, and the status a reason phrase."""
    assert kind in STATUSES
    assert problem_of(kind()).status in REASONS


def test_refusal_of_a_store() -> None:
    """A refusal that a store defines has the status of its base class."""

    class Broken(StoreFailed):
        pass

    assert problem_of(Broken()).status == 503


def test_text_for_people() -> None:
    """A person reads the same line as at the raw front end."""
    response = problem_response(TooLarge("at most 5 bytes"))
    assert response.status == 413
    assert ("Content-Type", "text/plain; charset=utf-8") in response.fields
    assert response.body == "上传失败: too-large at most 5 bytes\n".encode()
    answer = read_answer(response.body)
    assert isinstance(answer, TooLarge)


def test_json_for_programs() -> None:
    """A program that asks for JSON gets an RFC 9457 problem with our code."""
    response = problem_response(NotFound("gone"), {"accept": "application/json"})
    assert ("Content-Type", "application/problem+json") in response.fields
    assert json.loads(response.body) == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "code": "not-found",
        "detail": "gone",
    }


def test_when_to_try_again() -> None:
    """A refusal that passes says when to try again."""
    assert ("Retry-After", "5") in problem_response(Busy()).fields


def test_how_to_authenticate() -> None:
    """401 says how to authenticate: RFC 9110, section 15.5.2."""
    assert "WWW-Authenticate" in dict(problem_response(Unauthorized()).fields)


def test_fields_of_a_problem() -> None:
    """A problem keeps its own status and fields."""
    problem = Problem(405, "method-not-allowed", "no", (("Allow", "PUT"),))
    response = problem_response(problem)
    assert response.status == 405
    assert ("Allow", "PUT") in response.fields


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", False),
        ("*/*", False),
        ("text/html, */*;q=0.8", False),
        ("application/json", True),
        ("Application/JSON", True),
        ("text/plain;q=0.5, application/problem+json;q=0.9", True),
        ("application/json; q=0", False),
        ("application/json;q=0.000", False),
        ("application/json;q=0.001", True),
        ("application/jsonp", False),
        ("text/json", False),
    ],
)
def test_who_asks_for_json(accept: str, expected: bool) -> None:
    """A client asks for JSON if `Accept` names it."""
    assert wants_json({"accept": accept}) is expected
