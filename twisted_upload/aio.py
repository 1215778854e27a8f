"""
Uploads for programs with asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

from twisted_upload.client.attempts import OnAttempt
from twisted_upload.client.content import AnySource
from twisted_upload.client.in_thread import Result, ThreadedUpload
from twisted_upload.client.rate_limit import RateLimit
from twisted_upload.client.resume_state import ResumeState
from twisted_upload.client.sending import Progress, Upload
from twisted_upload.client.targets import Target
from twisted_upload.core.answers import SUCCESS
from twisted_upload.receipt import Receipt

__all__ = ["upload"]

_TO_STOP = 1.0
"""Seconds to wait, after a cancellation, until the connection has been reset."""


async def upload(
    source: AnySource,
    target: str | Target,
    *,
    token: str | None = None,
    label: str = "",
    name: str | None = None,
    content_type: str | None = None,
    cacert: str | None = None,
    answer: str = SUCCESS,
    sha256: bool | None = None,
    retry: float | None = None,
    state: ResumeState | None = None,
    limit: RateLimit | None = None,
    progress: Progress | None = None,
    on_attempt: OnAttempt | None = None,
    connect_timeout: float = 30.0,
    stall_timeout: float = 60.0,
    answer_timeout: float = 300.0,
) -> Receipt:
    """
    Send one file, and return its receipt: the server has confirmed that it is stored.

    The arguments and the errors are those of `twisted_upload.sync.upload`.  It runs in a
    thread; ``progress`` and ``on_attempt`` are called in the event loop, and what they raise
    ends the upload.

    Cancelling it resets the connection: nothing is stored, unless everything had been sent.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Result] = loop.create_future()

    def call(function: Callable[[], Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(function)

    def done(result: Result) -> None:
        if not ended.done():
            ended.set_result(result)

    sending = ThreadedUpload(
        Upload(
            source,
            target,
            token=token,
            label=label,
            name=name,
            content_type=content_type,
            cacert=cacert,
            answer=answer,
            sha256=sha256,
            retry=retry,
            state=state,
            limit=limit,
            progress=progress,
            on_attempt=on_attempt,
            connect_timeout=connect_timeout,
            stall_timeout=stall_timeout,
            answer_timeout=answer_timeout,
        ),
        call,
        done,
    )
    sending.start()
    try:
        result = await asyncio.shield(ended)
    except asyncio.CancelledError:
        sending.stop()
        await asyncio.wait({ended}, timeout=_TO_STOP)
        raise
    if isinstance(result, BaseException):
        raise result
    return result
