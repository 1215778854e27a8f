"""Tells twistd of ``upload``."""

from twisted.application.service import ServiceMaker


class _Upload(ServiceMaker):
    """Its module is imported when somebody wants it, like that of any other."""

    @property
    def options(self) -> object:
        from twisted_upload.core.garbage import Importing  # noqa: PLC0415 - see above

        with Importing():
            return super().options


upload = _Upload(
    "twisted-upload",
    "twisted_upload.daemon.tap",
    "Take in files over TCP and answer when they are safely kept.",
    "upload",
)
