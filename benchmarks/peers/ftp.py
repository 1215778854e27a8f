"""Peers that take uploads by FTP: large ones only, a login each is not what they are for."""

from __future__ import annotations

from ..build import Toolbox, command
from .base import Peer, Place, module, user

VSFTPD = """
listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
no_anon_password=YES
ftp_username={user}
anon_root={directory}
allow_writeable_chroot=YES
write_enable=YES
anon_upload_enable=YES
anon_umask=022
secure_chroot_dir={scratch}/empty
pasv_address=127.0.0.1
"""


class Vsftpd(Peer):
    """vsftpd, anonymous uploads."""

    name = "vsftpd"
    label = "vsftpd"
    protocol = "ftp"
    kinds = frozenset({"large", "large4"})

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        (place.scratch / "empty").mkdir(exist_ok=True)
        config = place.scratch / "vsftpd.conf"
        config.write_text(
            VSFTPD.format(
                user=user(), scratch=place.scratch, directory=place.directory, port=place.port
            ).lstrip()
        )
        return [command("vsftpd"), str(config)]


class Pyftpdlib(Peer):
    """pyftpdlib as its command line starts it."""

    name = "pyftpdlib"
    label = "pyftpdlib"
    protocol = "ftp"
    kinds = frozenset({"large", "large4"})

    def command(self, tools: Toolbox, place: Place) -> list[str]:
        return [
            *module("pyftpdlib"), "-i", "127.0.0.1", "-p", str(place.port), "-w",
            "-d", str(place.directory),
        ]  # fmt: skip
