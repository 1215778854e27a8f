"""Peers that receive uploads by FTP: large ones only, because FTP needs a login for each."""

from __future__ import annotations

from ..build import Toolbox, command
from .base import Peer, Place, known_user, module

VSFTPD = """
listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
no_anon_password=YES
ftp_username={user}
anon_root={parent}
write_enable=YES
anon_upload_enable=YES
anon_umask=022
secure_chroot_dir={scratch}/empty
pasv_address=127.0.0.1
"""


class Vsftpd(Peer):
    """vsftpd, anonymous uploads; its root must not be writable, so the inbox is below it."""

    name = "vsftpd"
    path = "/vsftpd"
    label = "vsftpd"
    protocol = "ftp"
    kinds = frozenset({"large", "large4"})

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        (place.scratch / "empty").mkdir(exist_ok=True)
        config = place.scratch / "vsftpd.conf"
        config.write_text(
            VSFTPD.format(
                user=known_user("ftp", "nobody"),
                scratch=place.scratch,
                parent=place.directory.parent,
                port=place.port,
            ).lstrip()
        )
        return [command("vsftpd"), str(config)]


class Pyftpdlib(Peer):
    """pyftpdlib, as its command line starts it."""

    name = "pyftpdlib"
    label = "pyftpdlib"
    protocol = "ftp"
    kinds = frozenset({"large", "large4"})

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        return [
            *module("pyftpdlib"), "-i", "127.0.0.1", "-p", str(place.port), "-w",
            "-d", str(place.directory),
        ]  # fmt: skip
