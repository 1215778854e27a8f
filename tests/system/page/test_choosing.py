"""
How files get into the page, and from there to the disk.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.support.box import MIB, Box, big_file, of_kind, rows, states
from tests.support.chromium import Chromium, Tab

HOSTILE = '<img src=x onerror="alert(1)">.jpg'

PASTE = """
(() => {
  const data = new DataTransfer();
  data.items.add(new File(["pasted"], "image.png", {type: "image/png"}));
  document.body.dispatchEvent(new ClipboardEvent("paste", {
    clipboardData: data, bubbles: true, cancelable: true,
  }));
})()
"""


def all_stored(tab: Tab, count: int) -> None:
    tab.wait(lambda: states(tab) == ["stored"] * count, f"{count} stored files")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_several(box: Box, tab: Tab, tmp_path: Path) -> None:
    """Chosen files are stored as they are; each row has the stored name and the SHA-256."""
    contents = {"a b.txt": b"one", "报告.pdf": b"%PDF-1.4", HOSTILE: b"\xff\xd8\xff\xe0"}
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    tab.choose(*(tmp_path / name for name in contents))
    all_stored(tab, 3)
    stored = box.stored()
    assert sorted(stored.values()) == sorted(contents.values())
    assert {row["name"] for row in rows(tab)} == {*contents}
    for row in rows(tab):
        (name,) = (it for it in stored if row["line"] == f"stored as {it}")
        assert stored[name] == contents[row["name"]]
        assert sha256(stored[name]) in tab.text()
    assert tab.text("#summary") == "3 of 3 stored"
    assert tab.failed_requests == []


def test_original_names(chromium: Chromium, tmp_path: Path) -> None:
    """The server is told the names that the files have at the sender."""
    (tmp_path / "fotos").mkdir()
    (tmp_path / "fotos" / "père.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with Box(tmp_path, "--names=time-original") as box, chromium.tab() as tab:
        tab.open(box.url)
        tab.drag(tmp_path / "fotos")
        all_stored(tab, 1)
        assert rows(tab)[0]["name"] == "fotos/père.jpg"
        (name,) = box.stored()
    assert name.endswith("-père.jpg")
    assert name[0].isdigit()


def test_drop_anywhere(box: Box, tab: Tab, tmp_path: Path) -> None:
    """Files may be dropped anywhere on the page, which shows that while they are dragged."""
    (tmp_path / "a.txt").write_text("dropped")
    (tmp_path / "b.txt").write_text("dropped too")
    tab.drag(tmp_path / "a.txt", drop=False)
    tab.until("document.body.classList.contains('over')")
    tab.drag(tmp_path / "a.txt", tmp_path / "b.txt")
    all_stored(tab, 2)
    assert sorted(box.stored().values()) == [b"dropped", b"dropped too"]
    assert not tab.evaluate("document.body.classList.contains('over')")


def test_folder(box: Box, tab: Tab, tmp_path: Path) -> None:
    """All files in a folder that is dropped or chosen are stored, however deep they are."""
    deep = tmp_path / "folder" / "deeper" / "deepest"
    deep.mkdir(parents=True)
    (deep / "a.txt").write_text("a")
    (tmp_path / "folder" / "b.txt").write_text("b")
    tab.drag(tmp_path / "folder")
    all_stored(tab, 2)
    assert sorted(box.stored().values()) == [b"a", b"b"]
    names = ["folder/b.txt", "folder/deeper/deepest/a.txt"]
    assert sorted(row["name"] for row in rows(tab)) == names
    tab.choose(tmp_path / "folder", button="#choose-folder")
    all_stored(tab, 4)
    assert sorted(row["name"] for row in rows(tab)) == sorted(2 * names)


@pytest.mark.parametrize(
    "entry",
    [
        "isFile: true, file(found, failed) { failed(); }",
        "createReader() { return {readEntries(found, failed) { failed(); }}; }",
    ],
    ids=["file", "folder"],
)
def test_unreadable(tab: Tab, entry: str) -> None:
    """What cannot be read in a dropped folder is not passed over in silence."""
    tab.evaluate(f"walk({{name: 'it', {entry}}}, 'folder/')")
    (row,) = rows(tab)
    assert (row["name"], row["state"]) == ("folder/it", "failed")
    assert row["line"] == "not stored: it cannot be read, or has changed; choose it again"
    assert row["buttons"] == ["Remove"]
    assert of_kind(tab, "POST") == []


def test_paste(box: Box, tab: Tab) -> None:
    """A file or an image in the clipboard can be pasted."""
    tab.evaluate(PASTE)
    all_stored(tab, 1)
    assert [*box.stored().values()] == [b"pasted"]
    assert rows(tab)[0]["name"] == "image.png"


def test_camera(chromium: Chromium, box: Box, tmp_path: Path) -> None:
    """On a phone there is a button that opens the camera."""
    with chromium.tab(phone=True) as tab:
        tab.open(box.url)
        camera = "document.querySelector('#camera')"
        assert tab.evaluate(f"[{camera}.accept, {camera}.getAttribute('capture')]") == [
            "image/*",
            "environment",
        ]
        (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0")
        tab.choose(tmp_path / "photo.jpg", button="#take-photo")
        all_stored(tab, 1)
    assert [*box.stored().values()] == [b"\xff\xd8\xff\xe0"]


def test_empty(box: Box, tab: Tab, tmp_path: Path) -> None:
    """An empty file is stored, as it is when tus creates it."""
    (tmp_path / "empty").touch()
    tab.choose(tmp_path / "empty")
    all_stored(tab, 1)
    assert [*box.stored().values()] == [b""]
    assert sha256(b"") in tab.text()


def test_chosen_twice(box: Box, tab: Tab, tmp_path: Path) -> None:
    """A file that is chosen again while it is sent is sent once; one like it is another."""
    path = big_file(tmp_path, size=2 * MIB)
    (tmp_path / "other").mkdir()
    other = big_file(tmp_path / "other", size=MIB)
    tab.throttle(MIB)
    tab.choose(path)
    tab.choose(path, other)
    tab.throttle()
    all_stored(tab, 2)
    assert sorted(map(len, box.stored().values())) == [MIB, 2 * MIB]
    assert [row["name"] for row in rows(tab)] == ["big.bin", "big.bin"]
    tab.choose(path)
    all_stored(tab, 3)


def test_many(box: Box, tab: Tab, tmp_path: Path) -> None:
    """A hundred small files are sent, three at a time, and the total is shown."""
    paths = [tmp_path / f"{number}.txt" for number in range(100)]
    for path in paths:
        path.write_text(path.name)
    tab.evaluate(
        "window.most = 0; new MutationObserver(() => {"
        " const sending = document.querySelectorAll('.sending, .storing').length;"
        " window.most = Math.max(window.most, sending);"
        " window.hadTotal ||= !document.getElementById('total').hidden;"
        "}).observe(document.getElementById('list'), {subtree: true, attributes: true}); 0"
    )
    tab.choose(*paths)
    all_stored(tab, 100)
    assert sorted(box.stored().values()) == sorted(path.name.encode() for path in paths)
    assert tab.evaluate("[window.most, window.hadTotal]") == [3, True]
    assert tab.text("#summary") == "100 of 100 stored"
    assert not tab.is_visible("#total")
    assert len(of_kind(tab, "POST")) == len(of_kind(tab, "PATCH")) == 100


def test_receipt(chromium: Chromium, box: Box, tab: Tab, tmp_path: Path) -> None:
    """The names and the SHA-256 of the stored files can be copied."""
    chromium.call(
        "Browser.grantPermissions",
        permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
        browserContextId=tab.context,
    )
    (tmp_path / "a.txt").write_text("a")
    tab.choose(tmp_path / "a.txt")
    all_stored(tab, 1)
    tab.click(".copy")
    tab.until("document.querySelector('.copy').textContent === 'Copied'")
    ((name, data),) = box.stored().items()
    copied = tab.evaluate("navigator.clipboard.readText()")
    assert copied == f"{name} {sha256(data)}"
    assert tab.evaluate("document.querySelector('.copy').ariaLabel") == "Copied"
    (tmp_path / "b.txt").write_text("b")
    tab.choose(tmp_path / "b.txt")
    all_stored(tab, 2)
    tab.click("#copy-all")
    tab.until("document.querySelector('#copy-all').textContent === 'Copied'")
    lines = tab.evaluate("navigator.clipboard.readText()").splitlines()
    assert sorted(lines) == sorted(
        f"{name}  {sha256(data)}  {data.decode()}.txt" for name, data in box.stored().items()
    )
