"""
An upload over HTTP: by tus, which goes on after a break, or by PUT if there is no tus.
"""

from __future__ import annotations

from typing import TypeAlias

from twisted_upload.client.conversation import Conversation, Sleep
from twisted_upload.client.http.job import HTTPUpload, Requests
from twisted_upload.client.http.plain import PutUpload
from twisted_upload.client.http.stream import TusStream
from twisted_upload.client.http.tus import NoTus, TusUpload
from twisted_upload.errors import (
    AnswerTimedOut,
    Conflict,
    OutcomeUnknown,
    SourceFailed,
    UploadError,
    UploadRefused,
)
from twisted_upload.receipt import Receipt

__all__ = ["http_upload"]

_Way: TypeAlias = TusUpload | TusStream | PutUpload


def http_upload(job: HTTPUpload) -> Conversation[Receipt]:
    """
    Send a file over HTTP, in as many attempts as it takes.

    The file is stored once if this returns, and at most once if it does not.

    :raises UploadError: it was not stored, or, with `OutcomeUnknown`, may not be.
    """
    requests = Requests(job)
    way: _Way = TusUpload(job, requests)
    if not (job.content.again and job.content.total):
        way = TusStream(job, requests)
    while True:
        job.attempts.begin()
        try:
            receipt = yield from way.attempt()
        except NoTus:
            way = PutUpload(job, requests)
            job.attempts.number -= 1
        except SourceFailed:
            yield from way.give_up()
            raise
        except UploadError as error:
            yield from requests.abort()
            delay = _delay(job, way, error)
            yield Sleep(delay)
        else:
            yield from requests.close()
            return receipt


def _delay(job: HTTPUpload, way: _Way, error: UploadError) -> float:
    """
    Return how many seconds to wait before the next attempt.

    :raises UploadError: there is to be none.
    """
    again = error.safe_to_repeat
    finishing = job.saved.finishing if isinstance(way, TusUpload) else way.finishing
    if not isinstance(way, PutUpload):  # the server can be asked what it has
        again = again or isinstance(error, Conflict | AnswerTimedOut)
    elif not way.repeatable or (finishing and not isinstance(error, UploadRefused)):
        again = False
    try:
        if not again:
            raise error
        asked = error.retry_after if isinstance(error, UploadRefused) else 0.0
        return job.attempts.delay_after(error, asked)
    except UploadError:
        if finishing and not isinstance(error, OutcomeUnknown):
            text = f"everything was sent, but no clear answer came: {error}"
            raise OutcomeUnknown(text) from error
        raise
