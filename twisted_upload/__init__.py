"""
A write-only drop box for files, reached over the network.

The daemon is ``twistd upload``; this is its Python side: `upload` sends a
file, and the errors that it may end with.
"""

from twisted_upload.answers import SUCCESS
from twisted_upload.client import upload
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
from twisted_upload.interfaces import Receipt

__all__ = [
    "SUCCESS",
    "AnswerTimedOut",
    "CouldNotConnect",
    "OutcomeUnknown",
    "Receipt",
    "ReceiptMismatch",
    "SourceChanged",
    "SourceFailed",
    "UploadError",
    "UploadInterrupted",
    "UploadRefused",
    "UploadTimedOut",
    "upload",
]
