"""
An object store that runs, how it is reached, and a place in it for one test.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from tests.engines.witness import Witness

__all__ = ["ACCESS_KEY", "BUCKET", "SECRET_KEY", "Engine", "Place"]

ACCESS_KEY = "ACCESSKEY0"
SECRET_KEY = "SECRETKEY0"
BUCKET = "uploads"


@dataclass(frozen=True)
class Place:
    """
    A prefix of a bucket that nothing else uses.

    :ivar bucket: the bucket.
    :ivar prefix: ends with a slash: the key of an object is the prefix and its name.
    :ivar witness: looks at what is there, without any code of the package.
    """

    bucket: str
    prefix: str
    witness: Witness

    @property
    def url(self) -> str:
        """Return it as options have it, such as ``s3://uploads/one``."""
        return f"s3://{self.bucket}/{self.prefix.rstrip('/')}"

    def clear(self) -> None:
        """Remove everything: an engine may keep it in memory."""
        for key in self.witness.objects(self.prefix):
            self.witness.remove(key)
        for key, identity in self.witness.pending(self.prefix):
            self.witness.request("DELETE", key, {"uploadId": identity})


@dataclass(frozen=True)
class Engine:
    """
    An object store that runs.

    :ivar name: such as ``seaweedfs``.
    :ivar endpoint: such as ``http://127.0.0.1:23380``.
    :ivar pid: the process that serves S3; shared engines are for nobody to stop.
    """

    name: str
    endpoint: str
    pid: int
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    region: str = "us-east-1"

    @property
    def port(self) -> int:
        """Return the TCP port, on 127.0.0.1."""
        return int(self.endpoint.rpartition(":")[2])

    def environment(self, endpoint: str = "") -> dict[str, str]:
        """
        Return the variables by which every S3 client finds it.

        :param endpoint: another address that leads to it, such as that of a `FaultProxy`.
        """
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            # Nothing of the user who runs the tests is used, and no other host is asked.
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def witness(self, bucket: str = BUCKET) -> Witness:
        """Return what looks at a bucket."""
        return Witness(self.port, bucket, self.access_key, self.secret_key, self.region)

    def place(self, bucket: str = BUCKET) -> Place:
        """Return a place that nothing else uses; its bucket is created."""
        witness = self.witness(bucket)
        witness.create()
        return Place(bucket, f"{secrets.token_hex(6)}/", witness)
