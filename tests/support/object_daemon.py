"""
The real daemon with a real object store.
"""

from __future__ import annotations

import http.client
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.engines.engine import Engine, Place
from tests.support.daemon import PATIENCE, Daemon, wait_until
from tests.support.scraping import Scraper

__all__ = ["Answer", "ObjectDaemon"]


class Answer(NamedTuple):
    """
    A response.

    :ivar fields: by lower-case name.
    """

    status: int
    fields: Mapping[str, str]
    body: str


class ObjectDaemon(Daemon):
    """
    A daemon whose files go to an object store: with ports for raw TCP, HTTP and metrics.

    :param place: where its files go.
    :param options: more options.
    :param option: ``store`` or ``forward``.
    :param endpoint: another address of the object store.
    :param general: options of ``twistd``.
    """

    def __init__(
        self,
        folder: Path,
        engine: Engine,
        place: Place,
        *options: str,
        option: str = "store",
        endpoint: str = "",
        general: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            folder,
            *(f"--{option}={place.url}", "--node=one", "--port=0", "--http=0"),
            *("--interface=127.0.0.1", "--metrics=0", *options),
            general=general,
            environment={**engine.environment(endpoint), **(environment or {})},
        )
        self.place = place

    @property
    def http_port(self) -> int:
        """The port for HTTP."""
        _, (_, address) = self.addresses
        assert isinstance(address, tuple)
        return address[1]

    @property
    def scraper(self) -> Scraper:
        """A client of its metrics."""
        return Scraper(self)

    def ask(
        self, method: str, path: str, body: bytes = b"", fields: Mapping[str, str] | None = None
    ) -> Answer:
        """Make an HTTP request, and return the response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, dict(fields or {}))
            answer = connection.getresponse()
            found = {name.lower(): it for name, it in answer.getheaders()}
            return Answer(answer.status, found, answer.read().decode())
        finally:
            connection.close()

    def create_and_send(self, content: bytes) -> Answer:
        """Create a resumable upload, and send all of it; return the last response."""
        tus = {"Tus-Resumable": "1.0.0"}
        length = {"Upload-Length": f"{len(content)}"}
        created = self.ask("POST", "/files/", b"", {**tus, **length})
        assert created.status == 201, created
        path = created.fields["location"].removeprefix(f"http://127.0.0.1:{self.http_port}")
        piece = {"Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
        return self.ask("PATCH", path, content, {**tus, **piece})

    def objects(self) -> dict[str, int]:
        """Return the sizes of all objects, by name."""
        found = self.place.witness.objects(self.place.prefix)
        return {key.removeprefix(self.place.prefix): size for key, size in found.items()}

    def content(self, name: str) -> bytes:
        """Return the content of an object."""
        return self.place.witness.get(self.place.prefix + name)

    def wait_for_objects(self, number: int) -> dict[str, int]:
        """Wait until there are this many objects."""
        wait_until(lambda: len(self.objects()) >= number, f"{number} objects")
        return self.objects()
