"""
What is printed on standard output and standard error.
"""

from __future__ import annotations

import io

import pytest

from twisted_upload.cli.display import Display
from twisted_upload.cli.items import Item, StdinSource, open_stdin
from twisted_upload.cli.results import Effort, Result
from twisted_upload.cli.streams import Output
from twisted_upload.interfaces import Receipt


def _shown(
    result: Result,
    *,
    answer: str | None = None,
    sha256: bool = False,
    as_json: bool = False,
    quiet: bool = False,
) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    item = Item(result.file, result.name, None, StdinSource(open_stdin))
    display = Display(
        Output(out),
        Output(err),
        items=[item],
        where="server",
        answer=answer,
        sha256=sha256,
        as_json=as_json,
        quiet=quiet,
    )
    display.began(result.index, item)
    display.progress(result.index, 5, 5)
    display.ended(result)
    display.close()
    return out.getvalue(), err.getvalue()


def _stored(name: str | None, sha256: str | None = "0" * 64) -> Result:
    receipt = Receipt(name, 5, sha256, "192.0.2.7:6666", 1.0, 2.0)
    return Result(0, "a.jpg", "a.jpg", "stored", None, receipt, None, Effort(1.0, 1), 0)


def test_stored() -> None:
    """A stored file is one line on standard output, with its name if the server told it."""
    assert _shown(_stored(None)) == ("a.jpg: stored\n", "")
    assert _shown(_stored("1.jpg")) == ("a.jpg: stored as 1.jpg\n", "")
    assert _shown(_stored("1\n.jpg")) == ("a.jpg: stored as 1\\n.jpg\n", "")
    assert _shown(_stored("1.jpg"), quiet=True) == ("", "")


def test_sha256() -> None:
    """The line has the SHA-256 if it was asked for."""
    assert _shown(_stored(None), sha256=True) == (f"a.jpg: stored, SHA-256 {'0' * 64}\n", "")
    assert _shown(_stored("1.jpg"), sha256=True) == (
        f"a.jpg: stored as 1.jpg, SHA-256 {'0' * 64}\n",
        "",
    )


def test_raw_answer() -> None:
    """The line repeats the server's answer on request."""
    answer = "上传成功"
    assert _shown(_stored(None, None), answer=answer) == ("a.jpg: 上传成功\n", "")
    assert _shown(_stored(None), answer=answer) == (f"a.jpg: 上传成功 {'0' * 64}\n", "")
    assert _shown(_stored("1.jpg"), answer=answer) == (
        f"a.jpg: 上传成功 1.jpg 5 {'0' * 64}\n",
        "",
    )


@pytest.mark.parametrize(
    ("outcome", "code", "line"),
    [
        ("refused", "busy", "refused: busy: why"),
        ("unknown", "no-answer", "may or may not be stored: why"),
        ("failed", "could-not-connect", "could not connect to server: why"),
        ("failed", "timed-out", "not stored: why"),
        ("failed", "connection-lost", "not stored: why"),
        ("failed", "changed", "not stored: why"),
        ("failed", "cannot-read", "why"),
    ],
)
@pytest.mark.parametrize("quiet", [False, True])
def test_failed(outcome: str, code: str, line: str, *, quiet: bool) -> None:
    """A failure is one line on standard error, with or without --quiet."""
    result = Result(0, "", "", outcome, code, None, "why", Effort(1.0, 1), 4)  # type: ignore[arg-type]
    assert _shown(result, quiet=quiet) == ("", f"twisted-upload: '': {line}\n")


def test_json_and_quiet() -> None:
    """With --json and --quiet, only the objects are printed."""
    result = Result(
        *(0, "a.jpg", "a.jpg", "refused", "busy", None, "why"), Effort(1.23456, 2, 7), 4
    )
    out, err = _shown(result, as_json=True, quiet=True)
    assert out == (
        '{"file": "a.jpg", "name": "a.jpg", "outcome": "refused", "code": "busy",'
        ' "stored_as": null, "size": null, "sha256": null, "seconds": 1.235, "attempts": 2,'
        ' "resumed_bytes": 7, "error": "why"}\n'
    )
    assert err == ""
    assert _shown(result, as_json=True)[1] != ""


def test_no_streams() -> None:
    """A process without standard output and standard error prints nothing and does not fail."""
    nowhere = Output(None)
    nowhere.line("lost")
    assert nowhere.error is None
    assert not nowhere.is_terminal
    assert not nowhere.is_same_terminal_as(nowhere)
