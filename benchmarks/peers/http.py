"""Peers that receive uploads by HTTP."""

from __future__ import annotations

import shutil

from ..build import HERE, Toolbox, command, run
from .base import Peer, Place, known_user, module, needed, script

NGINX = """
daemon off;
user {user};
worker_processes auto;
pid {scratch}/nginx.pid;
error_log stderr;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    client_max_body_size 0;
    keepalive_requests 1000000000;
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


class Uvicorn(Peer):
    """uvicorn with httptools, and a small ASGI application."""

    name = "uvicorn"
    label = "uvicorn PUT"
    protocol = "put"
    kinds = frozenset({"http"})

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        needed("uvicorn", "httptools")
        return [*script("uvicorn_put"), str(place.port), str(place.directory)]


class Aiohttp(Peer):
    """aiohttp, with a small application."""

    name = "aiohttp"
    label = "aiohttp PUT"
    protocol = "put"
    kinds = frozenset({"http"})

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        needed("aiohttp")
        return [*script("aiohttp_put"), str(place.port), str(place.directory)]


class TusNode(Peer):
    """@tus/server with its file store, under Node; npm installs it into the run's directory."""

    name = "tus-node"
    label = "@tus/server"
    protocol = "tus"
    path = "/files"
    kinds = frozenset({"tus"})

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        folder = tools.directory / "node"
        if not (folder / "node_modules").exists():
            npm = command("npm")
            shutil.copytree(HERE / "node", folder, dirs_exist_ok=True)
            options = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
            run([npm, "install", "--prefix", str(folder), *options])
        program = str(folder / "tus_server.js")
        return [command("node"), program, str(place.port), str(place.directory)]


class Tuspyserver(Peer):
    """tuspyserver, under uvicorn."""

    name = "tuspyserver"
    label = "tuspyserver"
    protocol = "tus"
    path = "/files"
    kinds = frozenset({"tus"})

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        needed("tuspyserver", "uvicorn", "httptools")
        return [*script("tuspyserver_app"), str(place.port), str(place.directory)]


class ResumableUpload(Peer):
    """resumable-upload, as its command line starts it; each PATCH is in its memory."""

    name = "resumable-upload"
    label = "resumable-upload"
    protocol = "tus"
    path = "/files"
    kinds = frozenset({"tus"})

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        return [
            *module("resumable_upload"), "serve", "--host", "127.0.0.1",
            "--port", str(place.port), "--upload-dir", str(place.directory),
            "--db-path", str(place.scratch / "uploads.db"), "--log-level", "ERROR",
        ]  # fmt: skip
