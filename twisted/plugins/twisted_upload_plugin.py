"""Tells twistd of ``upload``."""

from twisted.application.service import ServiceMaker

upload = ServiceMaker(
    "twisted-upload",
    "twisted_upload.tap",
    "Take in files over TCP and answer when they are safely kept.",
    "upload",
)
