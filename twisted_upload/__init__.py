"""
A write-only drop box for files, reached over the network.

The daemon is ``twistd upload``.  This module is the Python client: `upload` sends
one file, and the exceptions are the ways in which it can fail.  It is for programs that
use Twisted; `twisted_upload.aio` is for asyncio, `twisted_upload.sync` for all others.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, whose import is slow
if TYPE_CHECKING:
    from twisted_upload.client.attempts import Attempt
    from twisted_upload.client.rate_limit import RateLimit
    from twisted_upload.client.resume_state import ResumeState
    from twisted_upload.client.upload import upload
    from twisted_upload.core.answers import SUCCESS
    from twisted_upload.errors import (
        AnswerTimedOut,
        CouldNotConnect,
        OutcomeUnknown,
        ReceiptMismatch,
        SourceChanged,
        SourceFailed,
        UploadError,
        UploadInterrupted,
        UploadRefused,
        UploadTimedOut,
    )
    from twisted_upload.receipt import Receipt
    from twisted_upload.stores.store_file import StoreFile

__all__ = [
    "SUCCESS",
    "AnswerTimedOut",
    "Attempt",
    "CouldNotConnect",
    "OutcomeUnknown",
    "RateLimit",
    "Receipt",
    "ReceiptMismatch",
    "ResumeState",
    "SourceChanged",
    "SourceFailed",
    "StoreFile",
    "UploadError",
    "UploadInterrupted",
    "UploadRefused",
    "UploadTimedOut",
    "upload",
]

_HOMES = {
    "Attempt": "client.attempts",
    "RateLimit": "client.rate_limit",
    "Receipt": "receipt",
    "ResumeState": "client.resume_state",
    "SUCCESS": "core.answers",
    "StoreFile": "stores.store_file",
    "upload": "client.upload",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use: the command must install signal handlers before that."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: object = getattr(import_module(f"twisted_upload.{_HOMES.get(name, 'errors')}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
