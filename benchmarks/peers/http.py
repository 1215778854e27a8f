"""Peers that receive uploads by HTTP."""

from __future__ import annotations

from ..build import Toolbox, command
from .base import Peer, Place, known_user, module

NGINX = """
daemon off;
user {user};
worker_processes auto;
pid {scratch}/nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {directory}/.incoming;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        location / {{ root {directory}; dav_methods PUT; }}
    }}
}}
"""


class Nginx(Peer):
    """nginx with its WebDAV module."""

    name = "nginx"
    label = "nginx PUT"
    protocol = "put"

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        config = place.scratch / "nginx.conf"
        config.write_text(
            NGINX.format(
                user=known_user(), scratch=place.scratch, directory=place.directory, port=place.port
            )
        )
        return [command("nginx"), "-e", "stderr", "-p", str(place.scratch), "-c", str(config)]


class Copyparty(Peer):
    """copyparty, by PUT."""

    name = "copyparty"
    label = "copyparty PUT"
    protocol = "put"
    share = 0.1

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        return [
            *module("copyparty"), "-q", "--wram", "-i", "127.0.0.1", "-p", str(place.port),
            "-v", f"{place.directory}::rw",
        ]  # fmt: skip


class Uploadserver(Peer):
    """The uploadserver package: http.server with a form."""

    name = "uploadserver"
    label = "uploadserver"
    protocol = "form"
    path = "/upload"
    share = 0.05
    parallel = 4
    # Its accept queue holds five; a client that finds it full retries after seconds.

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        return [
            *module("uploadserver"), str(place.port), "--bind", "127.0.0.1",
            "--directory", str(place.directory),
        ]  # fmt: skip
