"""
Looks at a bucket with requests that it signs itself (AWS Signature Version 4): it shares no
code with the package, nor with the libraries that the package uses.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree as ET

__all__ = ["Answer", "Pending", "Witness"]

_TIMEOUT = 30.0


class Answer(NamedTuple):
    """An answer; the names of its header fields are in lower case."""

    status: int
    fields: Mapping[str, str]
    body: bytes


class Pending(NamedTuple):
    """A multipart upload that was neither completed nor aborted."""

    key: str
    identity: str


class Witness:
    """
    One bucket, as an independent client sees it.

    Every request has a separate connection, so several threads may use one witness.

    :param port: of the engine, on 127.0.0.1.
    """

    def __init__(
        self, port: int, bucket: str, access_key: str, secret_key: str, region: str
    ) -> None:
        self.bucket = bucket
        self._host = f"127.0.0.1:{port}"
        self._access_key = access_key
        self._secret_key = secret_key
        self._region = region

    def create(self) -> None:
        """Create the bucket, unless it is there."""
        if self.request("HEAD").status == 404:
            self._done(self.request("PUT"), 200, 409)

    def objects(self, prefix: str = "") -> dict[str, int]:
        """Return the sizes of all objects whose keys have a prefix, in bytes."""
        found: dict[str, int] = {}
        query = {"list-type": "2", "prefix": prefix}
        for page in self._pages(query, {"continuation-token": "NextContinuationToken"}):
            for each in page.findall("Contents"):
                found[_text(each, "Key")] = int(_text(each, "Size"))
        return found

    def pending(self, prefix: str = "") -> list[Pending]:
        """Return the pending multipart uploads whose keys have a prefix."""
        found: list[Pending] = []
        markers = {"key-marker": "NextKeyMarker", "upload-id-marker": "NextUploadIdMarker"}
        for page in self._pages({"uploads": "", "prefix": prefix}, markers):
            found += [
                Pending(_text(each, "Key"), _text(each, "UploadId"))
                for each in page.findall("Upload")
            ]
        return found

    def get(self, key: str) -> bytes:
        """
        Return the content of an object.

        :raises KeyError: there is none.
        """
        answer = self.request("GET", key)
        if answer.status == 404:
            raise KeyError(key)
        return self._done(answer, 200).body

    def head(self, key: str) -> Mapping[str, str] | None:
        """Return the header fields of an object, `None` if there is none."""
        answer = self.request("HEAD", key)
        return None if answer.status == 404 else self._done(answer, 200).fields

    def tags(self, key: str) -> dict[str, str]:
        """Return the tags of an object."""
        tree = _parse(self._done(self.request("GET", key, {"tagging": ""}), 200).body)
        return {_text(tag, "Key"): _text(tag, "Value") for tag in tree.iter("Tag")}

    def put(self, key: str, data: bytes) -> None:
        """Put an object."""
        self._done(self.request("PUT", key, body=data), 200)

    def begin(self, key: str) -> str:
        """Begin a multipart upload; return its id."""
        answer = self._done(self.request("POST", key, {"uploads": ""}), 200)
        return _text(_parse(answer.body), "UploadId")

    def remove(self, key: str) -> None:
        """Remove an object, if it is there."""
        self._done(self.request("DELETE", key), 200, 204, 404)

    def request(
        self,
        method: str,
        key: str = "",
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        more: Mapping[str, str] | None = None,
    ) -> Answer:
        """
        Send one signed request.

        :param key: of an object; without one, it is about the bucket.
        :param more: header fields that are not signed.
        :raises OSError: there is no answer.
        """
        path = quote(f"/{self.bucket}/{key}" if key else f"/{self.bucket}", safe="/-_.~")
        search = "&".join(
            f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
            for name, value in sorted((query or {}).items())
        )
        digest = hashlib.sha256(body).hexdigest()
        fields = {**self._signed(method, path, search, digest), **(more or {})}
        connection = http.client.HTTPConnection(self._host, timeout=_TIMEOUT)
        try:
            connection.request(method, f"{path}?{search}" if search else path, body, fields)
            answer = connection.getresponse()
            lower = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, lower, answer.read())
        finally:
            connection.close()

    def _signed(self, method: str, path: str, search: str, digest: str) -> dict[str, str]:
        """Return the header fields with the signature."""
        now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        fields = {"host": self._host, "x-amz-content-sha256": digest, "x-amz-date": now}
        names = ";".join(sorted(fields))
        head = "".join(f"{name}:{fields[name]}\n" for name in sorted(fields))
        canonical = f"{method}\n{path}\n{search}\n{head}\n{names}\n{digest}"
        scope = f"{now[:8]}/{self._region}/s3/aws4_request"
        hashed = hashlib.sha256(canonical.encode()).hexdigest()
        key = f"AWS4{self._secret_key}".encode()
        for step in scope.split("/"):
            key = hmac.digest(key, step.encode(), "sha256")
        signature = hmac.digest(
            key, f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashed}".encode(), "sha256"
        )
        credential = f"Credential={self._access_key}/{scope}"
        fields["authorization"] = (
            f"AWS4-HMAC-SHA256 {credential}, SignedHeaders={names}, Signature={signature.hex()}"
        )
        return fields

    def _pages(self, query: dict[str, str], markers: Mapping[str, str]) -> Iterator[ET.Element]:
        """Yield each page of a listing."""
        while True:
            page = _parse(self._done(self.request("GET", "", query), 200).body)
            yield page
            if page.findtext("IsTruncated") != "true":
                return
            query = {**query, **{name: page.findtext(tag) or "" for name, tag in markers.items()}}

    @staticmethod
    def _done(answer: Answer, *expected: int) -> Answer:
        if answer.status not in expected:
            raise OSError(f"the engine answers {answer.status}: {answer.body[:300]!r}")
        return answer


def _parse(body: bytes) -> ET.Element:
    """Parse an answer; its names lose their namespace."""
    tree = ET.fromstring(body)
    for each in tree.iter():
        each.tag = each.tag.rpartition("}")[2]
    return tree


def _text(element: ET.Element, name: str) -> str:
    found = element.findtext(name)
    assert found is not None, f"no {name} in {ET.tostring(element)!r}"
    return found
