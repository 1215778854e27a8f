"""Makes ``upload`` available to twistd."""

from twisted.application.service import ServiceMaker


class _Upload(ServiceMaker):
    """Imports its module only when it is used, as any plugin does."""

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
