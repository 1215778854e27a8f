"""
What the answers and errors of the two libraries mean: which error is raised, whether a
further attempt may help, and what to change.

Of an answer, only its status and its code get into a text: its message and the rest of it
may repeat what was signed, or anything else.
"""

from __future__ import annotations

import re
from typing import Any

from twisted_upload.stores.s3.attempts import AttemptFailed
from twisted_upload.stores.s3.errors import (
    Denied,
    ObjectStoreError,
    Rejected,
    Throttled,
    Unreachable,
)
from twisted_upload.stores.s3.http_sender import NOT_TRUSTED, SendFailed

__all__ = ["answered", "botocore_failure", "obstore_failure", "unanswered"]

_THROTTLED = {
    *("SlowDown", "SlowDownRead", "SlowDownWrite", "Throttling", "ThrottlingException"),
    *("RequestLimitExceeded", "TooManyRequests", "TooManyRequestsException", "RequestThrottled"),
}
# Answers of the 4xx kind after which the same request may succeed.
_AGAIN = {
    *("RequestTimeout", "OperationAborted", "ConditionalRequestConflict", "InternalError"),
    *("ServiceUnavailable", "RequestTimeTooSlow"),
    # What arrived was not what was sent.
    *("BadDigest", "XAmzContentSHA256Mismatch", "ContentSHA256Mismatch", "IncompleteBody"),
    *("InvalidDigest", "XAmzContentChecksumMismatch", "MalformedXML"),
}
_DENIED = {
    "AccessDenied": "the credentials lack a permission (see the guide for those needed)",
    "AllAccessDisabled": "the bucket does not exist, or is closed",
    "AuthorizationHeaderMalformed": "set AWS_REGION to the region of the bucket",
    "ExpiredToken": "the credentials have expired",
    "IllegalLocationConstraintException": "set AWS_REGION to the region of the bucket",
    "InvalidAccessKeyId": "the access key is unknown: check AWS_ACCESS_KEY_ID",
    "InvalidBucketName": "there can be no such bucket: check its name",
    "InvalidToken": "the session token is invalid: check AWS_SESSION_TOKEN",
    "NoSuchBucket": "there is no such bucket: create it, or check its name",
    "PermanentRedirect": "set AWS_REGION to the region of the bucket",
    "QuotaExceeded": "the quota of the bucket or its owner is used up",
    "RequestTimeTooSkewed": "the clocks of this machine and the object store differ",
    "SignatureDoesNotMatch": "the secret key is wrong: check AWS_SECRET_ACCESS_KEY",
    "TokenRefreshRequired": "the credentials have expired",
}
_DENIED_STATUS = {
    301: "set AWS_REGION to the region of the bucket",
    401: "the credentials are not accepted",
    403: "the credentials are not accepted, or lack a permission",
}
_CODE = re.compile(r"[A-Za-z0-9.]{1,64}\Z")
_OBSTORE_STATUS = re.compile(r"Server returned non-2xx status code: ([0-9]{3})")
_OBSTORE_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")
_OBSTORE_CONNECT = re.compile(r"kind: Connect\b")  # not ConnectionReset
_CREDENTIALS = (
    "no usable credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
)


def answered(what: str, status: int, code: str = "") -> AttemptFailed:
    """
    Return the failure that an answer is.

    :param what: the place and the operation, for the text.
    :param status: the HTTP status, not of the 2xx kind.
    :param code: the code in the answer, if it has one.
    """
    code = code if _CODE.match(code) and code != str(status) else ""
    text = f"{what}: {status} {code}".rstrip()
    if status == 429 or code in _THROTTLED:
        return AttemptFailed(Throttled(f"{text}: too many requests"), again=True, lost=True)
    if code in _AGAIN or status in (408, 409, 425):
        return AttemptFailed(Unreachable(text), again=True, lost=True)
    hint = _DENIED.get(code) or _DENIED_STATUS.get(status)
    if hint:
        return AttemptFailed(Denied(f"{text}: {hint}"), again=False)
    if (status >= 500 and status != 501) or status < 400:
        return AttemptFailed(Unreachable(text), again=True, lost=True)
    return AttemptFailed(Rejected(text), again=False)


def unanswered(what: str, why: str) -> AttemptFailed:
    """Return the failure that no usable answer is."""
    return AttemptFailed(Unreachable(f"{what}: {why}"), again=True, lost=True)


def _final(error: ObjectStoreError) -> AttemptFailed:
    return AttemptFailed(error, again=False)


def obstore_failure(what: str, error: Exception) -> AttemptFailed:
    """Return the failure that an exception of obstore is; it tells what it is in its text."""
    from obstore.exceptions import UnauthenticatedError  # noqa: PLC0415

    text = str(error)
    status = _OBSTORE_STATUS.search(text)
    if status is not None:
        code = _OBSTORE_CODE.search(text)
        return answered(what, int(status[1]), code[1] if code else "")
    if "Received redirect without LOCATION" in text:
        return answered(what, 301)
    if isinstance(error, UnauthenticatedError):
        return _final(Denied(f"{what}: {_CREDENTIALS}"))
    if "UnknownIssuer" in text or "InvalidCertificate" in text:
        return AttemptFailed(Unreachable(f"{what}: {NOT_TRUSTED}"), again=True)
    if _OBSTORE_CONNECT.search(text):
        return AttemptFailed(Unreachable(f"{what}: no connection"), again=True)
    why = "no answer in time" if "kind: Timeout" in text else "the connection was lost"
    return unanswered(what, why if "HttpError" in text else "unusable answer")


def botocore_failure(what: str, error: Exception) -> AttemptFailed:
    """Return the failure that an exception of a request by botocore is."""
    from botocore import exceptions as of  # noqa: PLC0415

    if isinstance(error, SendFailed):
        return _not_sent(what, error)
    if isinstance(error, of.HTTPClientError | of.ConnectionError):
        return _not_sent(what, _of_botocore(error))
    if isinstance(error, of.ClientError):
        answer: Any = error.response
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return answered(what, int(status), str(answer.get("Error", {}).get("Code", "")))
    for kinds, final in (
        ((of.ParamValidationError,), Rejected(f"{what}: not a valid request")),
        ((of.NoRegionError, of.InvalidRegionError), Denied(f"{what}: {_DENIED_STATUS[301]}")),
        (_without_credentials(), Denied(f"{what}: {_CREDENTIALS}")),
    ):
        if isinstance(error, kinds):
            return _final(final)
    return unanswered(what, f"unusable answer ({type(error).__name__})")


def _without_credentials() -> tuple[type[Exception], ...]:
    from botocore import exceptions as of  # noqa: PLC0415

    return (
        *(of.NoCredentialsError, of.PartialCredentialsError, of.CredentialRetrievalError),
        *(of.ConfigParseError, of.ConfigNotFound, of.ProfileNotFound),
    )


def _not_sent(what: str, failed: SendFailed) -> AttemptFailed:
    if failed.status:
        return answered(what, failed.status)
    return AttemptFailed(Unreachable(f"{what}: {failed.why}"), again=True, lost=failed.lost)


def _of_botocore(error: Exception) -> SendFailed:
    """Return what an error of a request means that botocore has sent itself, to a proxy."""
    from botocore import exceptions as of  # noqa: PLC0415

    match error:
        case of.SSLError():
            return SendFailed(NOT_TRUSTED, lost=False)
        case of.ConnectTimeoutError() | of.EndpointConnectionError() | of.ProxyConnectionError():
            return SendFailed("no connection", lost=False)
        case of.ReadTimeoutError():
            return SendFailed("no answer in time")
    return SendFailed("the connection was lost")
