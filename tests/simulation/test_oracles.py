"""
Each oracle finds what it is there for.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from tests.simulation.choices import Choices
from tests.simulation.fabricated import Folder
from tests.simulation.filesystem.descriptions import Pipe, PipeEnd
from tests.simulation.filesystem.rig import World
from tests.simulation.history import History, Violation
from tests.simulation.oracles.bounds import Quiet
from tests.simulation.oracles.log import LogWatch
from tests.simulation.oracles.outcomes import Outcomes, journal_counts
from tests.simulation.oracles.partials import ToldOffsets
from tests.simulation.oracles.senders import Fates
from tests.simulation.scheduler import Scheduler
from tests.simulation.senders.scene import Scene
from twisted_upload.core.outcome import UploadOutcome
from twisted_upload.interfaces import Arrival, PartialTerms
from twisted_upload.stores.directory.partial_folder import key_of
from twisted_upload.stores.directory.partial_record import OPEN, PartialOrigin, PartialRecord

IDENTITY = "0123456789abcdef" * 2


@pytest.fixture(name="folder")
def a_folder() -> Folder:
    return Folder()


class Told:
    """A partial upload of which an offset was told."""

    def __init__(self, folder: Folder, size: int = 100, offset: int = 60) -> None:
        self.attempt = folder.history.begin(1, "tus-resume", size)
        self.attempt.url, self.attempt.sent = f"/files/{IDENTITY}", size
        folder.history.offset(self.attempt, offset, 0)
        self.path = f"/inbox/.incoming/partial/{key_of(IDENTITY)}.data"
        self.paths = folder.paths.files
        self.paths[self.path] = self.attempt.data()[:80]
        self.oracle = ToldOffsets(folder.history, folder.paths, "/inbox", folder.oracle)


@pytest.fixture(name="told")
def an_offset(folder: Folder) -> Told:
    return Told(folder)


@pytest.mark.parametrize(("size", "offset"), [(100, 60), (4, 3)])
def test_told_offset(folder: Folder, size: int, offset: int) -> None:
    """The bytes before an offset that was told are there, in the data or in the stored file."""
    told = Told(folder, size, offset)
    told.oracle.check()
    del told.paths[told.path]
    told.attempt.complete = True
    folder.put("1.bin", told.attempt.data())
    folder.oracle.check()
    told.oracle.check()


def test_told_offset_is_shortened(told: Told) -> None:
    """They are not shortened."""
    told.paths[told.path] = told.attempt.data()[:59]
    with pytest.raises(Violation, match="59 of 60"):
        told.oracle.check()


def test_told_offset_is_gone(told: Told) -> None:
    """They are not gone, unless the upload was removed."""
    del told.paths[told.path]
    with pytest.raises(Violation, match="gone"):
        told.oracle.check()
    told.attempt.may_be_gone = True
    told.oracle.check()


def test_told_offset_of_other_bytes(told: Told) -> None:
    """They are the sender's."""
    told.paths[told.path] = b"\0" * 80
    with pytest.raises(Violation, match="other bytes"):
        told.oracle.check()


def test_expired_uploads_are_removed(told: Told) -> None:
    """Long after an upload has expired, nothing of it is there, unless it may be published."""
    record = told.path.replace(".data", ".record")
    told.paths[record] = b'.."open"..'
    with pytest.raises(Violation, match="expired"):
        told.oracle.expect_none()
    told.paths[record] = b'.."publishing"..'
    told.oracle.expect_none()
    told.paths.clear()
    told.oracle.expect_none()


def outcome(kind: str, **more: Any) -> UploadOutcome:
    return UploadOutcome(kind, "port", "10.0.0.7:1", 100, 1.0, **more)


def test_one_outcome_each(folder: Folder) -> None:
    """What a daemon has read of an upload has one outcome, unless it was rejected."""
    outcomes = Outcomes(folder.history)
    observe = outcomes.observer("d1")
    attempt = folder.history.begin(1, "raw-reset", 100)
    attempt.peers, attempt.connection = ["10.0.0.7:1"], SimpleNamespace(read_there=0)
    outcomes.check_each(refused_at_gate=False)
    attempt.connection.read_there = 3
    with pytest.raises(Violation, match="0 outcomes, 3 bytes"):
        outcomes.check_each(refused_at_gate=False)
    folder.history.aborted(attempt)
    outcomes.check_each(refused_at_gate=True)
    observe(outcome("aborted"))
    outcomes.check_each(refused_at_gate=False)
    observe(outcome("aborted"))
    with pytest.raises(Violation, match="2 outcomes"):
        outcomes.check_each(refused_at_gate=True)


def test_outcomes(folder: Folder) -> None:
    """What is reported agrees with what was told and is visible."""
    outcomes = Outcomes(folder.history)
    observe = outcomes.observer("d1")
    folder.history.stored(folder.sent(1), "1.bin")
    observe(outcome("stored", name="1.bin"))
    observe(outcome("refused", code="busy"))
    outcomes.check_told(["1.bin"])
    outcomes.check_agree("d1", "the journal", {"stored": 1, "refused": 1})
    with pytest.raises(Violation, match="journal of d1 says 0 refused"):
        outcomes.check_agree("d1", "the journal", {"stored": 1})
    with pytest.raises(Violation, match="not visible"):
        outcomes.check_told([])
    with pytest.raises(Violation, match="twice"):
        observe(outcome("stored", name="1.bin"))


def test_an_unreported_file(folder: Folder) -> None:
    """A stored file is reported, unless its process died before it had told the sender."""
    outcomes, history = Outcomes(folder.history), folder.history
    history.stored(folder.sent(1), "1.bin")
    told_at = history.now()
    for history.disturbances in ([], [told_at + 1.0]):
        with pytest.raises(Violation, match="never reported"):
            outcomes.check_told(["1.bin"])
    history.disturbances = [told_at, told_at + 1.0]
    outcomes.check_told(["1.bin"])


@pytest.mark.parametrize("kind", ["raw-whole", "tus-resume", "tus-client"])
def test_an_unreported_file_of_the_next_daemon(folder: Folder, kind: str) -> None:
    """Nor is a resumable upload that a daemon was told to stop with, and the next completes."""
    outcomes, history = Outcomes(folder.history), folder.history
    attempt = folder.sent(1)
    attempt.kind = kind
    attempt.url = "/files/1" if kind == "tus-resume" else None
    history.stored(attempt, "1.bin")
    with pytest.raises(Violation, match="never reported"):
        outcomes.check_told(["1.bin"])
    history.stops.append(history.now())
    if attempt.resumes:
        outcomes.check_told(["1.bin"])
    else:
        with pytest.raises(Violation, match="never reported"):
            outcomes.check_told(["1.bin"])


@pytest.mark.parametrize(
    "ended",
    [
        outcome("stored"),
        outcome("refused"),
        outcome("aborted", code="busy"),
        outcome("refused", code="busy", name="1.bin"),
        outcome("lost"),
    ],
)
def test_outcomes_that_contradict_themselves(folder: Folder, ended: UploadOutcome) -> None:
    """An outcome is one of three, with what belongs to it."""
    with pytest.raises(Violation):
        Outcomes(folder.history).observer("d1")(ended)


def test_journal_counts() -> None:
    """The lines of a journal are counted by outcome."""
    assert journal_counts([{"event": "stored"}, {"event": "stored"}]) == {"stored": 2}


def event(level: LogLevel, text: str, **more: Any) -> dict[str, Any]:
    return {"log_level": level, "log_format": text, **more}


def test_log(folder: Folder) -> None:
    """Lines about uploads are counted; warnings, and errors of the disk, are nothing wrong."""
    watch = LogWatch(folder.history)
    watch.expected = ("UNHEALTHY",)
    watch(event(LogLevel.info, "stored", outcome="stored"))
    watch(event(LogLevel.warn, "the clock is behind"))
    watch(event(LogLevel.error, "/inbox: Too many open files"))
    watch(event(LogLevel.critical, "/inbox: UNHEALTHY, refusing uploads"))
    assert watch.counts == {"stored": 1}
    assert not folder.history.violations


@pytest.mark.parametrize(
    "wrong",
    [
        event(LogLevel.critical, "something"),
        event(LogLevel.error, "internal error: aborted"),
        event(LogLevel.critical, "Unhandled error in Deferred", log_failure=Failure(OSError())),
        event(LogLevel.warn, "harmless?", log_failure=Failure(OSError())),
    ],
)
def test_failures_in_the_log(folder: Folder, wrong: dict[str, Any]) -> None:
    """A failure that nobody has handled, and an internal error, are found."""
    LogWatch(folder.history)(wrong)
    assert folder.history.violations


class Descriptors(dict[int, object]):
    """What a process has open."""

    def things(self) -> dict[int, object]:
        return self


def test_descriptors(folder: Folder) -> None:
    """A process that is quiet has no more open than at the beginning."""
    process = SimpleNamespace(name="d1", descriptors=Descriptors({3: object()}))
    quiet = Quiet(folder.history)
    quiet.note(process)
    quiet.check_descriptors(process)
    process.descriptors[4] = object()
    quiet.check_descriptors(process, spare=1)
    with pytest.raises(Violation, match="2 descriptors"):
        quiet.check_descriptors(process)


def test_descriptors_of_pipes(folder: Folder) -> None:
    """Pipes are kept, but no more than there are threads for large uploads."""
    ends: dict[int, object] = {it: PipeEnd(Pipe(100), writable=True) for it in (4, 5, 6)}
    process = SimpleNamespace(name="d1", descriptors=Descriptors({3: object()}))
    quiet = Quiet(folder.history)
    quiet.note(process)
    process.descriptors.update(ends)
    quiet.check_descriptors(process, pipes=2)
    with pytest.raises(Violation, match="4 descriptors"):
        quiet.check_descriptors(process, pipes=1)


@pytest.mark.parametrize("what", ["protocols", "uploads_in_flight", "taken", "splices", "groups"])
def test_frontends(folder: Folder, what: str) -> None:
    """A front end that is quiet has nothing left."""
    slots = SimpleNamespace(taken=0, splices=0)
    groups: list[int] = []
    frontend = SimpleNamespace(
        protocols=set(),
        uploads_in_flight=0,
        slots=slots,
        gate=SimpleNamespace(admission=groups),
    )
    quiet = Quiet(folder.history)
    quiet.check_frontends([frontend])
    if what == "protocols":
        frontend.protocols.add(1)
    elif what == "uploads_in_flight":
        frontend.uploads_in_flight = 1
    elif what == "groups":
        groups.append(1)
    else:
        setattr(slots, what, 1)
    with pytest.raises(Violation, match="quiet"):
        quiet.check_frontends([frontend])


def test_budgets(folder: Folder) -> None:
    """No memory is held when there are no uploads."""
    quiet = Quiet(folder.history)
    quiet.check_budgets([SimpleNamespace(held=0)])
    with pytest.raises(Violation, match="5 bytes"):
        quiet.check_budgets([SimpleNamespace(held=5)])


def test_incoming(folder: Folder) -> None:
    """Nothing unfinished is left but partial uploads and their records."""
    quiet = Quiet(folder.history)
    files = folder.paths.files
    files["/inbox/.incoming/latest-names"] = b""
    files["/inbox/.incoming/partial/a.data"] = b""
    files["/inbox/.incoming/partial/a.record"] = b""
    quiet.check_incoming(folder.paths, "/inbox")
    files["/inbox/.incoming/partial/b.data"] = b""
    with pytest.raises(Violation, match="without a record"):
        quiet.check_incoming(folder.paths, "/inbox")
    files["/inbox/.incoming/upload-0123456789ab-1"] = b""
    with pytest.raises(Violation, match="left in"):
        quiet.check_incoming(folder.paths, "/inbox")


def test_removed_file_is_open(folder: Folder) -> None:
    """A process that is quiet has no file open that was removed."""
    world = World("ext4")
    quiet = Quiet(folder.history)
    world.write("a", b"content")
    quiet.note(world.process)
    quiet.check_descriptors(world.process)
    world.files.unlink(world.new, "a")
    with pytest.raises(Violation, match="no name"):
        quiet.check_descriptors(world.process)


@pytest.mark.parametrize("size", [5, 6])
def test_discarded_bytes_are_left(folder: Folder, size: int) -> None:
    """What was discarded of a partial upload is found, if nothing else can have left it."""
    world = World("ext4")
    record = world.files.create(world.new, "record", 0o600)
    origin = PartialOrigin(PartialTerms(Arrival("here"), expires=1e10), 1e9)
    log = PartialRecord.create(world.files, record, origin, OPEN)
    log.write(log.state._replace(offset=5))
    files = folder.paths.files
    files["/inbox/.incoming/partial/a.data"] = bytes(size)
    files["/inbox/.incoming/partial/a.record"] = world.system.content("/inbox/new/record")
    quiet = Quiet(folder.history)
    quiet.check_incoming(folder.paths, "/inbox")
    if size == log.state.offset:
        quiet.check_incoming(folder.paths, "/inbox", whole=True)
    else:
        with pytest.raises(Violation, match="6 bytes, 5 of them"):
            quiet.check_incoming(folder.paths, "/inbox", whole=True)


class Place:
    """A scene, and the oracle about its senders."""

    def __init__(self) -> None:
        scheduler = Scheduler(Choices(1))
        self.history = History(lambda: scheduler.now)
        self.scene = Scene(scheduler, None, self.history)
        self.oracle = Fates(self.scene)


def test_reasons() -> None:
    """A refusal has a reason: in the world, or in what its sender does."""
    place = Place()
    history, facts = place.history, place.scene.facts
    facts.allowed = {"busy"}
    facts.max_size = 50
    for number, size, code, kind, honest in (
        (1, 10, "busy", "raw-whole", True),
        (2, 51, "too-large", "raw-whole", True),
        (3, 0, "empty", "raw-empty", False),
        (4, 10, "timeout", "raw-slow", False),
    ):
        history.refused(history.begin(number, kind, size, honest=honest), code)
    place.oracle.check_reasons()
    for number, size, code, kind in (
        (5, 10, "store-error", "raw-whole"),
        (6, 50, "too-large", "raw-whole"),
        (7, 1, "empty", "raw-whole"),
        (8, 10, "timeout", "raw-whole"),
    ):
        history.refused(history.begin(number, kind, size), code)
        with pytest.raises(Violation, match="without a reason"):
            place.oracle.check_reasons()


def test_everyone_ends() -> None:
    """A sender that is still there is found."""
    place = Place()
    place.oracle.check_ended()
    place.scene.running["1"] = SimpleNamespace(kind="raw-whole")
    with pytest.raises(Violation, match="still there"):
        place.oracle.check_ended()


def test_honest_senders_are_served() -> None:
    """When nothing is in its way, an honest sender is served, and in time."""
    place = Place()
    history = place.history
    place.scene.facts.served_from = 0.0
    attempt = history.begin(1, "raw-whole", 10)
    attempt.complete = True
    with pytest.raises(Violation, match="not served"):
        place.oracle.check_served(within=5.0)
    history.stored(attempt, None)
    place.oracle.check_served(within=5.0)
    place.scene.scheduler.now = 6.0
    with pytest.raises(Violation, match="not served"):
        place.oracle.check_served(within=5.0)
    attempt.honest = False
    place.oracle.check_served(within=5.0)
