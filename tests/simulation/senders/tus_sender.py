"""
What all senders of tus have in common: its requests, and what their responses must say.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Generator, Mapping
from types import MappingProxyType
from typing import ClassVar

from tests.simulation.history import STORED, Attempt
from tests.simulation.senders.http_sender import HttpLine, HttpSender, head_of
from tests.simulation.senders.responses import Response, WrongResponse

__all__ = ["NO_FIELDS", "Answered", "Fields", "TusSender"]

_LOCATION = re.compile(r"(?:http://box\.example)?(/files/(?:[a-z0-9-]+-)?[0-9a-f]{32})\Z")
_BODY = "application/offset+octet-stream"
_FORGETS_AFTER = 3600.0

Fields = Mapping[str, str]

NO_FIELDS: Fields = MappingProxyType({})

Answered = Generator[float, None, Response | None]


class TusSender(HttpSender):
    """A sender of tus."""

    kind = "tus"
    patience: ClassVar[float] = 900.0

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.line: HttpLine | None = None

    def _put_off(self, attempt: Attempt) -> None:
        """Note that an upload has been written to: its expiry is put off."""
        facts = self.scene.facts
        lasts = 0.0 if facts.forgets else min(_FORGETS_AFTER, facts.resume_for - 1.0)
        attempt.lasts_until = self.scene.scheduler.now + lasts

    @property
    def has_idle_line(self) -> bool:
        """
        Whether the next request uses a connection that there is already: the server may close
        it meanwhile, and then another one is to be tried (RFC 9112, 9.5).
        """
        return self.line is not None and self.line.is_usable

    def open_line(self) -> Generator[float, None, HttpLine]:
        """
        Return a connection for a request; tries until there is one.

        :raises Impatient: there is none for too long.
        """
        pause = 0.1
        while self.line is None or not self.line.is_usable:
            if self.line is not None:
                self.line.close()
            self.line = yield from self.connect_http()
            if not self.line.is_open:
                yield from self.pause(min(pause, self.left()))
                pause = min(2 * pause, 10.0)
        return self.line

    def ask(self, method: str, path: str, body: bytes = b"", **fields: str) -> Answered:
        """Make a request with a small body; return its response, `None` if it is lost."""
        line = yield from self.open_line()
        head = self.tus_head(method, path, len(body), **fields)
        line.responses.ask(method)
        line.spoken = False
        yield from self.send(line, head + body)
        return (yield from self.tus_response(line))

    def tus_head(self, method: str, path: str, size: int | None, **fields: str) -> bytes:
        """Return the head of a request; with `None` as size the body is chunked."""
        named = self.fields(Tus_Resumable="1.0.0", **fields)
        if method in ("POST", "PATCH"):
            if size is None:
                named["Transfer-Encoding"] = "chunked"
            else:
                named["Content-Length"] = str(size)
            if size != 0:
                named["Content-Type"] = _BODY
        return head_of(method, path, named)

    def tus_response(self, line: HttpLine) -> Answered:
        """Return the response; `None` if it is lost."""
        response = yield from self.response(line)
        if response is not None and response.fields.get("tus-resumable") != "1.0.0":
            early = response.status in (400, 403, 408, 431, 503)  # before there was a handler
            if not early:
                raise self.wrong("a response without Tus-Resumable:", response)
        return response

    def number_of(self, response: Response, name: str) -> int | None:
        """Return a field that is a number; `None` if it is missing."""
        try:
            return response.number(name)
        except WrongResponse as error:
            raise self.wrong("a wrong number:", error) from None

    # Creating

    def create(
        self, attempt: Attempt, *, body: int = 0, **fields: str
    ) -> Generator[float, None, bool]:
        """
        Create an upload, perhaps with the first bytes of it.

        :param body: how many bytes of the content go with it.
        :return: whether it is there, or stored already.
        """
        line = yield from self.open_line()
        self.note_peer(line, attempt)
        line.responses.ask("POST")
        line.spoken = False
        yield from self.send(line, self.tus_head("POST", "/files/", body, **fields))
        if body:
            yield from self.send_content(line, attempt, 0, body)
        attempt.complete = attempt.complete or attempt.sent >= attempt.size
        response = yield from self.tus_response(line)
        if response is None:
            return False
        if response.status != 201:
            code = self.error_in(response)
            if not (attempt.complete and code == "store-error"):  # then it may still be stored
                self.scene.history.refused(attempt, code)
            if body:
                line.close()
            return False
        self._note_location(attempt, response)
        if body:
            self.note_offset(attempt, response, 0, exactly=body)
        elif not attempt.size:
            self.note_stored(attempt, response)
        return True

    def _note_location(self, attempt: Attempt, response: Response) -> None:
        found = _LOCATION.match(response.fields.get("location", ""))
        if found is None:
            raise self.wrong("created without Location:", response)
        attempt.url = found[1]
        attempt.offset = max(0, attempt.offset)
        self._put_off(attempt)

    # What a response says of an upload

    def note_offset(
        self, attempt: Attempt, response: Response, floor: int, *, exactly: int | None = None
    ) -> int:
        """
        Note the offset that a response tells, and that the upload is stored, if it is.

        :param floor: the offset that had been told when the request was sent.
        :param exactly: what it must be.
        """
        history = self.scene.history
        offset = self.number_of(response, "upload-offset")
        if offset is None:
            raise self.wrong(f"{attempt!r}: no offset in", response)
        if exactly is not None and offset != exactly:
            raise self.wrong(f"{attempt!r}: the offset is not {exactly} in", response)
        history.offset(attempt, offset, floor)
        if exactly is not None:
            self._put_off(attempt)
        if offset == attempt.size and not attempt.partial and attempt.complete:
            self.note_stored(attempt, response)
        elif "stored-as" in response.fields:
            raise self.wrong(f"{attempt!r}: stored too early:", response)
        return offset

    def note_stored(self, attempt: Attempt, response: Response) -> None:
        """Note that an upload is stored."""
        name = response.fields.get("stored-as")
        if not name and response.status < 300:  # an error tells no more than the offset
            raise self.wrong(f"{attempt!r}: stored without a name:", response)
        try:
            digest = response.digest()
        except (WrongResponse, ValueError) as error:
            raise self.wrong("a wrong digest:", error) from None
        self.scene.history.stored(attempt, name, attempt.size, digest)

    def note_gone(self, attempt: Attempt) -> None:
        """
        Note that an upload is not known any more.

        :raises Violation: there is no reason for it.
        """
        now = self.scene.scheduler.now
        if not attempt.may_be_gone and now < attempt.lasts_until:
            raise self.wrong("gone too early:", attempt)
        attempt.may_be_gone = True

    # Asking and appending

    def look(self, attempt: Attempt) -> Generator[float, None, int | None]:
        """
        Ask for the offset; return it, `None` if the upload is gone.

        :raises Impatient: there is no answer for too long.
        """
        assert attempt.url is not None
        pause = 0.2
        while True:
            floor = max(0, attempt.offset)
            response = yield from self.ask("HEAD", attempt.url)
            if response is not None:
                if response.status == 200:
                    self._check_length(attempt, response)
                    return self.note_offset(attempt, response, floor)
                if response.status == 404:
                    self.note_gone(attempt)
                    return None
                if response.status not in (408, 503, 507, 401, 403, 429):
                    raise self.wrong("HEAD was answered with", response)
                self._check_available(attempt, response)
            yield from self.pause(min(pause, self.left()))
            pause = min(2 * pause, 10.0)

    def _check_available(self, attempt: Attempt, response: Response) -> None:
        """Who resumes an upload gets it within seconds, also from another process."""
        allowed = self.scene.facts.allowed
        if response.status != 503 or allowed is None:
            return
        if not allowed.intersection(("busy", "shutting-down", "store-error")):
            raise self.wrong(f"{attempt!r} is kept from its sender:", response)

    def _check_length(self, attempt: Attempt, response: Response) -> None:
        length = self.number_of(response, "upload-length")
        deferred = response.fields.get("upload-defer-length") == "1"
        if (length is None) != deferred or length not in (None, attempt.size):
            raise self.wrong(f"{attempt!r}: a wrong length:", response)

    def patch(
        self,
        attempt: Attempt,
        start: int,
        end: int,
        *,
        cut: int | None = None,
        fields: Fields = NO_FIELDS,
    ) -> Answered:
        """
        Append a piece.

        :param cut: break off after so many bytes of it.
        :return: the response; `None` if it is lost.
        """
        assert attempt.url is not None
        line = yield from self.open_line()
        self.note_peer(line, attempt)
        line.responses.ask("PATCH")
        line.spoken = False
        floor = max(0, attempt.offset)
        yield from self.send(
            line,
            self.tus_head("PATCH", attempt.url, end - start, Upload_Offset=str(start), **fields),
        )
        yield from self.send_content(line, attempt, start, end if cut is None else start + cut)
        if attempt.sent >= attempt.size:
            attempt.complete = True
        if cut is not None:
            yield from self.pause(self.choices.between(0, 0.05))
            self._break_off(line)
            return None
        response = yield from self.tus_response(line)
        if response is None:
            return None
        if response.status == 204:
            self.note_offset(attempt, response, floor, exactly=end)
        elif response.status == 409 and "upload-offset" in response.fields:
            self.note_offset(attempt, response, floor)
        elif response.status == 404:
            self.error_in(response)
            self.note_gone(attempt)
        else:
            self.error_in(response)
            self._check_available(attempt, response)
            if "upload-offset" in response.fields:
                self.note_offset(attempt, response, floor)
        if response.status != 204:
            line.close()
        return response

    def _break_off(self, line: HttpLine) -> None:
        how = self.choices.below(3)
        if how == 0:
            line.reset()
        elif how == 1:
            line.close()
        else:
            line.vanish()
        self.line = None

    @staticmethod
    def checksum(data: bytes, kind: str = "sha1") -> str:
        """Return the value of ``Upload-Checksum`` for a body."""
        return f"{kind} {b64encode(hashlib.new(kind, data).digest()).decode()}"

    def complete(self, attempt: Attempt) -> Generator[float, None, bool]:
        """
        Send what is missing of an upload, whatever happens.

        :return: whether it is stored, or complete if it is a part; false if it is gone.
        """
        while True:
            offset = yield from self.look(attempt)
            if offset is None:
                return False
            if attempt.told == STORED or (attempt.partial and offset == attempt.size):
                return True
            response = yield from self.patch(
                attempt, offset, attempt.size, fields=self.last(attempt)
            )
            if response is not None and response.status == 413:
                attempt.honest = False  # it is too large
                return False
            if response is None or response.status != 204:
                yield from self.pause(min(self.choices.between(0.1, 3.0), self.left()))

    def last(self, attempt: Attempt) -> Fields:
        """Return the fields that go with the last piece."""
        return NO_FIELDS
