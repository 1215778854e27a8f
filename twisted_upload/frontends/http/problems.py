"""
Errors as responses: RFC 9457 for programs, one line of text for people.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType

from twisted_upload.core.answers import failure_answer
from twisted_upload.errors import (
    BadRequest,
    Busy,
    Conflict,
    DigestMismatch,
    Empty,
    NoSpace,
    NotAllowed,
    NotFound,
    ShuttingDown,
    StoreFailed,
    TimedOut,
    TooLarge,
    Unauthorized,
    UploadRefused,
)
from twisted_upload.frontends.http.messages import Problem, Response

__all__ = ["REASONS", "RETRY_AFTER", "STATUSES", "problem_of", "problem_response", "wants_json"]

REASONS: Mapping[int, str] = MappingProxyType(
    {
        200: "OK",
        201: "Created",
        204: "No Content",
        303: "See Other",
        304: "Not Modified",
        400: "Bad Request",
        401: "Unauthorized",
        403: "Forbidden",
        404: "Not Found",
        405: "Method Not Allowed",
        406: "Not Acceptable",
        408: "Request Timeout",
        409: "Conflict",
        410: "Gone",
        411: "Length Required",
        412: "Precondition Failed",
        413: "Content Too Large",
        414: "URI Too Long",
        415: "Unsupported Media Type",
        417: "Expectation Failed",
        421: "Misdirected Request",
        422: "Unprocessable Content",
        429: "Too Many Requests",
        431: "Request Header Fields Too Large",
        460: "Checksum Mismatch",
        500: "Internal Server Error",
        501: "Not Implemented",
        503: "Service Unavailable",
        505: "HTTP Version Not Supported",
        507: "Insufficient Storage",
    }
)
"""The reason phrases of the statuses that are sent."""

STATUSES: Mapping[type[UploadRefused], int] = MappingProxyType(
    {
        BadRequest: 400,
        Busy: 503,
        Conflict: 409,
        DigestMismatch: 460,
        Empty: 400,
        NoSpace: 507,
        NotAllowed: 403,
        NotFound: 404,
        ShuttingDown: 503,
        StoreFailed: 503,
        TimedOut: 408,
        TooLarge: 413,
        Unauthorized: 401,
    }
)
"""The status of each refusal; 400 for one that is not here."""

RETRY_AFTER = 5
"""Seconds after which a client is told to try again."""

_UNAUTHORIZED = (("WWW-Authenticate", 'Bearer realm="uploads"'),)
_JSON = re.compile(r"application/(?:problem\+)?json\s*(?:;(.*))?\Z", re.IGNORECASE | re.DOTALL)
_NOT_AT_ALL = re.compile(r"(?:\A|;)\s*q\s*=\s*0(?:\.0*)?\s*(?:;|\Z)", re.IGNORECASE)


def problem_of(error: Problem | UploadRefused) -> Problem:
    """Return what is wrong with a request as a problem, with its status."""
    if isinstance(error, Problem):
        return error
    status = next(
        (STATUSES[kind] for kind in type(error).__mro__ if kind in STATUSES),
        400,
    )
    fields: tuple[tuple[str, str], ...] = ()
    if status == 503:
        fields = (("Retry-After", str(RETRY_AFTER)),)
    elif status == 401:
        fields = _UNAUTHORIZED
    return Problem(status, error.code, error.explanation, fields)


def problem_response(
    error: Problem | UploadRefused, fields: Mapping[str, str] | None = None
) -> Response:
    """
    Return the response that tells what is wrong with a request.

    :param fields: of the request: ``Accept`` decides whether it is for a program or for
        a person.
    """
    problem = problem_of(error)
    if wants_json(fields or {}):
        kind = "application/problem+json"
        body = (
            json.dumps(
                {
                    "type": "about:blank",
                    "title": REASONS.get(problem.status, ""),
                    "status": problem.status,
                    "code": problem.code,
                    "detail": problem.detail,
                }
            )
            + "\n"
        ).encode()
    else:
        kind = "text/plain; charset=utf-8"
        body = failure_answer(problem.code, problem.detail)
    return Response(problem.status, (("Content-Type", kind), *problem.fields), body)


def wants_json(fields: Mapping[str, str]) -> bool:
    """
    Return whether a client asks for JSON: `Accept` names it.

    :param fields: of its request.
    """
    accept = fields.get("accept", "")
    if "json" not in accept.lower():
        return False
    for entry in accept.split(","):
        found = _JSON.match(entry.strip())
        if found is not None and not _NOT_AT_ALL.search(found[1] or ""):
            return True
    return False
