"""
One upload, from its arguments to its receipt: what all ways of calling it have in common.

It is carried out in the thread that calls it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from twisted_upload.client.attempts import Attempts, OnAttempt
from twisted_upload.client.content import AnySource, Content, open_content
from twisted_upload.client.rate_limit import RateLimit
from twisted_upload.client.resume_state import ResumeState, SavedUpload
from twisted_upload.client.system import SYSTEM, ClientSystem
from twisted_upload.client.targets import Target, is_token, parse_target
from twisted_upload.core.answers import SUCCESS
from twisted_upload.core.metadata import checked_metadata, folder_of
from twisted_upload.receipt import Receipt

if TYPE_CHECKING:  # with Twisted, the raw protocol needs none of these
    from twisted_upload.client.conversation import Conversation
    from twisted_upload.client.waiting import Stop

__all__ = ["Progress", "Upload"]

Progress = Callable[[int, "int | None"], object]
"""Called with the number of bytes sent so far, and the total if known."""


@dataclass(frozen=True, slots=True)
class Upload:
    """
    The arguments of an upload; see `twisted_upload.sync.upload`.

    :ivar system: what is asked of the kernel.
    :raises ValueError: one is invalid; the message is one line.
    """

    source: AnySource
    target: str | Target
    token: str | None = None
    label: str = ""
    name: str | None = None
    content_type: str | None = None
    cacert: str | None = None
    answer: str = SUCCESS
    sha256: bool | None = None
    retry: float | None = None
    state: ResumeState | None = None
    limit: RateLimit | None = None
    progress: Progress | None = None
    on_attempt: OnAttempt | None = None
    connect_timeout: float = 30.0
    stall_timeout: float = 60.0
    answer_timeout: float = 300.0
    system: ClientSystem = field(default=SYSTEM, repr=False, compare=False)

    @property
    def where(self) -> Target:
        """
        Return the server, with its token and its certificates.

        :raises ValueError: it is not one.
        """
        target = parse_target(self.target) if isinstance(self.target, str) else self.target
        token = self.token or target.token
        if token is not None and not is_token(token):
            raise ValueError("the token is not valid: it contains characters that none has")
        if token is not None and not target.is_http:
            raise ValueError(f"{target} takes no token: that needs http:// or https://")
        if self.cacert is not None and not target.is_tls:
            raise ValueError(f"{target} has no certificate: that needs https:// or tls://")
        return replace(target, token=token, cacert=self.cacert or target.cacert)

    def run(self, stop: Stop | None = None) -> Receipt:
        """
        Send it.

        :param stop: stops it from another thread.
        :raises UploadError: see `twisted_upload.sync.upload`.
        :raises Stopped: it was stopped.
        """
        from twisted_upload.client.driver import Driver  # noqa: PLC0415 - see above

        target = self.where
        if target.scheme == "endpoint":
            raise ValueError(f"{target} is an endpoint of Twisted, which only upload() knows")
        content = open_content(self.source, self.system)
        saved: SavedUpload | None = None
        try:
            if target.is_http:
                conversation, saved = self._by_http(target, content)
            else:
                conversation = self._raw(target, content)
            return Driver(stop, self.limit, self.system).run(conversation)
        finally:
            content.close()
            if saved is not None:
                saved.close()

    # Imported where they are needed: nobody waits for what only the other one uses.

    def _raw(self, target: Target, content: Content) -> Conversation[Receipt]:
        from twisted_upload.client.raw import RawUpload, raw_upload  # noqa: PLC0415

        job = RawUpload(
            target,
            content,
            self._attempts(self.retry or 0.0),
            self.answer,
            bool(self.sha256),
            self.connect_timeout,
            self.stall_timeout,
            self.answer_timeout,
            now=self.system.now,
        )
        if self.progress is not None:
            job.progress = self.progress
        return raw_upload(job)

    def _by_http(
        self, target: Target, content: Content
    ) -> tuple[Conversation[Receipt], SavedUpload | None]:
        from twisted_upload.client.http.job import HTTPUpload, Timeouts  # noqa: PLC0415
        from twisted_upload.client.http.upload import http_upload  # noqa: PLC0415

        name, folder = (self._name, "") if self.name is None else (self.name, folder_of(self.name))
        metadata = checked_metadata(name, self.content_type or "", self.label, folder)
        job = HTTPUpload(
            target,
            content,
            self._attempts(self.retry),
            metadata,
            target.token,
            self.sha256 is not False,
            Timeouts(self.connect_timeout, self.stall_timeout, self.answer_timeout),
            now=self.system.now,
        )
        if self.progress is not None:
            job.progress = self.progress
        saved = None if self.state is None else self.state.remember(content, target, metadata)
        if saved is not None:
            job.saved = saved
        return http_upload(job), saved

    def _attempts(self, patience: float | None) -> Attempts:
        system = self.system
        return Attempts(patience, self.on_attempt, clock=system.monotonic, chance=system.chance)

    @property
    def _name(self) -> str:
        """The name of the file, if it is one."""
        if isinstance(self.source, str | os.PathLike):
            return os.path.basename(os.fspath(self.source))
        return ""
