"""
How an object store is reached: endpoint, region, credentials and trusted certificates.

They are found as every tool of that ecosystem finds them, by botocore: in the environment
(``AWS_ENDPOINT_URL``, ``AWS_REGION``, ``AWS_ACCESS_KEY_ID``, ``AWS_PROFILE`` and others), in
``~/.aws`` or the files that ``AWS_CONFIG_FILE`` and ``AWS_SHARED_CREDENTIALS_FILE`` name, or
from the container or machine that this runs on.  obstore is given what botocore has found,
so that both always use the same.
"""

from __future__ import annotations

import datetime as dt
import importlib
import importlib.util
import os
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from twisted_upload.stores.s3.attempts import (
    ANSWER_TIMEOUT,
    CONNECT_TIMEOUT,
    AttemptFailed,
    answer_timeout,
)
from twisted_upload.stores.s3.bucket import SMALLEST_PART
from twisted_upload.stores.s3.errors import Denied
from twisted_upload.stores.s3.failures import botocore_failure
from twisted_upload.stores.s3.http_sender import MOST_IDLE, HttpSender, SendFailed

__all__ = ["Access", "find_access", "import_libraries", "is_installed"]

_DEFAULT_REGION = "us-east-1"
# obstore asks for credentials again 5 minutes before they expire.
_ASK_AGAIN = dt.timedelta(minutes=6)
_SMALL = 64 * 1024
_IDLE = dt.timedelta(seconds=30)


class Access(NamedTuple):
    """
    What requests are made with.

    :ivar endpoint: the URL of the object store, without the bucket.
    :ivar client: the S3 client of botocore.
    :ivar small: the store of obstore for objects up to 64 KiB.
    :ivar medium: that for objects up to the smallest part, which may take longer.
    :ivar sender: what sends the requests of botocore; None if they go through a proxy.
    """

    endpoint: str
    client: Any
    small: Any
    medium: Any
    sender: HttpSender | None

    def store_for(self, size: int) -> Any:
        """Return the store of obstore for an object of this size."""
        return self.small if size <= _SMALL else self.medium


def is_installed() -> bool:
    """Return whether the libraries are installed: ``pip install 'twisted-upload[s3]'``."""
    return all(importlib.util.find_spec(name) for name in ("botocore", "obstore"))


def import_libraries() -> None:
    """
    Import the libraries, without making a connection or a thread.

    To be called before the process loses privileges that it may need to read them, and
    before it serves: this takes half a second of CPU time.
    """
    for name in "botocore.session", "botocore.config", "botocore.awsrequest", "obstore.store":
        importlib.import_module(name)


def find_access(bucket: str, patience: float | None = None) -> Access:
    """
    Find everything, in the environment of this process.  May wait for the network.

    :param bucket: the name of the bucket.
    :param patience: seconds for an answer, instead of those that are usual.
    :raises AttemptFailed: something is missing or invalid.
    """
    import botocore.session  # noqa: PLC0415

    what = f"s3://{bucket}"
    try:
        session = botocore.session.Session()
        region = os.environ.get("AWS_REGION") or session.get_config_variable("region")
        endpoint = str(_client(session, region or _DEFAULT_REGION).meta.endpoint_url)
        style = _style(session, endpoint, bucket)
        client = _client(session, region or _DEFAULT_REGION, style)
        credentials = session.get_credentials()
        authorities = session.get_config_variable("ca_bundle")
    except Exception as error:
        raise botocore_failure(what, error) from None
    if credentials is None:
        raise _denied(f"{what}: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if not region and _is_aws(endpoint):
        raise _denied(f"{what}: no region: set AWS_REGION to the region of the bucket")
    pem, context = _trusted(what, authorities)
    sender = None
    if not _has_proxy(endpoint):
        sender = HttpSender(context, patience)
        client.meta.events.register_first("before-send.s3", _Handler(sender))
    options = _Options(bucket, region or _DEFAULT_REGION, endpoint, style, pem, patience)
    small, medium = (_store(options, credentials, size) for size in (_SMALL, SMALLEST_PART))
    return Access(endpoint, client, small, medium, sender)


class _Options(NamedTuple):
    bucket: str
    region: str
    endpoint: str
    style: str
    authorities: bytes | None
    patience: float | None


class _Handler:
    """Has botocore send its requests by our means."""

    def __init__(self, sender: HttpSender) -> None:
        from botocore.awsrequest import AWSResponse, HeadersDict  # noqa: PLC0415

        self._sender = sender
        self._response: Any = AWSResponse
        self._headers: Any = HeadersDict

    def __call__(self, request: Any, **_: Any) -> Any:
        status, headers, content = self._sender.send(request)
        if 200 <= status < 300 and content and request.method in {"DELETE", "PUT"}:
            raise SendFailed("unusable answer")  # of a proxy or a portal: theirs have none
        if status == 301:  # botocore would ask another region, and obstore would not
            raise SendFailed("", status=301)
        return self._response(request.url, status, self._headers(headers), _Raw(content))


class _Raw:
    """The body of an answer, as botocore reads it."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self._content


def _client(session: Any, region: str, style: str = "auto") -> Any:
    """Return a client of botocore that repeats nothing."""
    from botocore.config import Config  # noqa: PLC0415

    options: Any = {"addressing_style": style, "payload_signing_enabled": True}
    config = Config(
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=ANSWER_TIMEOUT,
        max_pool_connections=MOST_IDLE,
        tcp_keepalive=True,
        signature_version="s3v4",
        s3=options,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return session.create_client("s3", region_name=region, config=config)


def _is_aws(endpoint: str) -> bool:
    return ".amazonaws.com" in (urlsplit(endpoint).hostname or "")


def _style(session: Any, endpoint: str, bucket: str) -> str:
    """
    Return whether the bucket is in the path of a URL, or in its host name.

    Most object stores that are not of AWS have no DNS names for buckets, and no
    certificate is valid for one with a dot.
    """
    configured = (session.get_scoped_config().get("s3") or {}).get("addressing_style")
    if configured in {"path", "virtual"}:
        return str(configured)
    return "virtual" if _is_aws(endpoint) and "." not in bucket else "path"


def _trusted(what: str, path: str | None) -> tuple[bytes | None, ssl.SSLContext]:
    """Return the certificates that are configured, and the TLS context that trusts them."""
    if path is None:
        return None, ssl.create_default_context()
    try:
        with open(path, "rb") as file:
            pem = file.read()
        return pem, ssl.create_default_context(cadata=pem.decode("ascii"))
    except (OSError, ValueError):
        raise _denied(f"{what}: AWS_CA_BUNDLE is not a readable file of certificates") from None


def _has_proxy(endpoint: str) -> bool:
    """Return whether the environment has a proxy for it, which botocore speaks to by itself."""
    url = urlsplit(endpoint)
    proxies = urllib.request.getproxies()
    if not (proxies.get(url.scheme) or proxies.get("all")):
        return False
    return not urllib.request.proxy_bypass(url.hostname or "")


def _store(options: _Options, credentials: Any, size: int) -> Any:
    """Return a store of obstore that repeats nothing, for objects of at most this size."""
    from obstore.store import S3Store  # noqa: PLC0415

    endpoint = url = urlsplit(options.endpoint)
    if options.style == "virtual":
        endpoint = url._replace(netloc=f"{options.bucket}.{url.netloc}")
    client: dict[str, Any] = {
        "allow_http": url.scheme == "http",
        "connect_timeout": dt.timedelta(seconds=CONNECT_TIMEOUT),
        "timeout": dt.timedelta(seconds=answer_timeout(size, options.patience)),
        "pool_idle_timeout": _IDLE,
    }
    if options.authorities is not None:
        client["root_certificate"] = options.authorities
    # All that it would otherwise take from the environment by itself.
    config: dict[str, Any] = {
        "region": options.region,
        "endpoint": endpoint.geturl(),
        "aws_endpoint_url_s3": endpoint.geturl(),
        "virtual_hosted_style_request": options.style == "virtual",
        "unsigned_payload": False,
        "skip_signature": False,
        "conditional_put": "etag",
        # Some object stores check this, and not what has been signed; others the reverse.
        "checksum_algorithm": "SHA256",
    }
    return S3Store(
        options.bucket,
        config=config,  # type: ignore[arg-type]
        client_options=client,  # type: ignore[arg-type]
        retry_config={"max_retries": 0},
        credential_provider=_provider(credentials),
    )


def _provider(credentials: Any) -> Callable[[], Any]:
    """Return what gives obstore the credentials that botocore has, renewed when they are."""

    def credential() -> dict[str, Any]:
        frozen = credentials.get_frozen_credentials()
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": dt.datetime.now(dt.UTC) + _ASK_AGAIN,
        }

    return credential


def _denied(text: str) -> AttemptFailed:
    return AttemptFailed(Denied(text), again=False)
