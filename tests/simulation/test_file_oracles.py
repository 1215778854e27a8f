"""
The oracles about files find what they are there for.
"""

from __future__ import annotations

import pytest

from tests.simulation.fabricated import Folder
from tests.simulation.history import Attempt, Violation
from tests.simulation.oracles.files import PlantedFiles


@pytest.fixture(name="folder")
def a_folder() -> Folder:
    return Folder()


def test_nothing_is_wrong(folder: Folder) -> None:
    """Files that were promised, that nobody was told, and those of others are as they should be."""
    told, untold = folder.sent(1), folder.sent(2)
    folder.history.stored(told, "1.bin", 100)
    folder.put("1.bin", told.data())
    folder.put("2.bin", untold.data())
    folder.put(".hidden", b"whatever")
    folder.put("planted", b"of somebody")
    folder.oracle.plant(["planted"])
    folder.oracle.check()
    folder.oracle.check(deep=True)
    del folder.paths.files["/inbox/2.bin"]
    folder.oracle.check(cut=True)


def test_a_promised_file_is_gone(folder: Folder) -> None:
    """A file that was promised is there, whatever has happened."""
    folder.history.stored(folder.sent(1), "1.bin")
    folder.wrong("lost: 1.bin", cut=True)


def test_a_promised_file_without_a_name_is_gone(folder: Folder) -> None:
    """The same if its sender was not told its name."""
    folder.history.stored(folder.sent(1), None)
    folder.wrong("lost", cut=True)


def test_a_tiny_file_is_gone(folder: Folder) -> None:
    """The same for files that are too small to be recognised."""
    for number in (1, 2):
        folder.history.stored(folder.sent(number, 3), None)
    folder.put("1.bin", b"aaa")
    folder.wrong("lost")


def test_two_promised_files_are_one(folder: Folder) -> None:
    """Two promises are two files, even if they have the same content."""
    first = folder.sent(1)
    again = folder.sent(2, again=first)
    folder.history.stored(first, None)
    folder.history.stored(again, None)
    folder.put("1.bin", first.data())
    folder.wrong("lost")


def test_a_visible_file_vanishes(folder: Folder) -> None:
    """What was visible stays, unless the power fails before anybody was told."""
    folder.put("1.bin", folder.sent(1).data())
    folder.oracle.check()
    folder.paths.files.clear()
    folder.wrong("is gone")


def test_a_visible_file_is_taken_back(folder: Folder) -> None:
    """If its disk fails before anybody was told, it may go; nobody else gets its name."""
    folder.oracle.disk_fails = True
    attempt = folder.sent(1)
    folder.put("1.bin", attempt.data())
    folder.oracle.check()
    folder.paths.files.clear()
    folder.oracle.check()
    folder.put("1.bin", folder.sent(2).data())
    folder.wrong("before")
    folder.put("1.bin", attempt.data())
    folder.oracle.check(deep=True)
    folder.history.stored(attempt, None)
    folder.paths.files.clear()
    folder.wrong("is gone")


@pytest.mark.parametrize("cut", [1, 7, 8, 50, 99])
def test_a_partial_file(folder: Folder, cut: int) -> None:
    """No file is visible that is not whole."""
    folder.put("1.bin", folder.sent(1).data()[:cut])
    folder.wrong("no content of anybody")


def test_other_bytes(folder: Folder) -> None:
    """No byte of a visible file is another than was sent; a change is found in a deep check."""
    data = folder.sent(1).data()
    folder.put("1.bin", data)
    folder.oracle.check()
    folder.put("1.bin", data[:-1] + b"\0")
    folder.oracle.check()
    folder.wrong("other bytes", deep=True)


def test_foreign_content(folder: Folder) -> None:
    """No file is visible that nobody has sent."""
    folder.put("1.bin", b"TU000123 and more of it")
    folder.wrong("no content of anybody")


def test_visible_before_its_end(folder: Folder) -> None:
    """A file whose sender has not sent its end is not visible, even if all of it is there."""
    attempt = folder.history.begin(1, "raw-reset", 100)
    folder.put("1.bin", attempt.data())
    folder.wrong("its end was not sent")


def test_visible_though_refused(folder: Folder) -> None:
    """A file whose sender was told that it is refused is not visible."""
    attempt = folder.sent(1)
    folder.history.refused(attempt, "store-error")
    folder.put("1.bin", attempt.data())
    folder.wrong("its end was not sent|refused")


def test_stored_twice(folder: Folder) -> None:
    """What was sent once is there once."""
    attempt = folder.sent(1)
    folder.put("1.bin", attempt.data())
    folder.put("2.bin", attempt.data())
    folder.wrong("visible 2 times")
    folder.sent(3, again=attempt)
    folder.oracle.check()


def test_tiny_and_ended_by_silence(folder: Folder) -> None:
    """A tiny file that silence has ended looks like a smaller one, and no other does."""
    folder.history.ends_by_idle = True
    for number in (1, 2):
        folder.put(f"{number}.bin", b"aaaa")
    folder.sent(1, 4, kind="http-put")
    folder.sent(2, 6, kind="http-put")
    folder.wrong("visible 2 times")
    folder.history.stored(folder.sent(3, 6), None)
    folder.oracle.check()
    folder.put("3.bin", b"aaaa")
    folder.wrong("visible 3 times")


def test_swapped_names(folder: Folder) -> None:
    """The file of a name is that of the sender who was told the name."""
    one, other = folder.sent(1), folder.sent(2)
    folder.history.stored(one, "1.bin")
    folder.history.stored(other, "2.bin")
    folder.put("1.bin", other.data())
    folder.put("2.bin", one.data())
    folder.wrong("was told to")


def concatenated(folder: Folder) -> tuple[Attempt, list[Attempt]]:
    """Return a concatenation that was asked for, and its two parts."""
    parts = [folder.sent(1, kind="tus-concat"), folder.sent(2, kind="tus-concat")]
    for part in parts:
        part.partial = True
    final = folder.sent(3, 0)
    folder.history.concatenate(final, parts)
    return final, parts


def test_concatenations(folder: Folder) -> None:
    """A concatenation is whole, and there once however often it was asked for."""
    final, parts = concatenated(folder)
    again = folder.sent(4, again=final)
    for one in (final, again):
        folder.history.stored(one, "1.bin", 200)
    folder.put("1.bin", final.data())
    folder.oracle.check()
    folder.put("2.bin", parts[1].data() + parts[0].data())
    folder.wrong("no content")


def test_concatenation_twice(folder: Folder) -> None:
    """One that is asked for again, because its answer was lost, is not there twice."""
    final, _ = concatenated(folder)
    folder.history.lost(final)
    folder.sent(4, again=final)
    folder.put("1.bin", final.data())
    folder.put("2.bin", final.data())
    folder.oracle.check()  # by another process, perhaps
    folder.history.repeats_once = True
    folder.wrong("2 times, 1 sent")


def test_a_part_is_visible(folder: Folder) -> None:
    """A part of a concatenation is not a file."""
    part = folder.sent(1, kind="tus-concat")
    part.partial = True
    folder.put("1.bin", part.data())
    folder.wrong("its end was not sent")


def test_planted_files(folder: Folder) -> None:
    """Files of others stay as they are."""
    planted = PlantedFiles(folder.history, folder.paths)
    planted.plant("/inbox/theirs", b"theirs")
    planted.check()
    folder.put("theirs", b"ours")
    with pytest.raises(Violation, match="touched"):
        planted.check()
    del folder.paths.files["/inbox/theirs"]
    with pytest.raises(Violation, match="touched"):
        planted.check()


@pytest.mark.parametrize("again", [False, True])
def test_reported_as_refused(folder: Folder, again: bool) -> None:
    """A file that was reported as not stored is found, unless another attempt is that file."""
    attempt = folder.sent(1)
    attempt.given_up = True
    if again:
        folder.sent(2, again=attempt)
    folder.put("1.bin", attempt.data())
    folder.oracle.check()
    folder.oracle.check_given_up(since=attempt.began)
    if again:
        folder.oracle.check_given_up(since=0.0)
    else:
        with pytest.raises(Violation, match="reported as not stored"):
            folder.oracle.check_given_up(since=0.0)
