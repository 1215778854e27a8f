"""
What the pages say about object stores, tried.
"""

from __future__ import annotations

import http.client
import inspect
import json
import re
from pathlib import Path

import botocore.session
import pytest
from botocore.validate import ParamValidator

from tests.engines.engine import Engine
from tests.support.daemon import Daemon, twistd, wait_until
from tests.support.forwarding import open_forwarding
from tests.support.hook_markers import waiting
from tests.support.pages import block, page, shell
from twisted_upload.hooks.folders import FORWARD
from twisted_upload.hooks.runner import LOOK_INTERVAL
from twisted_upload.stores.s3 import s3_bucket
from twisted_upload.stores.s3.errors import Rejected
from twisted_upload.stores.s3.forward import ATTEMPTS

GUIDE = "docs/guide/object-store.md"
SERVICE_FOLDER = "/var/lib/twisted-upload"


def test_forward_again(tmp_path: Path) -> None:
    """After the command that moves markers back, files are forwarded without waiting an hour."""
    with open_forwarding(tmp_path) as forwarding:
        forwarding.start()
        forwarding.bucket.fail("put", Rejected("no"), times=ATTEMPTS)
        name = forwarding.store()
        while not forwarding.rejected:
            forwarding.pass_time(LOOK_INTERVAL)
        command = block("docs/operations/runbook.md", "forward-again")
        shell(command.replace(SERVICE_FOLDER, str(tmp_path)), tmp_path)
        forwarding.pass_time(LOOK_INTERVAL)
        assert forwarding.objects == {name: b"hello"}
        assert (forwarding.waiting, forwarding.rejected) == ([], [])


def environment_of(engine: Engine) -> str:
    """Return the documented variables, as commands, with the values of an engine."""
    text = block(GUIDE, "access")
    for name, value in engine.environment().items():
        if name in text:
            text = re.sub(rf"{name}=\S+", f"{name}={value}", text)
    assert "example" not in text
    return text


@pytest.mark.parametrize("marker", ["check", "store", "forward"])
def test_commands(tmp_path: Path, seaweedfs: Engine, marker: str) -> None:
    """With the documented variables, each command is valid, and --check finds no error."""
    place = seaweedfs.place()
    command = block(GUIDE, marker).replace("twistd ", f"{twistd()} ").strip()
    command = command.replace("s3://uploads/inbox", place.url).removesuffix(" --check")
    printed = shell(f"{environment_of(seaweedfs)}\n{command} --check", tmp_path)
    assert f"{place.url}: multipart upload begun and aborted in " in printed


def test_details(tmp_path: Path, seaweedfs: Engine) -> None:
    """The documented metadata is what an object has, and no other."""
    place = seaweedfs.place()
    options = f"--forward={place.url}", "--node=one", "--http=tcp:0:interface=127.0.0.1"
    with Daemon(tmp_path, *options, environment=seaweedfs.environment()) as daemon:
        host, port = daemon.address
        connection = http.client.HTTPConnection(host, port, timeout=20)
        connection.request("PUT", "/photo.jpg", b"hello", {"Content-Type": "image/jpeg"})
        assert connection.getresponse().status == 201
        connection.close()
        wait_until(lambda: not waiting(daemon.directory, FORWARD), "the file to be forwarded")
    ((key, size),) = place.witness.objects(place.prefix).items()
    fields = place.witness.head(key) or {}
    documented = {*re.findall(r"`(x-amz-meta-[a-z0-9-]+)`", page(GUIDE))}
    there = {name for name in fields if name.startswith("x-amz-meta-")}
    assert there == documented - {"x-amz-meta-label", "x-amz-meta-folder"}
    assert (size, fields["content-type"]) == (5, "image/jpeg")
    assert fields["x-amz-meta-original-name"] == "photo.jpg"


# What AWS asks for, by the operation of botocore.
ACTIONS = {
    "put_object": {"s3:PutObject"},
    "create_multipart_upload": {"s3:PutObject"},
    "upload_part": {"s3:PutObject"},
    "complete_multipart_upload": {"s3:PutObject"},
    "abort_multipart_upload": {"s3:AbortMultipartUpload"},
    "put_object_tagging": {"s3:PutObjectTagging"},
    "head_object": {"s3:GetObject", "s3:ListBucket"},
    "delete_object": {"s3:DeleteObject"},
    "list_multipart_uploads": {"s3:ListBucketMultipartUploads"},
}


def test_policy() -> None:
    """The documented permissions are those for all that the daemon does, and no others."""
    policy = json.loads(block(GUIDE, "policy"))
    documented = {action for it in policy["Statement"] for action in it["Action"]}
    source = inspect.getsource(s3_bucket)
    words = r'"([a-z]+(?:_[a-z]+)*_(?:object|uploads?|part|tagging))"'
    called = {*re.findall(words, source)} - {"put_part"}  # the name of a step
    assert called <= {*ACTIONS}
    assert {"head_object", "upload_part"} <= called
    assert documented == set().union(*(ACTIONS[it] for it in {*called, "put_object"}))


def test_lifecycle() -> None:
    """The documented rule is one that the API of S3 has."""
    rules = json.loads(block(GUIDE, "lifecycle"))
    model = botocore.session.Session().get_service_model("s3")
    shape = model.operation_model("PutBucketLifecycleConfiguration").input_shape
    assert shape is not None
    request = {"Bucket": "uploads", "LifecycleConfiguration": rules}
    report = ParamValidator().validate(request, shape)
    assert not report.has_errors(), report.generate_report()
