"""
Forms with files: ``POST /`` as ``multipart/form-data`` (RFC 7578).

The body is parsed as it arrives, and each file in it is an upload with a lifecycle.  They
are committed together when the whole form has arrived: a form that breaks off, that is
malformed, or of which a file is refused on the way, stores nothing.  No file is ever in
memory as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from multipart import (  # type: ignore[import-untyped]
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
)
from twisted.internet.interfaces import IConsumer

from twisted_upload.core.metadata import checked_metadata
from twisted_upload.core.text import counted
from twisted_upload.errors import (
    BadRequest,
    Busy,
    Empty,
    NotAllowed,
    StoreFailed,
    TooLarge,
    UploadRefused,
)
from twisted_upload.frontends.admission import ConnectionSlot
from twisted_upload.frontends.http.access import Grant
from twisted_upload.frontends.http.body_upload import RequestUpload
from twisted_upload.frontends.http.digests import digests_of
from twisted_upload.frontends.http.exchange import IBodyReader, IExchange
from twisted_upload.frontends.http.form_file import FormFile, file_name_of, is_file
from twisted_upload.frontends.http.messages import Problem
from twisted_upload.frontends.http.receipts import (
    FormPage,
    Result,
    form_refused,
    form_response,
)
from twisted_upload.frontends.sender import STORE_PATIENCE
from twisted_upload.interfaces import NO_METADATA
from twisted_upload.net.timeouts import StoreTimeout

__all__ = ["MOST_FILES", "FormUpload", "form_boundary", "largest_form"]

MOST_FILES = 100
"""Maximum number of files of one form, of which none is committed before the last."""

MOST_PARTS = 1000
"""Maximum number of parts of one form, files and others."""

MOST_OVERHEAD = 1024 * 1024
"""Maximum number of bytes of a form that are not the content of a file."""

LONGEST_HEADER = 4096
"""Maximum number of bytes of a header line of a part."""

_FORM = re.compile(r"multipart/form-data[ \t]*(?:;(.*))?\Z", re.IGNORECASE | re.DOTALL)
_BOUNDARY = re.compile(
    r"(?:\A|;)[ \t]*boundary=(?:\"([^\"\\]*)\"|([^; \t\"]*))[ \t]*(?:;|\Z)", re.IGNORECASE
)
_VALID = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]\Z")  # RFC 2046


def largest_form(max_size: int) -> int:
    """Return the size in bytes of the largest form, if each file may be as large as that."""
    return MOST_FILES * max_size + MOST_OVERHEAD


def form_boundary(content_type: str) -> str | None:
    """
    Return the boundary of a form; `None` if it is not ``multipart/form-data``.

    :raises Problem: it is another kind of multipart message.
    :raises BadRequest: it has no valid boundary.
    """
    match = _FORM.match(content_type.strip())
    if match is None:
        if content_type.lstrip().lower().startswith("multipart/"):
            raise Problem(415, BadRequest.code, "the only multipart type here is form-data")
        return None
    found = _BOUNDARY.search(match[1] or "")
    boundary = (found[1] or found[2] or "") if found is not None else ""
    if not _VALID.match(boundary):
        raise BadRequest("the form has no valid boundary")
    return boundary


class FormUpload(IBodyReader):
    """
    The body of a request, as a form.

    :param exchange: the request.
    :param grant: what it may do.
    :param boundary: between the parts.
    :param page: makes the page for browsers.
    :raises BadRequest: the request gives a malformed digest.
    :ivar exchange: the same.
    :ivar grant: the same.
    """

    def __init__(
        self, exchange: IExchange, grant: Grant, boundary: str, page: FormPage | None
    ) -> None:
        self.exchange = exchange
        self.grant = grant
        self._page = page
        self._digests = digests_of(exchange.request.fields)
        self._parser = PushMultipartParser(
            boundary,
            max_header_size=LONGEST_HEADER,
            max_segment_count=MOST_PARTS,
            header_charset="iso-8859-1",  # any bytes; see `as_utf8`
        )
        self._files: list[FormFile] = []
        self._segment: MultipartSegment | None = None  # of the next bytes, if it is a file
        self._file: FormFile | None = None  # the same, as soon as it is one
        self._size = 0
        self._overhead = 0
        self._committing = False
        self._can_tell = True  # what has become of its files
        self._over = False  # there is a response, or nobody to respond to
        self._waiting: StoreTimeout | None = None

    # IBodyReader

    @property
    def incoming(self) -> IConsumer | None:
        """See `IBodyReader.incoming`."""
        return None

    def received(self, data: bytes) -> None:
        """See `IBodyReader.received`."""
        if self._over:
            return
        self._digests.update(data)
        self._size += len(data)
        self._overhead += len(data)
        try:
            for event in self._parser.parse(data):
                self._part(event)
                if self._over:
                    return
        except MultipartError:
            self._refuse_all(BadRequest("the form is malformed"))
            return
        except UploadRefused as refusal:
            self._refuse_all(refusal)
            return
        if self._overhead > MOST_OVERHEAD:
            self._refuse_all(TooLarge("the form has too much besides its files"))

    def spliced(self, size: int) -> None:
        """See `IBodyReader.spliced`: never called, as nothing of a form is a file unchanged."""
        raise NotImplementedError

    def ended(self, trailers: Mapping[str, str]) -> None:
        """See `IBodyReader.ended`."""
        if self._over:
            return
        try:
            self._parser.close()
            self._digests.verify(trailers)
        except MultipartError:
            self._refuse_all(BadRequest("the form is incomplete"))
        except UploadRefused as refusal:
            self._refuse_all(refusal)
        else:
            self._commit()

    def broke_off(self) -> None:
        """See `IBodyReader.broke_off`."""
        self._over = True
        for file in self._files:
            file.lose()

    def left(self) -> None:
        """See `IBodyReader.left`."""
        for file in [*self._files]:
            file.lose()

    def refused(self, refusal: UploadRefused) -> None:
        """See `IBodyReader.refused`."""
        if not self._committing:
            self._refuse_all(refusal)
            return
        for file in [*self._files]:
            file.refuse(refusal)

    def check(self, now: float) -> bool:
        """See `IBodyReader.check`."""
        if self._over:
            return False
        self._waiting = self._waiting or StoreTimeout(STORE_PATIENCE)
        if not self._waiting.is_too_long(now, self._size):
            return False
        self.refused(StoreFailed())
        return True

    def stood_still(self) -> None:
        """See `IBodyReader.stood_still`."""
        self._waiting = None

    # The parts

    def _part(self, event: MultipartSegment | bytes | bytearray | None) -> None:
        """
        Take what the parser has found: the head of a part, its next bytes, or its end.

        :raises UploadRefused: the form is refused.
        """
        if isinstance(event, MultipartSegment):
            self._segment = event if is_file(event) else None
            return
        segment = self._segment
        if segment is None:
            return
        # One without a name and without content is an input for which no file was chosen.
        if self._file is None and (event or file_name_of(segment)):
            self._file = self._new_file(segment)
        if event is None:
            self._file = self._segment = None
        elif self._file is not None:
            self._overhead -= len(event)
            self._file.add(bytes(event))

    def _new_file(self, segment: MultipartSegment) -> FormFile:
        slot = None
        if self._files:
            left = self.grant.uploads_left
            if left is not None and len(self._files) >= left:
                raise NotAllowed(f"this invitation takes at most {counted(left, 'more file')}")
            if len(self._files) >= MOST_FILES:
                most = counted(MOST_FILES, "file")
                raise TooLarge(f"this server takes at most {most} in one form")
            admission = self.exchange.frontend.gate.admission
            if admission.slots.taken >= admission.slots.most:
                raise Busy("too many uploads at the moment; send fewer files in one form")
            slot = ConnectionSlot(admission, None)
        file = FormFile(self, segment, slot)
        self._files.append(file)
        return file

    def _commit(self) -> None:
        if not self._files:
            self._refuse_all(Empty("there is no file in the form"))
            return
        empty = [file for file in self._files if not file.size]
        if empty and not self.exchange.frontend.settings.allow_empty:
            self._refuse_all(Empty("it is empty; this server stores no empty files"), empty[0])
            return
        self._committing = True
        self._waiting = None
        for file in self._files:
            file.end()

    # Called by the files

    def pause_or_resume(self) -> None:
        """Read on if no file is paused by its store."""
        if any(file.paused for file in self._files):
            self.exchange.pauseProducing()
        else:
            self.exchange.resumeProducing()

    def cannot_tell(self) -> None:
        """Note that a file may be visible, or may not: there is no response."""
        self._can_tell = False

    def file_ended(self, file: FormFile) -> None:
        """Note that a file has been stored, or has been refused or aborted."""
        if self._over:
            return
        if self._committing:
            if all(file.result is not None for file in self._files):
                self._respond()
        elif file.result is not None and file.result.refusal is not None:
            self._refuse_all(file.result.refusal, file)

    def _respond(self) -> None:
        self._over = True
        if not self._can_tell:
            self.exchange.close()
            return
        results = [file.result for file in self._files if file.result is not None]
        self.exchange.respond(form_response(self.exchange, results, self._page))

    def _refuse_all(self, refusal: UploadRefused, because_of: FormFile | None = None) -> None:
        """Refuse the whole form, because of one file or of itself: nothing of it is stored."""
        if self._over:
            return
        self._over = True
        for file in self._files:
            file.refuse(refusal)
        if not self._files:
            nameless = checked_metadata(label=self.grant.label)
            upload = RequestUpload(self.exchange, self.grant, nameless, None, digest=False)
            upload.size = self._size
            upload.report_refused(refusal)
        metadata = NO_METADATA if because_of is None else because_of.metadata
        self.exchange.respond(
            form_refused(self.exchange, Result(metadata, refusal=refusal), self._page)
        )
