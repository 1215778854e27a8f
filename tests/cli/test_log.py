"""
``twisted-upload log`` as a process.
"""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.daemon import Daemon, deadly, unprivileged
from tests.support.programs import PROGRAM, run_program
from twisted_upload.cli.streams import ExitStatus

TIME = "2026-11-22T12:43:24.291Z"

STORED = {
    "time": TIME,
    "event": "stored",
    "peer": "192.0.2.7:50123",
    "size": 20971520,
    "seconds": 0.061,
    "name": "1795328130123.jpg",
}
REFUSED = {
    "time": "2026-11-22T12:44:00.000Z",
    "event": "refused",
    "listener": "scanner",
    "peer": "[2001:db8::7]:50123",
    "size": 7,
    "seconds": 1.0,
    "code": "too-large",
}
ABORTED = {**STORED, "event": "aborted", "name": None}
GAP = {"time": TIME, "event": "gap", "lines": 3}


def log(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Print a journal."""
    done = run_program("log", path, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return done


def events(path: Path, *arguments: str) -> list[str]:
    """Return the events that are printed of a journal."""
    lines = log(path, "--json", *arguments).stdout.splitlines()
    return [json.loads(line)["event"] for line in lines]


def write(path: Path, *records: Mapping[str, Any]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal."""
    return write(tmp_path / "journal", STORED, REFUSED, ABORTED)


def test_table(path: Path) -> None:
    """A line for each upload, and the totals."""
    head, stored_line, refused, aborted_line, sums = log(path).stdout.splitlines()
    assert head.split() == ["TIME", "OUTCOME", "SIZE", "TOOK", "RATE", "PEER", "FILE", "OR", "CODE"]
    assert stored_line.split("  ")[0] == TIME
    for said in ("stored", "20.0 MiB", "61 ms", "327.9 MiB/s", "192.0.2.7:50123", STORED["name"]):
        assert str(said) in stored_line
    assert refused.endswith("[2001:db8::7]:50123    too-large  through scanner")
    assert aborted_line.endswith("192.0.2.7:50123")
    assert {
        line.index(word)
        for line, word in ((head, "OUTCOME"), (stored_line, "stored"), (aborted_line, "aborted"))
    } == {head.index("OUTCOME")}
    assert sums == "1 stored, 20.0 MiB (20971520 bytes); 1 refused; 1 aborted"


def test_notes(tmp_path: Path) -> None:
    """Unusual facts about an upload are shown, and so are missing lines."""
    path = write(
        tmp_path / "journal",
        {**STORED, "ended_by_idle": True},
        {**STORED, "answered": False},
        {**STORED, "original_name": 'a" b.jpg', "content_type": "image/jpeg", "label": "A"},
        GAP,
    )
    _, silent, unheard, named, gap, sums = log(path).stdout.splitlines()
    assert silent.endswith("  ended by idle timeout")
    assert unheard.endswith("  sender disconnected before the answer")
    assert named.endswith('  1795328130123.jpg  original name "a\\" b.jpg"  label "A"')
    for wanted in "--original-name=*.jpg", "--label=A":
        assert log(path, wanted).stdout.splitlines()[1] == named
    assert gap == f"{TIME}  3 lines missing"
    assert sums.endswith("; 0 aborted; 3 lines missing")


def test_json(path: Path) -> None:
    """--json prints a line for each upload, as in the journal, and nothing else."""
    lines = log(path, "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [STORED, REFUSED, ABORTED]


def test_filters(path: Path) -> None:
    """Filters by time, sender, outcome, code and listener; a repeated option matches any value."""
    assert events(path, "--since", "2026-11-22T12:43:30") == ["refused"]
    assert events(path, "--until", "2026-11-22T12:43:30") == ["stored", "aborted"]
    assert events(path, "--since", "1h") in ([], ["stored", "refused", "aborted"])
    assert events(path, "--since=2026-11-22", "--until=2026-11-23") == [
        "stored",
        "refused",
        "aborted",
    ]
    assert events(path, "--peer", "192.0.2.0/24") == ["stored", "aborted"]
    assert events(path, "--peer", "2001:db8::7", "--peer", "unix") == ["refused"]
    assert events(path, "--outcome", "aborted", "--outcome", "stored") == ["stored", "aborted"]
    assert events(path, "--code", "too-large") == ["refused"]
    assert events(path, "--code", "empty") == []
    assert events(path, "--listener", "scanner") == ["refused"]
    assert log(path, "--code=empty").stdout == "0 stored, 0 B (0 bytes); 0 refused; 0 aborted\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], "FILE"),
        (["journal", "other"], "other"),
        (["journal", "--since=tomorrow"], "--since"),
        (["journal", "--peer=server"], "--peer"),
        (["journal", "--outcome=gone"], "--outcome"),
        (["journal", "--code=nonsense"], "--code"),
        (["journal", "--nonsense"], "--nonsense"),
    ],
)
def test_wrong_usage(arguments: list[str], named: str) -> None:
    """Wrong usage is one line on standard error that names the mistake."""
    done = run_program("log", *arguments)
    assert done.returncode == ExitStatus.USAGE
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("twisted-upload: ")
    assert named in line


def test_no_journal(tmp_path: Path) -> None:
    """An unreadable journal gives one line."""
    missing, folder = run_program("log", tmp_path / "missing"), run_program("log", tmp_path)
    for done, reason in ((missing, "No such file or directory"), (folder, "Is a directory")):
        assert done.returncode == ExitStatus.SOURCE
        assert done.stdout == ""
        assert done.stderr.startswith("twisted-upload: /")
        assert done.stderr.endswith(f": cannot be read: {reason}\n")


def test_no_records(path: Path) -> None:
    """Invalid lines are counted on standard error; the rest is printed."""
    with path.open("a") as file:
        file.write("nonsense\n\n{\n")
    done = run_program("log", path)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 5
    assert done.stderr == "twisted-upload: skipped 3 invalid lines\n"


def test_forged_journal(tmp_path: Path) -> None:
    """A forged journal cannot send control codes to a terminal."""
    evil = "\x1b]0;owned\x07\x9b31m\u202e\n\ud800"
    fields = ("name", "peer", "event", "listener", "code", "unknown")
    path = write(tmp_path / "journal", {**STORED, **dict.fromkeys(fields, evil)})
    for done in (log(path), log(path, "--json")):
        assert done.stdout.replace("\n", "").isprintable()
        assert done.stdout.count("\n") <= 3
    seen = on_terminal(path)
    assert "\x1b]" not in seen
    assert "\x07" not in seen
    write(path, {**STORED, "time": evil})
    assert evil not in run_program("log", path).stdout


def test_no_markup(tmp_path: Path) -> None:
    """Names are shown literally: emoji codes and markup are not interpreted."""
    name = ":bomb:[bold]x[/bold].txt"
    path = write(tmp_path / "journal", {**STORED, "name": name, "event": "refused"})
    assert name in on_terminal(path)
    assert name in log(path).stdout


def test_bad_older_files(path: Path) -> None:
    """Unreadable older files are skipped and reported, with status 5; the rest is printed."""
    Path(f"{path}.3.gz").write_bytes(b"no gzip")
    os.mkfifo(f"{path}.2")
    os.mkdir(f"{path}.1")
    done = run_program("log", path)
    assert done.returncode == ExitStatus.SOURCE
    assert len(done.stdout.splitlines()) == 5
    skipped = "skipped the part that could not be read"
    assert done.stderr.splitlines() == [
        f"twisted-upload: {path}.2: it is not a regular file: {skipped}",
        f"twisted-upload: {path}.1: Is a directory: {skipped}",
        f"twisted-upload: {path}.3.gz: it is truncated, or not a gzip file: {skipped}",
    ]


def test_named_pipe(tmp_path: Path) -> None:
    """A named pipe as journal is an error; the command does not wait for it."""
    os.mkfifo(tmp_path / "pipe")
    done = run_program("log", tmp_path / "pipe")
    assert (done.returncode, done.stdout) == (ExitStatus.SOURCE, "")
    assert done.stderr == (
        f"twisted-upload: {tmp_path}/pipe: cannot be read: it is not a regular file\n"
    )


def test_one_bad_line(path: Path) -> None:
    """A line with a size of null invalidates only itself."""
    with path.open("a") as file:
        file.write(json.dumps({**STORED, "size": None}) + "\n")
    done = run_program("log", path)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 5)
    assert done.stderr == "twisted-upload: skipped 1 invalid line\n"


def test_name(path: Path) -> None:
    """--name shows the uploads of files with matching names."""
    assert "192.0.2.7:50123" in log(path, "--name", "1795328130123.jpg").stdout
    assert events(path, "--name", "*.jpg", "--name=x") == ["stored"]
    assert events(path, "--name", "*.png") == []


def test_nothing_matches(path: Path) -> None:
    """Without an upload to show, no header is printed."""
    with path.open("a") as file:
        file.write(json.dumps(GAP) + "\n")
    assert (
        log(path, "--since=yesterday").stdout == "0 stored, 0 B (0 bytes); 0 refused; 0 aborted\n"
    )
    gap, sums = log(path, "--name=x").stdout.splitlines()
    assert gap.endswith("3 lines missing")
    assert sums.startswith("0 stored")


def test_large_journal(tmp_path: Path) -> None:
    """Memory does not grow with the journal."""
    path = tmp_path / "journal"
    line = json.dumps(STORED) + "\n"
    with path.open("w") as file:
        for _ in range(100):
            file.write(line * 1000)
    limited = ["sh", "-c", 'ulimit -v 400000; exec "$0" "$@"']
    done = subprocess.run(
        [*limited, *PROGRAM, "log", path], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.count("\n") == 100_002
    assert done.stdout.splitlines()[-1].startswith("100000 stored, 1.9 TiB (2097152000000 bytes);")


def test_endless_line(path: Path) -> None:
    """Memory does not grow with the length of a line: one longer than any record is skipped."""
    with path.open("r+b") as file:
        file.seek(300_000_000)
        file.write(b"\n" + json.dumps(STORED).encode() + b"\n")
    limited = ["sh", "-c", 'ulimit -v 400000; exec "$0" "$@"']
    done = subprocess.run(
        [*limited, *PROGRAM, "log", path], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout.splitlines()[-1].startswith("2 stored, ")
    assert done.stderr == "twisted-upload: skipped 1 invalid line\n"


def test_unreadable_older_file(path: Path) -> None:
    """An older file without read permission is skipped."""
    old = Path(f"{path}.1")
    old.write_bytes(b"secret")
    old.chmod(0)
    done = subprocess.run(
        [*unprivileged(), *PROGRAM, "log", path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, len(done.stdout.splitlines())) == (ExitStatus.SOURCE, 5)
    assert done.stderr.startswith(f"twisted-upload: {old}: Permission denied: ")


def test_closed_pipe(path: Path) -> None:
    """``| head`` causes neither an error nor a traceback."""
    path.write_text(path.read_text() * 20_000)
    done = subprocess.run(
        ["sh", "-c", '"$0" "$@" | head -1', *PROGRAM, "log", path],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stdout.startswith("TIME ")
    assert done.stderr == ""


def test_full_disk(path: Path) -> None:
    """A write error on standard output is reported."""
    with open("/dev/full", "w") as full:
        done = run_program("log", path, stdout=full)
    assert done.returncode == ExitStatus.FAILED
    assert done.stderr == "twisted-upload: standard output: No space left on device\n"


def test_follow(path: Path) -> None:
    """--follow also prints what is appended, until Ctrl-C; also after a rotation."""
    with subprocess.Popen(
        [*deadly(), *PROGRAM, "log", "-f", "--json", "--outcome=stored", path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as following:
        assert following.stdout is not None
        assert following.stderr is not None
        assert json.loads(following.stdout.readline()) == STORED
        with path.open("a") as file:
            file.write(json.dumps({**STORED, "name": "2"}) + "\n")
        assert json.loads(following.stdout.readline())["name"] == "2"
        path.rename(f"{path}.1")
        write(path, {**STORED, "name": "3"})
        assert json.loads(following.stdout.readline())["name"] == "3"
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == ExitStatus.INTERRUPTED
        assert following.stderr.read() == ""


def on_terminal(path: Path, **environment: str) -> str:
    """Return the output on a terminal."""
    ours, theirs = pty.openpty()
    done = run_program("log", path, stdout=theirs, env={"TERM": "xterm-256color", **environment})
    os.close(theirs)
    seen = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.stderr == ""
    return seen


def test_colours(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal, uploads that were not stored are coloured, unless colours are disabled."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    seen = on_terminal(path).split("\r\n")
    assert "\x1b[33m2026-11-22T12:44" in seen[2]
    assert "\x1b[31m" in seen[3]
    assert "\x1b" not in seen[1]
    assert "\x1b[3" not in on_terminal(path, NO_COLOR="1")


def test_file_called_log(tmp_path: Path) -> None:
    """A file called log can be sent as ./log, or after an option."""
    (tmp_path / "log").write_bytes(b"content")
    with Daemon(tmp_path) as daemon:
        to = ["--to", "{}:{}".format(*daemon.address)]
        for arguments in (["./log", *to], [*to, "log"], ["--", "log"]):
            env = {"TWISTED_UPLOAD_TO": to[1]}
            done = run_program(*arguments, cwd=tmp_path, env=env)
            assert (done.returncode, done.stderr) == (0, "")
        assert [file.read_bytes() for file in daemon.files()] == [b"content"] * 3


def test_help() -> None:
    """Each of the two commands has a help text, and the first one's mentions the second."""
    first, second = run_program("--help"), run_program("log", "--help")
    assert "twisted-upload log --help" in first.stdout
    assert second.stdout.startswith("Usage: twisted-upload log [OPTIONS] FILE\n")
    options = (
        "--since --until --peer --outcome --code --name --listener --json -f today yesterday 08:00"
    )
    for option in options.split():
        assert option in second.stdout


def completed(folder: Path, *words: str) -> list[str]:
    """Return what a shell offers for the last of these words."""
    env = {
        "_TWISTED_UPLOAD_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("twisted-upload", *words)),
        "COMP_CWORD": str(len(words)),
    }
    main = "from twisted_upload.cli.entry import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", main],
        env={**os.environ, **env},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


def test_completion(tmp_path: Path) -> None:
    """Shells complete both commands and the word that selects between them."""
    (tmp_path / "logo.png").touch()
    assert completed(tmp_path, "lo") == ["plain,log", "plain,logo.png"]
    assert completed(tmp_path, "log") == ["plain,log", "plain,logo.png"]
    assert completed(tmp_path, "ph") == ["file,ph"]
    assert completed(tmp_path, "a", "lo") == ["file,lo"]
    assert completed(tmp_path, "--to", "server", "lo") == ["file,lo"]
    assert completed(tmp_path, "--retry-d") == ["plain,--retry-delay"]
    assert completed(tmp_path, "log", "--ou") == ["plain,--outcome"]
    assert completed(tmp_path, "log", "--outcome", "a") == ["plain,aborted"]
    assert completed(tmp_path, "log", "--code", "too") == ["plain,too-large"]
    assert completed(tmp_path, "log", "jour") == ["file,jour"]
