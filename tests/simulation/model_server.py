"""
A server of PUT, POST and tus in memory, which keeps its promises or breaks one: senders are
tested with it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from typing import Any

from tests.simulation.senders.tus_sender import TusSender

__all__ = ["HttpServer", "Serve"]

HEAD = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n(.*?)\r\n\r\n", re.DOTALL)

Serve = Callable[[bytes, bool], "tuple[bytes, bool] | None"]
"""Takes what has come, and whether that is all; returns an answer, and whether it is the last."""


class HttpServer:
    """
    A server of PUT, POST and tus in memory.

    :ivar lie: what it does wrong.
    """

    def __init__(self, lie: str = "") -> None:
        self.lie = lie
        self.files: list[bytes] = []
        self.partials: dict[str, tuple[int | None, bytes, bool]] = {}

    def __call__(self) -> Serve:
        """Return what serves one connection."""
        return self._serve

    def _serve(self, data: bytes, ended: bool) -> tuple[bytes, bool] | None:
        found = HEAD.match(data)
        if found is None:
            return None
        method, path = found[1].decode(), found[2].decode()
        fields = dict(line.lower().split(": ", 1) for line in found[3].decode().split("\r\n"))
        body, rest = data[found.end() :], b""
        if "transfer-encoding" in fields:
            if not body.endswith(b"0\r\n\r\n") and b"\r\n0\r\n" not in body[-300:]:
                return None
            body = _dechunked(body)
        else:
            size = int(fields.get("content-length", "0"))
            if len(body) < size:
                return None
            body, rest = body[:size], body[size:]
        response = self._respond(method, path, fields, body)
        if self.lie == "twice":
            response += response
        last = fields.get("connection") == "close"
        if rest:
            more = self._serve(rest, ended)
            if more is not None:
                return response + more[0], more[1]
        return response, last

    def _respond(self, method: str, path: str, fields: dict[str, str], body: bytes) -> bytes:
        if path.startswith("/files"):
            return self._tus(method, path, fields, body)
        digest = hashlib.sha256(body)
        for name in ("repr-digest", "content-digest"):
            if name in fields and self.lie != "digest":
                kind = fields[name].partition("=")[0]
                if fields[name] != _digest(body, kind).lower():
                    return _response(460, "上传失败: digest-mismatch no\n")
        self.files.append(body)
        more: dict[str, Any] = {}
        if "want-repr-digest" in fields:
            more["Repr-Digest"] = _digest(body, "sha-256")
        size = len(body) + (self.lie == "size")
        receipt = f"上传成功 {len(self.files)}.bin {size} {digest.hexdigest()}\n"
        return _response(200 if self.lie == "status" else 201, receipt, **more)

    def _tus(self, method: str, path: str, fields: dict[str, str], body: bytes) -> bytes:
        if method == "POST":
            return self._create(fields, body)
        state = self.partials.get(path)
        if state is None:
            return _response(404, "上传失败: not-found no\n", tus=True)
        length, data, part = state
        if method == "DELETE":
            del self.partials[path]
            return _response(204, None, tus=True)
        if method == "PATCH":
            if int(fields["upload-offset"]) != len(data):
                return self._state(path, 409)
            checksum = fields.get("upload-checksum")
            if checksum is not None and self.lie != "checksum":
                kind = checksum.partition(" ")[0]
                if TusSender.checksum(body, kind).lower() != checksum:
                    return _response(460, "上传失败: digest-mismatch no\n", tus=True)
            if "upload-length" in fields:
                length = int(fields["upload-length"])
            past = length is not None and len(data) + len(body) > length
            self.partials[path] = length, (data + body)[:length], part
            if past and self.lie != "past":
                return self._state(path, 413)
            return self._state(path, 204)
        return self._state(path, 200)

    def _create(self, fields: dict[str, str], body: bytes) -> bytes:
        path = f"/files/{len(self.partials) + 1:032x}"
        concatenation = fields.get("upload-concat", "")
        length = int(fields["upload-length"]) if "upload-length" in fields else None
        if concatenation.startswith("final;"):
            urls = concatenation.removeprefix("final;").split(" ")
            body = b"".join(self.partials[url][1] for url in urls)
            length = len(body)
        self.partials[path] = length, body, concatenation == "partial"
        return self._state(path, 201, Location=f"http://box.example{path}")

    def _state(self, path: str, status: int, **more: Any) -> bytes:
        length, data, part = self.partials[path]
        offset = len(data) - (len(data) if self.lie == "back" and len(data) != length else 0)
        more["Upload-Offset"] = str(offset)
        if status == 200:
            if length is None:
                more["Upload-Defer-Length"] = "1"
            else:
                more["Upload-Length"] = str(length)
        if len(data) == length and not part and self.lie != "nameless":
            if data not in self.files:
                self.files.append(data)
            more["Stored-As"] = f"{self.files.index(data) + 1}.bin"
        text = {409: "上传失败: conflict no\n", 413: "上传失败: too-large no\n"}.get(status)
        if status in (200, 201):
            text = ""
        return _response(status, text, tus=True, head=status == 200, **more)


def _digest(data: bytes, kind: str) -> str:
    digest = TusSender.checksum(data, kind.replace("-", "")).partition(" ")[2]
    return f"{kind}=:{digest}:"


def _dechunked(data: bytes) -> bytes:
    body = b""
    while data:
        line, _, rest = data.partition(b"\r\n")
        size = int(line, 16)
        if not size:
            break
        body, data = body + rest[:size], rest[size + 2 :]
    return body


def _response(
    status: int, text: str | None, *, tus: bool = False, head: bool = False, **more: Any
) -> bytes:
    lines = [f"HTTP/1.1 {status} Something", "Date: now"]
    if tus:
        lines.append("Tus-Resumable: 1.0.0")
    body = (text or "").encode()
    if status != 204:
        lines += [f"Content-Length: {len(body)}", "Content-Type: text/plain; charset=utf-8"]
    lines += [f"{name}: {value}" for name, value in more.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if head else body)
