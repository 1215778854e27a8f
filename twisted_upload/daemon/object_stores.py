"""
Build what a daemon needs for an object store: ``--store`` and ``--forward``.

A daemon with neither does not import this module, nor what it imports.  Nothing here makes
a connection or a thread: twistd may fork after it.
"""

from __future__ import annotations

from twisted_upload.config.listener import Listener, Setting
from twisted_upload.core.object_url import ObjectURL
from twisted_upload.errors import WrongConfiguration
from twisted_upload.stores.s3.access import is_installed
from twisted_upload.stores.s3.attempts import Attempts, NoCounts
from twisted_upload.stores.s3.s3_bucket import S3Bucket

__all__ = ["object_url_of", "tested_bucket"]


def object_url_of(listener: Listener) -> tuple[Setting, ObjectURL]:
    """
    Return where the files of a listener go, and the setting that says so.

    :raises WrongConfiguration: what that needs is not installed.
    """
    setting = listener.by_name["store" if listener.settings.store else "forward"]
    if not is_installed():
        raise WrongConfiguration(f"{setting.source}: pip install 'twisted-upload[s3]'")
    url: ObjectURL = setting.value
    return setting, url


def tested_bucket(url: ObjectURL) -> S3Bucket:
    """Return a bucket that repeats nothing."""
    return S3Bucket(url, attempts=Attempts(NoCounts(), lambda _: True))
