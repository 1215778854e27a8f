"""Who may upload: each request is checked before a handler sees it."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from tests.support.exchanges import CLIENT, FakeExchange, FakeFrontend, request_for
from twisted_upload.errors import Conflict, StoreFailed
from twisted_upload.frontends.http.access import (
    OPEN,
    AccessControl,
    Grant,
    open_to_all,
)
from twisted_upload.frontends.http.credentials import Credentials
from twisted_upload.frontends.http.exchange import Client, IExchange
from twisted_upload.frontends.http.invitations import Invitation, InvitationKeys
from twisted_upload.frontends.http.messages import Response
from twisted_upload.frontends.http.settings import HTTPSettings
from twisted_upload.frontends.http.tokens import TokenTable, token_digest
from twisted_upload.frontends.http.wrong_tokens import FREE
from twisted_upload.stores.memory import MemoryStore

NOW = 1_795_328_130.0
KEYS = InvitationKeys([b"k" * 32])
TOKENS = TokenTable({"scanner": token_digest("tok_scanner")})
ALICE = Invitation("Alice", int(NOW) + 60, 1000, 20, "00112233445566778899aabb")
APP = "https://app.example"


class Uploads:
    """How many uploads are left."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer: Deferred[int | None] = succeed(7)

    def left(self, owner: str) -> Deferred[int | None]:
        self.asked.append(owner)
        return self.answer


class Rig:
    """
    A checked handler.

    :ivar grants: those of the requests that it has been called with.
    """

    def __init__(
        self,
        credentials: Credentials = Credentials(TOKENS, KEYS),  # noqa: B008 - frozen
        *origins: str,
    ) -> None:
        self.clock = Clock()
        self.uploads = Uploads()
        self.counted: list[tuple[str, str | None]] = []
        self.control = AccessControl(
            self.uploads,
            now=lambda: NOW,
            clock=self.clock,
            count=lambda code, group: self.counted.append((code, group)),
        )
        self.frontend = FakeFrontend(
            MemoryStore(lambda: NOW),
            self.clock,
            HTTPSettings(credentials=credentials, cors_origin=origins),
        )
        self.grants: list[Grant] = []
        self.error: Exception | None = None
        self.handler = self.control.guarded(self.control.checked(self._handle))

    def _handle(self, exchange: IExchange) -> None:
        self.grants.append(self.control.grant_of(exchange))
        if self.error is not None:
            raise self.error
        exchange.respond(Response(201))

    def request(
        self,
        method: str = "PUT",
        secret: str | None = None,
        *,
        client: Client = CLIENT,
        fields: dict[str, str] | None = None,
    ) -> FakeExchange:
        """Send a request."""
        named = {name.replace("_", "-"): value for name, value in (fields or {}).items()}
        if secret is not None:
            named["Authorization"] = f"Bearer {secret}"
        exchange = FakeExchange(request_for(method, fields=named), client, frontend=self.frontend)
        return exchange.handle(self.handler)

    def status(self, method: str = "PUT", secret: str | None = None, **fields: str) -> int:
        response = self.request(method, secret, fields=fields).response
        assert response is not None
        return response.status


def fields_of(exchange: FakeExchange) -> list[tuple[str, str]]:
    assert exchange.response is not None
    return [*exchange.response.fields]


@pytest.mark.parametrize(
    ("own", "listener", "limit"), [(0, 0, 0), (5, 0, 5), (0, 7, 7), (5, 7, 5), (9, 7, 7)]
)
def test_limit(own: int, listener: int, limit: int) -> None:
    """The smaller limit counts; none is no limit."""
    assert Grant(max_size=own).limit(listener) == limit


def test_open() -> None:
    """Without tokens and invitations, a listener is open to all."""
    rig = Rig(Credentials())
    assert rig.status() == 201
    assert rig.status("PUT", "tok_nonsense") == 201
    assert rig.grants == [OPEN, OPEN]
    assert open_to_all(FakeExchange()) is OPEN


def test_token() -> None:
    """A request with a token is made in its name."""
    rig = Rig()
    assert rig.status("PUT", "tok_scanner") == 201
    basic = "Basic " + b64encode(b"anybody:tok_scanner").decode()
    assert rig.status("PUT", Authorization=basic) == 201
    assert rig.grants == [Grant("token:scanner", "scanner")] * 2
    assert rig.counted == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE"])
def test_no_token(method: str) -> None:
    """Without a token no request reaches the handler; both schemes are offered."""
    rig = Rig()
    exchange = rig.request(method)
    assert exchange.response is not None
    assert exchange.response.status == 401
    assert exchange.reader is None
    offered = [value.split()[0] for name, value in fields_of(exchange) if name[:3] == "WWW"]
    assert offered == ["Bearer", "Basic"]
    assert rig.grants == []
    assert rig.counted == [("unauthorized", "192.0.2.7")]


@pytest.mark.parametrize(
    "credentials", [Credentials(TOKENS), Credentials(keys=KEYS), Credentials(TOKENS, KEYS)]
)
def test_wrong(credentials: Credentials) -> None:
    """What is neither a token nor an invitation is refused."""
    other = InvitationKeys([b"o" * 32]).sign(ALICE)
    for secret in "tok_other", "", other, "inv_", "inv_xx":
        rig = Rig(credentials)
        assert rig.status("PUT", secret) == 401
        assert rig.grants == []


def test_only_what_is_configured() -> None:
    """A token is nothing to a listener with invitations alone, and the other way round."""
    assert Rig(Credentials(keys=KEYS)).status("PUT", "tok_scanner") == 401
    assert Rig(Credentials(TOKENS)).status("PUT", KEYS.sign(ALICE)) == 401


def test_no_tokens_at_all() -> None:
    """An empty file of tokens lets nobody upload."""
    assert Rig(Credentials(TokenTable({}))).status() == 401


def test_options() -> None:
    """What a server can do may be asked without a token, but not more than that."""
    rig = Rig()
    assert rig.status("OPTIONS") == 201
    assert rig.grants == [OPEN]
    assert rig.status("OPTIONS", X_HTTP_Method_Override="PATCH") == 401
    assert rig.status("OPTIONS", "tok_scanner", X_HTTP_Method_Override="PATCH") == 201


def test_invitation() -> None:
    """An invitation has its label, its limits, and the number of uploads that are left."""
    rig = Rig()
    assert rig.status("PUT", KEYS.sign(ALICE)) == 201
    assert rig.grants == [Grant(ALICE.owner, "Alice", 1000, 7, ALICE.expires)]
    assert rig.uploads.asked == [ALICE.owner]


def test_unlimited_invitation() -> None:
    """If it has no number of uploads, nothing is counted."""
    rig = Rig()
    invitation = replace(ALICE, uploads=0)
    assert rig.status("PUT", KEYS.sign(invitation)) == 201
    assert rig.grants[0].uploads_left is None
    assert rig.uploads.asked == []


def test_expired() -> None:
    """One that has expired is refused, and is no attempt at guessing."""
    rig = Rig()
    for _ in range(FREE + 1):
        exchange = rig.request("PUT", KEYS.sign(replace(ALICE, expires=int(NOW))))
        assert exchange.response is not None
        assert exchange.response.status == 401
        assert b"expired" in exchange.response.body


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_used_up(method: str) -> None:
    """If none are left, no further upload begins."""
    rig = Rig()
    rig.uploads.answer = succeed(0)
    exchange = rig.request(method, KEYS.sign(ALICE))
    assert exchange.response is not None
    assert exchange.response.status == 403
    assert exchange.response.body.decode().startswith("上传失败: not-allowed this invitation has")
    assert rig.grants == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "DELETE"])
def test_used_up_by_another_method(method: str) -> None:
    """A request that stands for a POST begins an upload."""
    rig = Rig()
    rig.uploads.answer = succeed(0)
    assert rig.status(method, KEYS.sign(ALICE), x_http_method_override="POST") == 403
    assert rig.grants == []


@pytest.mark.parametrize("method", ["HEAD", "PATCH", "DELETE"])
def test_used_up_by_what_is_continued(method: str) -> None:
    """An upload that has begun can be continued, even if it is the last."""
    rig = Rig()
    rig.uploads.answer = succeed(0)
    assert rig.status(method, KEYS.sign(ALICE)) == 201


@pytest.mark.parametrize("left", [0, 3])
def test_only_asks(left: int) -> None:
    """A request that only asks learns how many uploads are left, even if there are none."""
    rig = Rig()
    rig.uploads.answer = succeed(left)
    rig.handler = rig.control.checked(rig._handle, only_asks=True)
    assert rig.status("GET", KEYS.sign(ALICE)) == 201
    assert rig.grants[0].uploads_left == left


def test_waits_for_the_disk() -> None:
    """While the number of uploads is read, nothing happens; then the handler is called."""
    rig = Rig()
    rig.uploads.answer = Deferred()
    exchange = rig.request("PUT", KEYS.sign(ALICE))
    assert (exchange.response, exchange.reader, rig.grants) == (None, None, [])
    rig.uploads.answer.callback(1)
    assert exchange.response == Response(201)
    assert rig.grants[0].uploads_left == 1


def test_disk_fails() -> None:
    """If the number cannot be read, the upload is refused, and may be sent again later."""
    rig = Rig()
    rig.uploads.answer = Deferred()
    exchange = rig.request("PUT", KEYS.sign(ALICE))
    rig.uploads.answer.errback(StoreFailed())
    assert exchange.response is not None
    assert exchange.response.status == 503


def test_disk_stalls() -> None:
    """If it does not come, the sender does not wait for ever."""
    rig = Rig()
    rig.uploads.answer = Deferred()
    exchange = rig.request("PUT", KEYS.sign(ALICE))
    rig.clock.advance(60)
    assert exchange.response is not None
    assert exchange.response.status == 503
    assert not rig.clock.getDelayedCalls()


def test_error_of_the_handler() -> None:
    """What a handler raises is the response, whether it is called at once or later."""
    for secret in "tok_scanner", KEYS.sign(ALICE):
        rig = Rig()
        rig.error = Conflict()
        assert rig.status("PUT", secret) == 409
        assert rig.counted == []


def test_replaced() -> None:
    """A token that has been revoked is worth nothing from the next request on."""
    rig = Rig()
    assert rig.status("PATCH", "tok_scanner") == 201
    rig.frontend.reconfigure(HTTPSettings(credentials=Credentials(TokenTable({}))))
    assert rig.status("PATCH", "tok_scanner") == 401


def test_too_many_wrong_tokens() -> None:
    """After a few wrong tokens, the next are answered with 429; a right one never is."""
    rig = Rig()
    assert [rig.status("PUT", "tok_wrong") for _ in range(FREE + 1)] == [401] * FREE + [429]
    exchange = rig.request("PUT", "tok_wrong")
    assert ("Retry-After", "30") in fields_of(exchange)
    assert rig.status("PUT", "tok_scanner") == 201
    assert rig.status() == 401
    elsewhere = CLIENT._replace(group="198.51.100.1")
    other = rig.request("PUT", "tok_wrong", client=elsewhere)
    assert other.response is not None
    assert other.response.status == 401
    assert rig.counted[-1] == ("unauthorized", "198.51.100.1")
    assert len(rig.counted) == FREE + 4


def test_cross_site() -> None:
    """A page of another site cannot write, not even with a token; it is counted."""
    for credentials in Credentials(), Credentials(TOKENS):
        rig = Rig(credentials)
        assert rig.status("POST", "tok_scanner", Origin=APP) == 403
        assert rig.grants == []
        assert rig.counted == [("not-allowed", "192.0.2.7")]


def test_cors() -> None:
    """A page of an allowed origin can read each response, also that the token is missing."""
    rig = Rig(Credentials(TOKENS), APP)
    for secret, status in (("tok_scanner", 201), (None, 401), ("tok_wrong", 401)):
        exchange = rig.request("POST", secret, fields={"Origin": APP})
        assert exchange.response is not None
        assert exchange.response.status == status
        assert fields_of(exchange).count(("Access-Control-Allow-Origin", APP)) == 1
        assert ("Vary", "Origin") in fields_of(exchange)


def test_preflight() -> None:
    """A preflight needs no token, and does not reach the handler."""
    rig = Rig(Credentials(TOKENS), APP)
    asked = {"Origin": APP, "Access_Control_Request_Method": "PATCH"}
    assert rig.status("OPTIONS", **asked) == 204
    assert rig.grants == []


def test_not_checked() -> None:
    """A handler that is not checked is granted nothing."""
    rig = Rig()
    with pytest.raises(TypeError, match="has not been checked"):
        rig.control.grant_of(FakeExchange(frontend=rig.frontend))


def test_passes_everything_on() -> None:
    """A handler sees the request as the connection does."""
    rig = Rig()
    secret = {"Authorization": "Bearer tok_scanner"}
    exchange = FakeExchange(request_for(fields=secret, length=5), frontend=rig.frontend)
    seen: list[IExchange] = []
    exchange.handle(rig.control.checked(seen.append))
    (checked,) = seen
    assert checked.request is exchange.request
    assert checked.client is exchange.client
    assert checked.connection is exchange.connection
    assert checked.frontend is exchange.frontend
    reader: Any = object()
    checked.accept_body(reader)
    assert exchange.reader is reader
    checked.pauseProducing()
    assert exchange.paused
    checked.resumeProducing()
    assert not exchange.paused
    checked.stopProducing()
    assert exchange.stopped
    checked.add_fields(("A", "b"))
    checked.respond(Response(201))
    assert fields_of(exchange) == [("A", "b")]


def test_new_origins() -> None:
    """Origins are those of the present settings."""
    rig = Rig(Credentials())
    assert rig.status("POST", Origin=APP) == 403
    rig.frontend.reconfigure(HTTPSettings(cors_origin=(APP,)))
    assert rig.status("POST", Origin=APP) == 201
