"""
One file of a form, as one upload.
"""

from __future__ import annotations

from typing import Protocol

from multipart import MultipartSegment  # type: ignore[import-untyped]
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from twisted_upload.core.metadata import checked_metadata
from twisted_upload.errors import UploadRefused
from twisted_upload.frontends.admission import ConnectionSlot
from twisted_upload.frontends.http.access import Grant
from twisted_upload.frontends.http.body_upload import RequestUpload
from twisted_upload.frontends.http.exchange import IExchange
from twisted_upload.frontends.http.metadata import as_utf8, disposition_name
from twisted_upload.frontends.http.receipts import Result
from twisted_upload.interfaces import IIncomingUpload, Receipt

__all__ = ["FormFile", "IForm", "file_name_of", "is_file"]


class IForm(Protocol):
    """What a file needs of its form."""

    @property
    def exchange(self) -> IExchange:
        """The request."""

    @property
    def grant(self) -> Grant:
        """What it may do."""

    def pause_or_resume(self) -> None:
        """Note that a file has been paused or resumed by its store."""

    def cannot_tell(self) -> None:
        """Note that a file may be visible, or may not: there is no response."""

    def file_ended(self, file: FormFile) -> None:
        """Note that a file has been stored, or has been refused or aborted."""


class FormFile(RequestUpload):
    """
    One file of a form, as one upload.

    :param form: that it belongs to.
    :param slot: what it takes of the limit of connections, besides that of its connection:
        it may take a file descriptor until the end of the form.
    :ivar result: what has become of it; `None` so far.
    :ivar paused: whether its store has paused it.
    """

    def __init__(self, form: IForm, segment: MultipartSegment, slot: ConnectionSlot | None) -> None:
        name, kind = file_name_of(segment), segment.content_type or ""
        metadata = checked_metadata(name, kind, form.grant.label)
        super().__init__(form.exchange, form.grant, metadata, None, digest=True)
        self.result: Result | None = None
        self.paused = False
        self._form = form
        self._slot = slot
        if slot is not None:
            slot.take()

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self._has_come(data)

    def end(self) -> None:
        """Commit it: the form has arrived completely."""
        self._upload.ended()

    def lose(self) -> None:
        """Note that the connection is gone."""
        self._upload.lost()

    # ISender: called by the lifecycle

    def began(self, incoming: IIncomingUpload) -> None:
        """See `ISender.began`."""
        incoming.registerProducer(_FileProducer(self._form, self), True)

    def tell_stored(self, receipt: Receipt) -> None:
        """See `ISender.tell_stored`."""
        self._answered = True
        self.result = Result(self.metadata, receipt)

    def tell_refused(self, refusal: UploadRefused) -> None:
        """See `ISender.tell_refused`."""
        self._answered = True
        self.result = Result(self.metadata, refusal=refusal)

    def tell_nothing(self) -> None:
        """See `ISender.tell_nothing`."""
        self._answered = True
        self._form.cannot_tell()

    def report_stored(self, receipt: Receipt, *, ended_by_idle: bool, answered: bool) -> None:
        """See `ISender.report_stored`."""
        self.result = Result(self.metadata, receipt)
        super().report_stored(receipt, ended_by_idle=ended_by_idle, answered=answered)

    def report_refused(self, refusal: UploadRefused) -> None:
        """See `ISender.report_refused`."""
        self.result = Result(self.metadata, refusal=refusal)
        super().report_refused(refusal)

    def _upload_ended(self) -> None:
        if self._slot is not None:
            self._slot.release()
        self._form.file_ended(self)


@implementer(IPushProducer)
class _FileProducer:
    """Pauses the whole form for one of its files."""

    def __init__(self, form: IForm, file: FormFile) -> None:
        self._form = form
        self._file = file

    def pauseProducing(self) -> None:
        self._file.paused = True
        self._form.pause_or_resume()

    def resumeProducing(self) -> None:
        self._file.paused = False
        self._form.pause_or_resume()

    def stopProducing(self) -> None:
        self._form.exchange.stopProducing()


def is_file(segment: MultipartSegment) -> bool:
    """Return whether a part is a file; it may be one for which no file was chosen."""
    return segment.filename is not None or bool(_extended_name(segment))


def _extended_name(segment: MultipartSegment) -> str:
    # RFC 7578 does not allow it, but clients send it.
    disposition = segment.header("Content-Disposition") or ""
    return disposition_name(disposition) if "filename*" in disposition.lower() else ""


def file_name_of(segment: MultipartSegment) -> str:
    """Return the name of a file as it was sent; empty if it has none."""
    return _extended_name(segment) or as_utf8(segment.filename or "")
