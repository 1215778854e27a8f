"""
Senders of tus: uploads in pieces, which are resumed after whatever has happened.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import ClassVar

from tests.simulation.choices import Choices
from tests.simulation.history import LOST, STORED, Attempt
from tests.simulation.senders.sender import Script
from tests.simulation.senders.tus_sender import NO_FIELDS, Fields, TusSender

__all__ = ["TUS"]


class Resuming(TusSender):
    """Sends in pieces, some of which break off, and goes on at the offset that it asks for."""

    kind = "tus-resume"
    cuts: ClassVar[float] = 0.2
    defers: ClassVar[bool] = False
    size: ClassVar[int | None] = None  # any will do

    def script(self) -> Script:
        """Create, send pieces, and see whether it is stored."""
        self.fresh_patience(self.patience)
        attempt = yield from self.begin_upload()
        if attempt is None or attempt.url is None:
            return
        yield from self.send_pieces(attempt)
        if (yield from self.complete(attempt)):
            yield from self.afterwards(attempt)

    def begin_upload(self) -> Generator[float, None, Attempt | None]:
        """Create an upload; try again if that may help."""
        again: Attempt | None = None
        turn = 0
        while turn < 8:
            attempt = self.begin(self.size, again=again)
            idle = self.has_idle_line
            body = 0
            if attempt.size and not self.defers and self.choices.chance(0.25):
                body = 1 + self.choices.below(attempt.size)
            fields = self.terms(attempt)
            if (yield from self.create(attempt, body=body, **fields)):
                return attempt
            self.scene.history.lost(attempt)
            self.scene.history.end(attempt)
            if attempt.code in ("too-large", "unauthorized", "not-allowed", "bad-request"):
                return None
            again = attempt
            yield from self.pause(min(self.choices.between(0.1, 2.0) * 2**turn, self.left()))
            turn += not (idle and attempt.told == LOST)
        return None

    def terms(self, attempt: Attempt) -> dict[str, str]:
        """Return the fields with which an upload is created."""
        fields = {"Upload_Length": str(attempt.size)}
        if self.defers:
            fields = {"Upload_Defer_Length": "1"}
        if self.choices.chance(0.3):
            fields["Upload_Metadata"] = "filename cGhvdG8uanBn,filetype aW1hZ2UvanBlZw=="
        if self.choices.chance(0.2):
            fields["Want_Repr_Digest"] = "sha-256=1"
        return fields

    def last(self, attempt: Attempt) -> Fields:
        """Return the fields that go with the last piece."""
        return {"Upload_Length": str(attempt.size)} if self.defers else NO_FIELDS

    def send_pieces(self, attempt: Attempt) -> Script:
        """Send some pieces, and break off some of them."""
        choices = self.choices
        at = max(0, attempt.offset)
        for _ in range(choices.below(5)):
            if at >= attempt.size or attempt.may_be_gone:
                return
            end = min(attempt.size, at + 1 + choices.below(attempt.size - at))
            cut = choices.below(end - at) if choices.chance(self.cuts) else None
            more = self.last(attempt) if end == attempt.size else NO_FIELDS
            response = yield from self.send_piece(attempt, at, end, cut, more)
            if choices.chance(0.3):
                yield from self.pause(min(choices.between(0, 3.0), self.left()))
            if response == end:
                at = end
                continue
            offset = yield from self.look(attempt)
            if offset is None or attempt.told == STORED:
                return
            at = offset

    def send_piece(
        self, attempt: Attempt, at: int, end: int, cut: int | None, fields: Fields
    ) -> Generator[float, None, int]:
        """Send a piece; return the offset that is known afterwards, -1 if none is."""
        response = yield from self.patch(attempt, at, end, cut=cut, fields=fields)
        return end if response is not None and response.status == 204 else -1

    def afterwards(self, attempt: Attempt) -> Script:
        """Ask once more, perhaps, and perhaps have it forgotten: its file stays."""
        if self.choices.chance(0.2):
            yield from self.look(attempt)
        if self.choices.chance(0.1) and attempt.url is not None:
            attempt.may_be_gone = True
            response = yield from self.ask("DELETE", attempt.url)
            allowed = self.scene.facts.allowed
            # A disk on which nothing can be written may not note a removal either.
            is_full = (507,) if allowed is None or "no-space" in allowed else ()
            if response is not None and response.status not in (204, 404, 408, 503, *is_full):
                raise self.wrong("DELETE was answered with", response)


class Empty(Resuming):
    """Has an upload of length 0 stored: its creation is all there is to it."""

    kind = "tus-empty"
    size = 0


class Deferring(Resuming):
    """Tells the length of an upload with its last piece."""

    kind = "tus-defer"
    defers = True


class Checking(Resuming):
    """Sends checksums, some of which are wrong: then nothing of that piece counts."""

    kind = "tus-checksum"

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        self._wrong = self.choices.fork("wrong")

    def script(self) -> Script:
        if self._wrong.chance(0.8):
            yield from super().script()
            return
        self.fresh_patience(self.patience)
        attempt = yield from self.begin_upload()
        if attempt is None or attempt.url is None or attempt.told == STORED:
            return
        attempt.honest = False
        at = max(0, attempt.offset)
        data = attempt.piece(at, attempt.size)
        yield from self._send_wrong(attempt, at, data, self._checksum(data, "sha1"))
        self.scene.history.aborted(attempt)  # it is left as it is

    def send_piece(
        self, attempt: Attempt, at: int, end: int, cut: int | None, fields: Fields
    ) -> Generator[float, None, int]:
        data, choices = attempt.piece(at, end), self.choices
        kind = choices.pick(("sha1", "sha256"))
        if choices.chance(0.7):
            fields = {**fields, "Upload_Checksum": self.checksum(data, kind)}
            response = yield from self.patch(attempt, at, end, cut=cut, fields=fields)
            if response is not None and response.status == 460:
                raise self.wrong("told that a checksum is wrong:", attempt)
            return end if response is not None and response.status == 204 else -1
        yield from self._send_wrong(attempt, at, data, {**fields, **self._checksum(data, kind)})
        return -1

    def _send_wrong(self, attempt: Attempt, at: int, data: bytes, fields: Fields) -> Script:
        """Send other bytes than the checksum is of, or right ones with a wrong checksum."""
        assert attempt.url is not None
        choices, other = self._wrong, bytes(255 - it for it in data)
        # None of what follows counts as sent.
        if choices.chance(0.3):
            line = yield from self.open_line()
            line.responses.ask("PATCH")
            head = self.tus_head("PATCH", attempt.url, len(data), Upload_Offset=str(at), **fields)
            yield from self.send(line, head + other[: choices.below(len(data))])
            yield from self.pause(choices.between(0, 0.05))
            self._break_off(line)
            return
        if choices.chance(0.5):
            data = other
        else:
            fields = {**fields, **self._checksum(data + b"x", "sha1")}
        response = yield from self.ask("PATCH", attempt.url, data, Upload_Offset=str(at), **fields)
        if response is not None and response.status == 204:
            raise self.wrong("a wrong checksum was accepted:", attempt)

    def _checksum(self, data: bytes, kind: str) -> dict[str, str]:
        return {"Upload_Checksum": self.checksum(data, kind)}


class Rival(Resuming):
    """Writes to the upload of another sender, at the same time."""

    kind = "tus-rivals"

    def __init__(self, first: Rivals, attempt: Attempt, choices: Choices) -> None:
        super().__init__(first.scene, choices, first.number)
        self.key = f"{first.number}/rival"
        self._shared = attempt

    def script(self) -> Script:
        self.fresh_patience(self.patience)
        self.attempt = None  # the other one ends it
        yield from self.send_pieces(self._shared)
        yield from self.complete(self._shared)


class Rivals(Resuming):
    """Two that write to one upload at the same time, as an impatient client does."""

    kind = "tus-rivals"

    def send_pieces(self, attempt: Attempt) -> Script:
        Rival(self, attempt, self.choices.fork("rival")).start()
        yield from super().send_pieces(attempt)


class _Leaving(Resuming):
    """Leaves an upload that is not complete."""

    def begin_and_send_some(self) -> Generator[float, None, Attempt | None]:
        """Create an upload, and send less than all of it; return it, if it is unfinished."""
        self.fresh_patience(self.patience)
        attempt = yield from self.begin_upload()
        if attempt is None or attempt.url is None or attempt.told == STORED:
            return None
        end = self.choices.below(attempt.size)
        if end > attempt.offset:
            yield from self.patch(attempt, attempt.offset, end)
        return attempt


class Deleting(_Leaving):
    """Has an upload removed that is not complete."""

    kind = "tus-delete"
    honest = False

    def script(self) -> Script:
        attempt = yield from self.begin_and_send_some()
        if attempt is None:
            return
        assert attempt.url is not None
        attempt.may_be_gone = True
        response = yield from self.ask("DELETE", attempt.url)
        if response is None or response.status != 204:
            return
        response = yield from self.ask("HEAD", attempt.url)
        if response is not None and response.status == 200:
            raise self.wrong("there after it was removed:", attempt)
        self.scene.history.aborted(attempt)


class Expiring(_Leaving):
    """Leaves an upload alone until it has expired."""

    kind = "tus-expire"
    honest = False

    def script(self) -> Script:
        attempt = yield from self.begin_and_send_some()
        if attempt is None:
            return
        if self.line is not None:
            self.line.close()
        if self.scene.facts.resume_for > 600:
            return
        seconds = self.scene.facts.resume_for * self.choices.between(1.05, 1.3)
        yield from self.pause(seconds)
        attempt.may_be_gone = True
        self.fresh_patience()
        yield from self.look(attempt)


class Overrunning(Resuming):
    """Sends more than the length: what fits is stored, the rest is refused."""

    kind = "tus-overrun"
    honest = False

    def script(self) -> Script:
        self.fresh_patience(self.patience)
        attempt = yield from self.begin_upload()
        if attempt is None or attempt.url is None or attempt.told == STORED:
            return
        at = attempt.offset
        line = yield from self.open_line()
        line.responses.ask("PATCH")
        line.spoken = False
        attempt.sent, attempt.complete = attempt.size, True
        data = attempt.piece(at, attempt.size) + b"too much"
        head = self.tus_head("PATCH", attempt.url, len(data), Upload_Offset=str(at))
        yield from self.send(line, head + data)
        response = yield from self.tus_response(line)
        if response is not None and response.status < 400:
            raise self.wrong("a body past the length was accepted:", response)
        line.close()
        yield from self.complete(attempt)


class Concatenating(Resuming):
    """Sends parts, and has them put together; asks again if it hears nothing."""

    kind = "tus-concat"

    def script(self) -> Script:
        choices, history = self.choices, self.scene.history
        self.fresh_patience(self.patience)
        parts: list[Attempt] = []
        for _ in range(2 + choices.below(3)):
            part = yield from self.begin_upload()
            if part is None or part.url is None or part.told == STORED:
                return
            yield from self.send_pieces(part)
            if not (yield from self.complete(part)):
                return
            history.end(part)
            parts.append(part)
        if choices.chance(0.1):
            parts.append(parts[0])
        yield from self._put_together(parts)
        if choices.chance(0.3):
            for part in dict.fromkeys(parts):
                part.may_be_gone = True
                yield from self.ask("DELETE", part.url or "")

    def begin(
        self, size: int | None = None, *, again: Attempt | None = None, kind: str = ""
    ) -> Attempt:
        attempt = super().begin(size, again=again, kind=kind)
        attempt.partial = True
        return attempt

    def terms(self, attempt: Attempt) -> dict[str, str]:
        return {"Upload_Length": str(attempt.size), "Upload_Concat": "partial"}

    def _must_be_there(self, part: Attempt) -> bool:
        return not part.may_be_gone and self.scene.scheduler.now < part.lasts_until

    def _put_together(self, parts: list[Attempt]) -> Script:
        history = self.scene.history
        urls = " ".join(part.url or "" for part in parts)
        leaves = self.choices.fork("leaves")
        again: Attempt | None = None
        turn = 0
        while turn < 6:
            attempt = super().begin(0, again=again)
            idle = self.has_idle_line
            if again is None:
                history.concatenate(attempt, parts)
            attempt.complete, attempt.sent = True, attempt.size
            if leaves.chance(0.3) and turn < 5:  # it waits for the last answer
                yield from self._ask_and_leave(urls)
                response = None
            else:
                response = yield from self.ask("POST", "/files/", Upload_Concat=f"final;{urls}")
            if response is not None and response.status == 201:
                self._note_location(attempt, response)
                self.note_stored(attempt, response)
                return
            if response is None:
                history.lost(attempt)
            else:
                code = self.error_in(response)
                if code == "not-found" and all(self._must_be_there(part) for part in parts):
                    raise self.wrong("parts are gone too early:", attempt)
                if code in ("store-error", "not-found"):
                    history.lost(attempt)  # too slow to tell, or its parts have expired
                    attempt.honest = False
                else:
                    history.refused(attempt, code)
            history.end(attempt)
            again = attempt
            yield from self.pause(min(self.choices.between(0.2, 4.0), self.left()))
            turn += not (idle and response is None)

    def _ask_and_leave(self, urls: str) -> Script:
        """Ask for it, and be gone before the answer comes."""
        line = yield from self.open_line()
        line.responses.ask("POST")
        yield from self.send(
            line, self.tus_head("POST", "/files/", 0, Upload_Concat=f"final;{urls}")
        )
        yield from self.pause(self.choices.between(0, 0.05))
        self._break_off(line)


TUS: tuple[type[TusSender], ...] = (
    Resuming,
    Empty,
    Deferring,
    Checking,
    Rivals,
    Deleting,
    Expiring,
    Overrunning,
    Concatenating,
)
