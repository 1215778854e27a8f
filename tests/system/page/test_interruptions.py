"""
What breaks an upload of the page, and how it goes on.

The network is made slow while something has to happen in the middle.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.box import MIB, Box, big_file, of_kind, patches, rows, states
from tests.support.chromium import Chromium, Tab
from tests.support.relay import Relay

SLOW = 2 * MIB  # bytes per second

NO_RETRIES = """
const real = window.setTimeout;
window.setTimeout = (run, ms) => (ms === 1000 ? 0 : real(run, ms));
"""
"""The first pause before another try does not end by itself."""

LOCKS = """
(() => {
  window.locks = {requests: 0, releases: 0};
  const request = WakeLock.prototype.request;
  WakeLock.prototype.request = async function (...kind) {
    const lock = await request.apply(this, kind);
    locks.requests += 1;
    lock.addEventListener("release", () => { locks.releases += 1; });
    return lock;
  };
})()
"""


@pytest.fixture
def big(tmp_path: Path) -> Path:
    """A file that takes a while."""
    return big_file(tmp_path)


@pytest.fixture
def slow(tab: Tab) -> Iterator[Tab]:
    """The page, with a slow network."""
    tab.throttle(SLOW)
    yield tab
    tab.throttle()


def begun(tab: Tab, share: float = 0.1) -> None:
    """Wait until part of the only file has been sent."""
    tab.wait(lambda: [row["share"] >= share for row in rows(tab)] == [True], "bytes on their way")


def resumed(box: Box, tab: Tab, path: Path) -> None:
    """Check that the file is stored once and whole, and was not sent from its beginning again."""
    tab.throttle()
    tab.wait(lambda: states(tab)[-1:] == ["stored"], "a stored file")
    assert box.digests() == [hashlib.sha256(path.read_bytes()).hexdigest()]
    first, *others = patches(tab)
    assert first == 0
    assert others == sorted(others)
    assert 0 < others[0] < path.stat().st_size
    assert len(of_kind(tab, "POST")) == 1
    assert tab.evaluate("localStorage.length") == 0


def test_pause(box: Box, slow: Tab, big: Path) -> None:
    """A file that is paused goes on where it stopped, when it is resumed."""
    slow.choose(big)
    begun(slow)
    slow.click(".pause")
    assert states(slow) == ["paused"]
    assert rows(slow)[0]["line"] == "paused"
    assert rows(slow)[0]["buttons"] == ["Resume", "Cancel"]
    assert box.stored() == {}
    slow.click(".resume")
    resumed(box, slow, big)


def test_paused_at_once(box: Box, tab: Tab, big: Path) -> None:
    """However fast it is paused and resumed, a file is stored once."""
    tab.choose(big)
    tab.until("!!document.querySelector('#list .pause, #list .copy')")
    tab.evaluate(
        "for (let i = 0; i < 10; i++)"
        " for (const it of ['.pause', '.resume']) document.querySelector(it)?.click()"
    )
    tab.wait(lambda: states(tab) == ["stored"], "a stored file")
    assert box.digests() == [hashlib.sha256(big.read_bytes()).hexdigest()]
    assert len(of_kind(tab, "POST")) == 1


def test_cancel(box: Box, slow: Tab, big: Path) -> None:
    """A cancelled file is removed from the server, too."""
    slow.choose(big)
    begun(slow)
    slow.click(".cancel")
    assert states(slow) == ["cancelled"]
    slow.wait(lambda: of_kind(slow, "DELETE"), "a request to remove it")
    (path,) = {path for method, path, _ in slow.requests if method == "DELETE"}
    gone = f"fetch({json.dumps(path)}, {{method: 'HEAD', headers: {{'Tus-Resumable': '1.0.0'}}}})"
    slow.wait(lambda: slow.evaluate(f"{gone}.then(it => it.status)") == 404, "its end")
    assert box.stored() == {}
    assert slow.evaluate("localStorage.length") == 0
    slow.click(".dismiss")
    assert rows(slow) == []
    assert len(of_kind(slow, "DELETE")) == 1
    assert slow.text("#summary") == ""


def test_reload(box: Box, slow: Tab, big: Path) -> None:
    """
    After the page has been reloaded in the middle, it names the file; chosen again, it goes
    on where it stopped.
    """
    slow.choose(big)
    begun(slow)
    slow.reload()
    assert slow.dialogs == ["beforeunload"]
    assert slow.text("#unfinished-text").startswith("Not finished: big.bin. Choose")
    slow.choose(big)
    resumed(box, slow, big)
    assert not slow.is_visible("#unfinished")
    slow.reload()
    assert slow.dialogs == ["beforeunload"]  # there is nothing to warn of any more


def test_discard(box: Box, slow: Tab, big: Path) -> None:
    """What was not finished can be forgotten, and is removed from the server."""
    slow.choose(big)
    begun(slow)
    slow.reload()
    slow.click("#discard")
    assert not slow.is_visible("#unfinished")
    slow.wait(lambda: of_kind(slow, "DELETE"), "a request to remove it")
    slow.reload()
    assert not slow.is_visible("#unfinished")


def test_offline(chromium: Chromium, box: Box, big: Path) -> None:
    """A file goes on by itself as soon as the network is back."""
    with Relay(box.port) as network, chromium.tab() as tab:
        tab.before_each_page(NO_RETRIES)
        tab.open(f"http://127.0.0.1:{network.port}/")
        tab.throttle(SLOW)
        tab.choose(big)
        begun(tab)
        network.cut()
        tab.throttle(SLOW, offline=True)
        tab.wait(lambda: states(tab) == ["broken"], "a broken upload")
        assert rows(tab)[0]["line"] == "no connection to the server; trying again in 1 s"
        network.repair()
        tab.throttle()
        resumed(box, tab, big)
        assert tab.complaints == []


def test_daemon_killed(box: Box, slow: Tab, big: Path) -> None:
    """
    After the daemon has been killed in the middle, and started again, a file goes on at the
    offset that had been committed.
    """
    slow.choose(big)
    begun(slow)
    slow.click(".pause")  # what has arrived is committed
    slow.click(".resume")
    slow.wait(lambda: len(patches(slow)) == 2, "another request")
    begun(slow, 0.4)
    box.kill()
    slow.wait(lambda: states(slow) == ["broken"], "a broken upload")
    box.start()
    resumed(box, slow, big)
    assert len(patches(slow)) == 3


def test_daemon_stopped(chromium: Chromium, big: Path, tmp_path: Path) -> None:
    """A daemon that is restarted in an orderly way loses nothing of what has arrived."""
    with Box(tmp_path, "--drain=100ms") as box, chromium.tab() as tab:
        tab.open(box.url)
        tab.throttle(SLOW)
        tab.choose(big)
        begun(tab, 0.3)
        box.daemon.stop()
        tab.wait(lambda: states(tab) == ["broken"], "a broken upload")
        box.start()
        resumed(box, tab, big)
        assert patches(tab)[1] > 0.2 * big.stat().st_size


def test_try_again(chromium: Chromium, box: Box, tmp_path: Path) -> None:
    """Nobody has to wait for the next try."""
    (tmp_path / "a.txt").write_text("a")
    with chromium.tab() as tab:
        tab.before_each_page(NO_RETRIES)
        tab.open(box.url)
        box.kill()
        tab.choose(tmp_path / "a.txt")
        tab.wait(lambda: states(tab) == ["broken"], "a broken upload")
        box.start()
        tab.click(".retry")
        tab.wait(lambda: states(tab) == ["stored"], "a stored file")
    assert [*box.stored().values()] == [b"a"]


def test_tries_again(box: Box, tab: Tab, tmp_path: Path) -> None:
    """Without a click, it is tried again by itself, after longer and longer pauses."""
    (tmp_path / "a.txt").write_text("a")
    box.kill()
    tab.choose(tmp_path / "a.txt")
    for seconds in (1, 2):
        text = f"no connection to the server; trying again in {seconds} s"
        tab.wait(lambda text=text: rows(tab)[0]["line"] == text, text)  # type: ignore[misc]
    box.start()
    tab.wait(lambda: states(tab) == ["stored"], "a stored file")
    assert [*box.stored().values()] == [b"a"]


def test_changed_file(box: Box, slow: Tab, big: Path) -> None:
    """A file that changes while it is sent fails, says so, and leaves nothing behind."""
    slow.choose(big)
    begun(slow)
    big.write_bytes(b"another")
    slow.wait(lambda: states(slow) == ["failed"], "a failed upload")
    row = rows(slow)[0]
    assert row["line"] == "not stored: it cannot be read, or has changed; choose it again"
    assert row["buttons"] == ["Remove"]
    assert of_kind(slow, "DELETE")
    assert box.stored() == {}
    slow.throttle()
    slow.choose(big)
    slow.wait(lambda: states(slow) == ["failed", "stored"], "a stored file")
    assert [*box.stored().values()] == [b"another"]


def test_nothing_remembered(chromium: Chromium, box: Box, tmp_path: Path) -> None:
    """Without storage, as in some private windows, files are stored all the same."""
    (tmp_path / "a.txt").write_text("a")
    with chromium.tab(without_storage=True) as tab:
        tab.open(box.url)
        tab.choose(tmp_path / "a.txt")
        tab.wait(lambda: states(tab) == ["stored"], "a stored file")
        assert tab.complaints == []


def test_screen_stays_on(chromium: Chromium, box: Box, big: Path) -> None:
    """
    The screen is kept on while a file is sent, and only then: also after the page has been
    in the background, for which the browser lets it go off.
    """
    with chromium.tab() as tab:
        tab.before_each_page(LOCKS)
        tab.open(box.url)
        assert tab.evaluate("locks.requests") == 0
        tab.throttle(SLOW)
        tab.choose(big)
        tab.until("locks.requests === 1")
        begun(tab)
        tab.hide()
        tab.until("document.visibilityState === 'hidden' && locks.releases === 1")
        tab.show()
        tab.until("document.visibilityState === 'visible' && locks.requests === 2")
        tab.throttle()
        tab.wait(lambda: states(tab) == ["stored"], "a stored file")
        tab.until("locks.releases === 2")
        assert tab.evaluate("locks.requests") == 2
