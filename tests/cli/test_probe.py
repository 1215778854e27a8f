"""
``python -m twisted_upload.cli.probe``.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.support.frontends import open_frontend
from tests.support.waiting import in_thread
from twisted_upload.cli.probe import main, probe


async def test_healthy() -> None:
    """A daemon that answers is healthy; the probe is neither stored nor logged."""
    async with open_frontend() as frontend:
        assert await in_thread(probe, *frontend.address) is None
        assert frontend.stored == []
        assert frontend.log.kinds == []


async def test_stopping() -> None:
    """A daemon that is stopping is not healthy."""
    async with open_frontend() as frontend:
        frontend.factory.drain()
        wrong = await in_thread(probe, *frontend.address)
        assert wrong == f"127.0.0.1:{frontend.address[1]}: shutting-down"


@contextlib.contextmanager
def answering(answer: bytes | None) -> Iterator[int]:
    """A port whose server sends an answer, or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.recv(1)
                peer.sendall(answer or b"")

        thread = threading.Thread(target=serve)
        if answer is not None:
            thread.start()
        yield listening.getsockname()[1]
        if answer is not None:
            thread.join()


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        ("上传失败: empty nothing came\n", None),
        ("上传失败: busy later\n", None),
        ("上传失败: not-allowed no\n", None),
        ("上传成功", None),
        ("上传失败: store-error the disk\n", "store-error"),
        ("上传失败: shutting-down later\n", "shutting-down"),
        ("", "no answer"),
        (None, "timed out"),
    ],
)
def test_answers(answer: str | None, wrong: str | None) -> None:
    """Any answer counts as healthy, except those of a stopping daemon and of a failed store."""
    with answering(None if answer is None else answer.encode()) as port:
        result = probe("127.0.0.1", port, 5.0 if answer is not None else 0.05)
        assert result == (None if wrong is None else f"127.0.0.1:{port}: {wrong}")


def test_closed_port(capsys: pytest.CaptureFixture[str]) -> None:
    """A closed port gives one line and exit status 1."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(SystemExit) as ended:
            main([f"127.0.0.1:{port}"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"127.0.0.1:{port}: Connection refused\n"


def test_command() -> None:
    """For a healthy daemon the command returns, so the exit status is 0."""
    with answering("上传失败: empty nothing came\n".encode()) as port:
        main([f"127.0.0.1:{port}"])


@pytest.mark.parametrize("arguments", [["nonsense"], [":1"], ["a:b"], ["a:1", "b:2"]])
def test_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """An invalid address gives exit status 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: ")
