"""
One request of a tus client, from its head to its response.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from twisted_upload.core.answers import CODES
from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.errors import BadRequest, NotFound, StoreFailed, UploadRefused
from twisted_upload.frontends.http.access import Grant
from twisted_upload.frontends.http.exchange import IExchange
from twisted_upload.frontends.http.messages import Problem, Response
from twisted_upload.frontends.http.problems import problem_of, problem_response
from twisted_upload.frontends.http.tus.note import Note
from twisted_upload.frontends.http.tus.responses import Fields
from twisted_upload.frontends.sender import STORE_PATIENCE
from twisted_upload.interfaces import NO_METADATA, IResumableStore, PartialUpload

__all__ = ["TusRequest", "refusal_of"]

T = TypeVar("T")


class TusRequest:
    """
    One request: it is responded to exactly once, whatever happens.

    :param exchange: the request and its response.
    :param grant: what it may do.
    :param now: returns the time in seconds since the epoch.
    :ivar store: where its upload is.
    :ivar uploads: whether it is part of an upload, so that an error is an outcome.
    :ivar size: bytes of its body that have arrived.
    :ivar metadata: what the sender says about its file.
    :ivar responded: whether it has ended.
    """

    def __init__(
        self,
        exchange: IExchange,
        grant: Grant,
        now: Callable[[], float],
        *,
        uploads: bool,
    ) -> None:
        frontend = exchange.frontend
        self.frontend = frontend
        self.exchange = exchange
        self.grant = grant
        self.now = now
        self.store = IResumableStore(frontend.store)
        self.uploads = uploads
        self.size = 0
        self.metadata = NO_METADATA
        self._began = frontend.clock.seconds()
        self.responded = False
        self._outcomes: list[UploadOutcome] = []

    @property
    def fields(self) -> Any:
        """The header fields of the request."""
        return self.exchange.request.fields

    @property
    def expires(self) -> float:
        """When an upload expires to which this request adds: seconds since the epoch."""
        return self.now() + float(self.frontend.settings.resume_for)

    @property
    def max_size(self) -> int:
        """Maximum size of an upload in bytes; 0 for no limit."""
        return self.grant.limit(self.frontend.settings.max_size)

    def check_owner(self, partial: PartialUpload) -> None:
        """
        Do nothing if the upload belongs to who has sent the request.

        :raises NotFound: it does not; that it exists is not told either.
        """
        if partial.terms.owner != self.grant.owner:
            raise NotFound
        self.metadata = partial.terms.arrival.metadata

    # Waiting for the store

    def wait(
        self,
        pending: Deferred[T],
        then: Callable[[T], object],
        otherwise: Callable[[UploadRefused], object] | None = None,
        late: Callable[[T], object] = lambda result: None,
    ) -> None:
        """
        Go on with a result of the store; respond with what goes wrong meanwhile.

        :param then: may raise a `Problem` or an `UploadRefused`.
        :param otherwise: called if the store refuses; responds by default.
        :param late: called with a result that arrives after the store has had too long, or
            has failed for now.
        """
        wait = _Wait(self, then, otherwise or self.refuse, late)
        pending.addCallbacks(wait.succeeded, wait.failed)
        wait.limit()

    def attempt(self, step: Callable[..., object], *arguments: Any) -> None:
        """Carry out a step; respond with what goes wrong."""
        try:
            step(*arguments)
        except (Problem, UploadRefused) as error:
            self.refuse(error)
        except Exception:
            _log.failure("internal error: a tus request failed")
            self.refuse(StoreFailed())

    # The end

    def respond(self, status: int, *fields: Fields) -> None:
        """Send a response without a body."""
        self._end(Response(status, tuple(field for group in fields for field in group)))

    def refuse(self, error: Problem | UploadRefused, *fields: Fields) -> None:
        """Send an error; it is the outcome of an upload if the request is part of one."""
        if not self.responded and self.uploads:
            code = problem_of(error).code
            self.report("refused", code=code if code in CODES else BadRequest.code)
        self.tell(error, *fields)

    def tell(self, error: Problem | UploadRefused, *fields: Fields) -> None:
        """Send an error, which is no outcome of an upload."""
        problem = problem_of(error)
        more = tuple(field for group in fields for field in group)
        whole = Problem(problem.status, problem.code, problem.detail, (*problem.fields, *more))
        self._end(problem_response(whole, self.fields))

    def close(self) -> None:
        """Close the connection instead of responding."""
        self.exchange.close()
        self.forget()

    def forget(self) -> None:
        """Note that there is nobody to respond to."""
        self._end(None)

    def _end(self, response: Response | None) -> None:
        if self.responded:
            return
        self.responded = True
        if response is not None:
            self.exchange.respond(response)
        self._tell_observers()

    # Outcomes: observers are told after the response, and before the front end may stop.

    def report_stored(self, partial: PartialUpload, *, answered: bool = True) -> None:
        """Report that an upload is stored; do nothing if it is not."""
        receipt = partial.receipt
        if receipt is not None:
            seconds = max(0.0, self.now() - Note.from_text(partial.terms.note).created)
            self._report(
                "stored",
                receipt.size,
                seconds,
                name=receipt.name,
                sha256=receipt.sha256,
                answered=answered,
            )

    def report_unanswered(self, partial: PartialUpload) -> None:
        """Report that an upload is stored whose client has been told that it is not."""
        self.report_stored(partial, answered=False)

    def report(self, outcome: str, *, size: int | None = None, code: str | None = None) -> None:
        """
        Report what has become of an upload that is not stored.

        :param size: its bytes; those of the request if it is not given.
        """
        seconds = self.frontend.clock.seconds() - self._began
        self._report(outcome, self.size if size is None else size, seconds, code=code)

    def _report(self, outcome: str, size: int, seconds: float, **more: Any) -> None:
        self._outcomes.append(
            UploadOutcome(
                outcome,
                self.frontend.name,
                self.exchange.client.peer,
                size,
                seconds,
                metadata=self.metadata,
                **more,
            )
        )
        if self.responded:
            self._tell_observers()

    def _tell_observers(self) -> None:
        outcomes, self._outcomes = self._outcomes, []
        try:
            for ended in outcomes:
                for observer in self.frontend.observers:
                    observer(ended)
        except Exception:
            _log.failure("internal error: the outcome of an upload could not be reported")
        self.frontend.upload_ended(self.exchange.connection)


class _Wait(Generic[T]):
    """Waits for the store, for at most `STORE_PATIENCE`."""

    def __init__(
        self,
        request: TusRequest,
        then: Callable[[T], object],
        otherwise: Callable[[UploadRefused], object],
        late: Callable[[T], object],
    ) -> None:
        self._request = request
        self._then = then
        self._otherwise = otherwise
        self._late = late
        self._over = False
        self._timer: IDelayedCall | None = None

    def limit(self) -> None:
        if not self._over:
            self._timer = self._request.frontend.clock.callLater(STORE_PATIENCE, self._too_late)

    def succeeded(self, result: T) -> None:
        if self._over:
            self._late(result)
        else:
            self._end()
            self._request.attempt(self._then, result)

    def failed(self, failure: Failure) -> None:
        refusal = refusal_of(failure)
        if refusal.later is not None:
            refusal.later.addCallback(self._late)
        if not self._over:
            self._end()
            self._request.attempt(self._otherwise, refusal)

    def _too_late(self) -> None:
        self._timer = None
        self._end()
        self._request.attempt(self._otherwise, StoreFailed())

    def _end(self) -> None:
        self._over = True
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


def refusal_of(failure: Failure) -> UploadRefused:
    """Return why the store has failed; what is not in its contract is logged."""
    if isinstance(failure.value, UploadRefused):
        return failure.value
    _log.failure("the store broke its contract: a Deferred failed", failure)
    return StoreFailed()


_log = Logger()
