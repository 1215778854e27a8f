"""
What the answers of an object store mean; no secret gets into a text.
"""

from __future__ import annotations

import pytest
from botocore import exceptions as of_botocore
from obstore import exceptions as of_obstore

from twisted_upload.stores.s3.errors import (
    Denied,
    ObjectStoreError,
    Rejected,
    Throttled,
    Unreachable,
)
from twisted_upload.stores.s3.failures import answered, botocore_failure, obstore_failure

WHAT = "s3://in: put"
SECRET = "AKIDEXAMPLE AWS4-HMAC-SHA256 /secret"


@pytest.mark.parametrize(
    ("status", "code", "error", "again"),
    [
        (500, "InternalError", Unreachable, True),
        (502, "", Unreachable, True),
        (503, "", Unreachable, True),
        (503, "ServiceUnavailable", Unreachable, True),
        (503, "SlowDown", Throttled, True),
        (429, "", Throttled, True),
        (400, "RequestTimeout", Unreachable, True),
        (400, "BadDigest", Unreachable, True),
        (400, "XAmzContentSHA256Mismatch", Unreachable, True),
        (409, "ConditionalRequestConflict", Unreachable, True),
        (307, "TemporaryRedirect", Unreachable, True),
        (301, "PermanentRedirect", Denied, False),
        (403, "AccessDenied", Denied, False),
        (403, "SignatureDoesNotMatch", Denied, False),
        (403, "", Denied, False),
        (401, "", Denied, False),
        (400, "ExpiredToken", Denied, False),
        (404, "NoSuchBucket", Denied, False),
        (404, "NoSuchUpload", Rejected, False),
        (400, "EntityTooSmall", Rejected, False),
        (501, "NotImplemented", Rejected, False),
    ],
)
def test_answers(status: int, code: str, error: type[ObjectStoreError], again: bool) -> None:
    """An answer tells whether to ask again, and who has to do something; both libraries agree."""
    failed = answered(WHAT, status, code)
    assert type(failed.error) is error
    assert failed.again is again
    assert str(failed.error).startswith(f"{WHAT}: {status} {code}".rstrip())
    answer = {
        "Error": {"Code": code, "Message": SECRET},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    by_botocore = botocore_failure(WHAT, of_botocore.ClientError(answer, "PutObject"))  # type: ignore[arg-type]
    text = (
        f"Server returned non-2xx status code: {status} x: <Error><Code>{code}</Code>"
        f"<StringToSign>{SECRET}</StringToSign></Error>"
    )
    by_obstore = obstore_failure(WHAT, of_obstore.GenericError(text))
    for other in by_botocore, by_obstore:
        assert (type(other.error), str(other.error)) == (error, str(failed.error))
        assert (other.again, other.lost) == (failed.again, failed.lost)


@pytest.mark.parametrize("code", [SECRET, "A\nB", "\x1b[31m", "x" * 65])
def test_odd_codes(code: str) -> None:
    """A code that is none gets into no text."""
    assert str(answered(WHAT, 400, code).error) == f"{WHAT}: 400"


@pytest.mark.parametrize(
    ("text", "why", "lost"),
    [
        ("HttpError { kind: Connect, source", "no connection", False),
        ("HttpError { kind: Timeout, source", "no answer in time", True),
        ("HttpError { kind: Request, source: ConnectionReset", "the connection was lost", True),
        ("HttpError { kind: Request, kind: ConnectionReset", "the connection was lost", True),
        ("Metadata { source: MissingEtag }", "unusable answer", True),
    ],
)
def test_no_answers(text: str, why: str, lost: bool) -> None:
    """Without an answer it is known whether the request may have been carried out."""
    failed = obstore_failure(WHAT, of_obstore.GenericError(f"{SECRET} {text}"))
    assert (str(failed.error), failed.lost) == (f"{WHAT}: {why}", lost)
    assert failed.again
    assert type(failed.error) is Unreachable


def test_certificate() -> None:
    """A certificate that is not trusted names what to set."""
    text = "HttpError { kind: Connect, source: InvalidCertificate(UnknownIssuer)"
    assert "AWS_CA_BUNDLE" in str(obstore_failure(WHAT, of_obstore.GenericError(text)).error)
    untrusted = of_botocore.SSLError(endpoint_url=SECRET, error=OSError(SECRET))
    assert "AWS_CA_BUNDLE" in str(botocore_failure(WHAT, untrusted).error)


def test_credentials() -> None:
    """Credentials that cannot be found or read are the operator's; no text of theirs is told."""
    failures = [
        obstore_failure(WHAT, of_obstore.UnauthenticatedError(SECRET)),
        botocore_failure(WHAT, of_botocore.NoCredentialsError()),
        botocore_failure(
            WHAT, of_botocore.CredentialRetrievalError(provider="x", error_msg=SECRET)
        ),
        botocore_failure(WHAT, of_botocore.ProfileNotFound(profile=SECRET)),
    ]
    for failed in failures:
        assert type(failed.error) is Denied
        assert not failed.again
        assert "AWS_ACCESS_KEY_ID" in str(failed.error)
        assert "AKID" not in str(failed.error)


@pytest.mark.parametrize("error", [KeyError(SECRET), ValueError(SECRET), RuntimeError(SECRET)])
def test_odd_errors(error: Exception) -> None:
    """An answer on which a library stumbles is unusable."""
    failed = botocore_failure(WHAT, error)
    assert str(failed.error) == f"{WHAT}: unusable answer ({type(error).__name__})"
    assert failed.lost
