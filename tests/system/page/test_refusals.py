"""
What the page says if the server refuses a file, and who may use it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path

import pytest

from tests.support.box import MIB, Box, big_file, of_kind, rows, states
from tests.support.chromium import Chromium, Tab
from tests.support.daemon import wait_until
from twisted_upload.frontends.http.invitations import Invitation, InvitationKeys, new_nonce
from twisted_upload.frontends.http.tokens import token_line

KEY = bytes(range(32))
TOKEN = "tok_" + 43 * "t"

NOT_VALID = "This link or token is not valid, or has expired. Ask for a new one."


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A small file."""
    path = tmp_path / "a.txt"
    path.write_text("a")
    return path


@pytest.fixture
def locked(tmp_path: Path) -> list[str]:
    """Options of a daemon that asks for a token or an invitation."""
    for name, line in {"tokens": token_line("scanner", TOKEN), "keys": KEY.hex()}.items():
        (tmp_path / name).write_text(f"{line.strip()}\n")
        (tmp_path / name).chmod(0o600)
    return [f"--tokens={tmp_path}/tokens", f"--invitation-keys={tmp_path}/keys"]


def link(box: Box, *, label: str = "Alice", seconds: float = 3600, **limits: int) -> str:
    values = {"max_size": 0, "uploads": 0, **limits}
    invitation = Invitation(
        label, int(time.time() + seconds), nonce=new_nonce(os.urandom), **values
    )
    return f"{box.url}#token={InvitationKeys([KEY]).sign(invitation)}"


def stored(tab: Tab, path: Path) -> None:
    tab.choose(path)
    tab.wait(lambda: states(tab) == ["stored"], "a stored file")


def failed(tab: Tab, path: Path) -> str:
    """Choose a file, and return why it has failed."""
    tab.choose(path)
    tab.wait(lambda: states(tab)[0] == "failed", "a failed upload")
    return str(rows(tab)[0]["line"])


def test_too_large(chromium: Chromium, small: Path, tmp_path: Path) -> None:
    """The page knows the limit: what is larger fails at once, and nothing is sent."""
    with Box(tmp_path, "--max-size=1M") as box, chromium.tab() as tab:
        tab.open(box.url)
        tab.until("!document.querySelector('#terms').hidden")
        assert tab.text("#terms") == "up to 1.0 MiB per file"
        line = failed(tab, big_file(tmp_path, size=2 * MIB))
        assert line == "not stored: larger than 1.0 MiB, which is the most that this server accepts"
        assert rows(tab)[0]["buttons"] == ["Remove"]
        assert of_kind(tab, "POST") == []
        tab.choose(small)
        tab.wait(lambda: states(tab) == ["failed", "stored"], "a stored file")
        assert tab.text("#summary") == "1 of 2 stored, 1 failed"
        tab.click(".dismiss")
        assert tab.text("#summary") == "1 of 1 stored"
        assert tab.complaints == tab.failed_requests == []


def test_new_limit(chromium: Chromium, tmp_path: Path) -> None:
    """The server has the last word."""
    with Box(tmp_path, "--max-size=1M") as box, chromium.tab() as tab:
        tab.open(box.url)
        tab.until("!document.querySelector('#terms').hidden")
        tab.evaluate("terms = {}")
        line = failed(tab, big_file(tmp_path, size=2 * MIB))
        assert line == "not stored: larger than this server accepts"


def test_no_space(chromium: Chromium, small: Path, tmp_path: Path) -> None:
    """A file for which there is no space waits until there is."""
    with Box(tmp_path, "--reserve=99%") as box, chromium.tab() as tab:
        tab.open(box.url)
        tab.choose(small)
        text = "the server has no space left; trying again in "
        tab.wait(lambda: rows(tab)[0]["line"].startswith(text), "a broken upload")
        assert rows(tab)[0]["buttons"] == ["Try again", "Pause", "Cancel"]
        assert box.stored() == {}


def test_busy(chromium: Chromium, tmp_path: Path) -> None:
    """If the server is busy, files wait, and are stored all the same."""
    paths = [tmp_path / f"{number}.txt" for number in range(3)]
    for path in paths:
        path.write_text(path.name)
    with Box(tmp_path, "--max-connections=4") as box, chromium.tab() as tab:
        tab.open(box.url)
        tab.until("!locked")
        box.kill()  # so that the page has no connection any more
        box.start()
        with contextlib.ExitStack() as others:
            for _ in range(4):
                other = socket.create_connection(("127.0.0.1", box.port))
                others.enter_context(other)
                other.sendall(b"GET")
            tab.choose(*paths)
            tab.wait(lambda: "broken" in states(tab), "a broken upload")
            (row, *_) = (it for it in rows(tab) if it["state"] == "broken")
            assert row["line"].startswith("the server is busy; trying again in ")
        tab.wait(lambda: states(tab) == 3 * ["stored"], "stored files")
        assert sorted(box.stored().values()) == [b"0.txt", b"1.txt", b"2.txt"]


def greeting(port: int) -> bytes:
    """Return what a server sends to one who has not sent anything."""
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            return one.recv(1000)
    return b""


def test_restarting(chromium: Chromium, small: Path, tmp_path: Path) -> None:
    """If the server stops, the page says so, and not that it is busy; the file is stored later."""
    with Box(tmp_path, "--drain=120") as box, chromium.tab() as tab:
        tab.open(box.url)
        tab.until("!locked")
        head = f"PUT /x HTTP/1.1\r\nHost: box\r\nContent-Length: {2 * MIB}\r\n\r\n"
        with box.daemon.begin(head.encode() + bytes(MIB)):
            box.daemon.signal(signal.SIGTERM)
            wait_until(lambda: b"shutting-down" in greeting(box.port), "the stop")
            tab.choose(small)
            tab.wait(lambda: "broken" in states(tab), "a broken upload")
            assert rows(tab)[0]["line"].startswith("the server is restarting; trying again in ")
        box.daemon.wait_for_end()
        box.start()
        tab.wait(lambda: states(tab) == ["stored"], "the stored file")


def test_invitation(chromium: Chromium, locked: list[str], small: Path, tmp_path: Path) -> None:
    """A link shows whom it is for and what it allows, and disappears from the address."""
    with Box(tmp_path, *locked) as box, chromium.tab() as tab:
        tab.open(link(box, max_size=MIB, uploads=2))
        tab.until("!document.querySelector('#terms').hidden")
        text = tab.text("#terms")
        assert text.startswith("For Alice · up to 1.0 MiB per file · files left: 2 · until ")
        assert tab.evaluate("location.href") == box.url
        stored(tab, small)
        left = "document.querySelector('#terms').textContent.includes('files left: 1')"
        tab.until(left)
        tab.reload()
        tab.until(left)  # it moves the button
        stored(tab, small)
        assert len(box.stored()) == 2
        other = tmp_path / "b.txt"
        other.write_text("b")
        tab.until("document.querySelector('#terms').textContent.includes('files left: 0')")
        assert failed(tab, other) == "not stored: this link has been used as often as it allows"
        assert len(box.stored()) == 2
        assert all("inv_" not in path for _, path, _ in tab.requests)
        assert tab.complaints == []


def test_expired(chromium: Chromium, locked: list[str], small: Path, tmp_path: Path) -> None:
    """A link that has expired says so before anything is chosen; a new one works at once."""
    with Box(tmp_path, *locked) as box, chromium.tab() as tab:
        tab.open(link(box, seconds=-1))
        tab.until("!document.querySelector('#secret-form').hidden")
        assert tab.text("#secret-text") == NOT_VALID
        assert not tab.is_visible("#choose")
        tab.evaluate(f"location.href = {link(box)!r}")
        tab.until("!document.querySelector('#form').hidden")
        assert not tab.is_visible("#secret-form")
        stored(tab, small)


def test_token(chromium: Chromium, locked: list[str], small: Path, tmp_path: Path) -> None:
    """Without a link, the page asks for a token, and remembers it until it is closed."""
    with Box(tmp_path, *locked) as box, chromium.tab() as tab:
        tab.open(box.url)
        tab.until("!document.querySelector('#secret-form').hidden")
        assert tab.text("#secret-text") == "To upload here, you need a link or an access token."
        assert tab.evaluate("document.activeElement.id") == "secret"
        tab.type("tok_wrong")
        tab.press("Enter")
        tab.until(f"document.querySelector('#secret-text').textContent === {NOT_VALID!r}")
        tab.type(TOKEN)
        tab.press("Enter")
        tab.until("!document.querySelector('#form').hidden")
        assert tab.text("#terms") == "For scanner"
        stored(tab, small)
        tab.reload()
        tab.until("!document.querySelector('#terms').hidden")
        stored(tab, small)
        assert tab.evaluate("localStorage.length") == 0
        assert tab.complaints == []


def test_revoked(chromium: Chromium, locked: list[str], tmp_path: Path) -> None:
    """
    If a token is revoked while files are sent, the page asks for another one, and sends
    nothing before it has it; then they go on.
    """
    with Box(tmp_path, *locked) as box, chromium.tab() as tab:
        tab.open(f"{box.url}#token={TOKEN}")
        tab.throttle(MIB)
        tab.choose(big_file(tmp_path, size=8 * MIB))
        tab.wait(lambda: rows(tab)[0]["share"] > 0.1, "bytes on their way")
        tab.click(".pause")
        (tmp_path / "tokens").write_text("")
        box.reload()
        tab.click(".resume")
        tab.wait(lambda: states(tab) == ["failed"], "a failed upload")
        assert rows(tab)[0]["line"] == f"not stored: {NOT_VALID}"
        tab.until("!document.querySelector('#secret-form').hidden")
        sent = len(tab.requests)
        more = [big_file(tmp_path, f"{number}.bin", MIB) for number in range(3)]
        tab.choose(*more)
        tab.wait(lambda: states(tab) == ["failed"] + 3 * ["waiting"], "files that wait")
        assert len(tab.requests) == sent
        (tmp_path / "tokens").write_text(token_line("scanner", TOKEN.upper()))
        box.reload()
        tab.throttle()
        tab.click("#secret")
        tab.type(TOKEN.upper())
        tab.press("Enter")
        tab.until("document.querySelector('#secret-form').hidden")
        tab.wait(lambda: states(tab) == 4 * ["stored"], "stored files")
        assert len(of_kind(tab, "POST")) == 4


def test_token_that_cannot_be_sent(chromium: Chromium, locked: list[str], tmp_path: Path) -> None:
    """Whatever is in the link, it is at most wrong."""
    with Box(tmp_path, *locked) as box, chromium.tab() as tab:
        tab.open(f"{box.url}#token=%0d%0aX: 令牌<script>")
        tab.until("!document.querySelector('#secret-form').hidden")
        assert tab.text("#secret-text") == NOT_VALID
        assert tab.complaints == []


def test_without_https(chromium: Chromium, locked: list[str], small: Path, tmp_path: Path) -> None:
    """Over plain HTTP in a network, where browsers allow pages less, all is the same."""
    with Box(tmp_path, *locked) as box, chromium.tab() as tab:
        tab.open(box.foreign_url)
        assert not tab.evaluate("isSecureContext")
        tab.until("!document.querySelector('#secret-form').hidden")
        tab.type(TOKEN)
        tab.press("Enter")
        tab.until("!document.querySelector('#form').hidden")
        stored(tab, small)
        tab.evaluate(
            "document.addEventListener('copy', () => {"
            " window.copied = getSelection().toString(); })"
        )
        tab.click(".copy")
        tab.until("document.querySelector('.copy').textContent === 'Copied'")
        assert "SHA-256 ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb" in (
            tab.evaluate("copied")
        )
        assert tab.complaints == []
