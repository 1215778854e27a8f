"""
Responses to uploads that have ended: a line for people, JSON for programs, and a page for
a form that a browser has sent.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from twisted_upload.core.answers import SUCCESS, failure_answer
from twisted_upload.errors import UploadRefused
from twisted_upload.frontends.http.exchange import IExchange
from twisted_upload.frontends.http.messages import Problem, Response
from twisted_upload.frontends.http.problems import problem_of, problem_response, wants_json
from twisted_upload.interfaces import Metadata, Receipt

__all__ = [
    "FormPage",
    "Result",
    "form_refused",
    "form_response",
    "stored_response",
    "wants_html",
]

Fields = tuple[tuple[str, str], ...]

_TEXT = (("Content-Type", "text/plain; charset=utf-8"),)
_JSON = (("Content-Type", "application/json"),)


class Result(NamedTuple):
    """
    What has become of one file of a form.

    :ivar metadata: what its sender said about it.
    :ivar receipt: if it is stored.
    :ivar refusal: if it is not.
    """

    metadata: Metadata
    receipt: Receipt | None = None
    refusal: UploadRefused | None = None


FormPage = Callable[[IExchange, Sequence[Result], int], Response]
"""
Returns the page that tells what has become of the files of a form, with this status.
"""


def stored_response(receipt: Receipt, fields: Mapping[str, str], more: Fields = ()) -> Response:
    """
    Return the response to a request whose body is stored.

    :param fields: of the request: ``Accept`` decides whether it is for a program.
    :param more: further header fields.
    """
    if "accept" in fields and wants_json(fields):
        return Response(201, (*_JSON, *more), _encoded(_stored(receipt)))
    return Response(201, (*_TEXT, *more), _line(receipt))


def form_response(
    exchange: IExchange, results: Sequence[Result], page: FormPage | None = None
) -> Response:
    """
    Return the response to a form; its status is 201 only if all its files are stored, and
    that of the first problem otherwise.

    :param page: makes a page of it for browsers.
    """
    refused = [result.refusal for result in results if result.refusal is not None]
    problem = problem_of(refused[0]) if refused else None
    status, more = (201, ()) if problem is None else (problem.status, problem.fields)
    fields = exchange.request.fields
    if wants_json(fields):
        files = {"files": [_of(result) for result in results]}
        return Response(status, (*_JSON, *more), _encoded(files))
    if page is not None and wants_html(fields):
        return page(exchange, results, status)
    return Response(status, (*_TEXT, *more), b"".join(_lines(results)))


def form_refused(exchange: IExchange, result: Result, page: FormPage | None = None) -> Response:
    """
    Return the response to a form of which nothing is stored.

    :param result: of the file that was refused; without metadata if it is the form.
    """
    fields = exchange.request.fields
    if page is not None and wants_html(fields):
        return form_response(exchange, [result], page)
    assert result.refusal is not None
    problem, name = problem_of(result.refusal), result.metadata.original_name
    if name:
        detail = f"{name}: {problem.detail}"
        problem = Problem(problem.status, problem.code, detail, problem.fields)
    return problem_response(problem, fields)


def wants_html(fields: Mapping[str, str]) -> bool:
    """Return whether a client is a browser that shows a page: `Accept` names HTML."""
    kinds = [kind.partition(";")[0].strip() for kind in fields.get("accept", "").split(",")]
    return "text/html" in kinds


def _line(receipt: Receipt) -> bytes:
    return f"{SUCCESS} {receipt.name} {receipt.size} {receipt.sha256 or '-'}\n".encode()


def _lines(results: Iterable[Result]) -> Iterable[bytes]:
    for result in results:
        if result.receipt is not None:
            yield _line(result.receipt)
        elif result.refusal is not None:
            name, refusal = result.metadata.original_name, result.refusal
            explanation = f"{name}: {refusal.explanation}" if name else refusal.explanation
            yield failure_answer(refusal.code, explanation)


def _of(result: Result) -> dict[str, Any]:
    if result.receipt is not None:
        return _stored(result.receipt)
    assert result.refusal is not None
    refusal = result.refusal
    return {
        "name": None,
        "original_name": result.metadata.original_name or None,
        "code": refusal.code,
        "detail": refusal.explanation,
    }


def _stored(receipt: Receipt) -> dict[str, Any]:
    metadata = receipt.metadata
    return {
        "name": receipt.name,
        "size": receipt.size,
        "sha256": receipt.sha256,
        "original_name": metadata.original_name or None,
        "content_type": metadata.content_type or None,
        "folder": metadata.folder or None,
    }


def _encoded(value: object) -> bytes:
    return (json.dumps(value, ensure_ascii=False) + "\n").encode()
