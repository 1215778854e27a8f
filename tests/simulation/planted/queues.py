"""
Bugs in the queues of stored files, in the journal and the metrics, and in object stores.
"""

from __future__ import annotations

from tests.simulation.planted.bug import Bug

__all__ = ["BUGS"]

_FILE = "stores.directory.partial_file"
_SPOOL = "hooks.spool"
_SCAN = "hooks.spool_scan"
_RUNNER = "hooks.runner"
_OBJECT = "stores.s3.object_upload"

RUNS = "the program succeeds for each stored file, whatever is killed or cut off"
RUNS_ONCE = "a program that has succeeded for a file is not started for it again"
AGREE = "each upload has one outcome, and everybody is told the same"
GIVEN_BACK = "memory, descriptors and slots are bounded, and are given back"
PENDING = "no multipart upload is pending for ever"

BUGS = (
    Bug(
        "marker-not-synced",
        _FILE,
        "        return self.descriptor, *(marker.opened for _, marker in self.marks)\n",
        "        return (self.descriptor,)\n",
        "the marker of a file is not synced before the file is published",
        RUNS,
    ),
    Bug(
        "folder-of-markers-not-synced",
        "stores.directory.commit_batch",
        "            others = {spool.waiting: None for part in self._parts"
        " for spool, _ in part.marks}\n",
        "            others = {}\n",
        "the name of a marker is not durable when its file is published",
        RUNS,
    ),
    Bug(
        "marker-taken-before-its-file",
        _SPOOL,
        "        self.being_stored.add(marker.identity)\n        self._create(marker)\n",
        "        self._create(marker)\n",
        "a scan removes a marker whose file is about to be published",
        RUNS,
    ),
    Bug(
        "marker-of-discarded-left",
        _FILE,
        "        end_marks(self.marks, keep=stays)\n",
        "",
        "the marker of an upload that was refused stays",
        "nothing is left of what was not stored",
    ),
    Bug(
        "marker-removed-before-program",
        "hooks.task",
        "            end = self._success or self._start(command, held)\n",
        "            spool.remove(marker)\n"
        "            end = self._success or self._start(command, held)\n",
        "a marker is removed before its program has succeeded",
        RUNS,
    ),
    Bug(
        "marker-never-removed",
        "hooks.task",
        "            spool.remove(marker)\n        except OSError as error:\n",
        "            pass\n        except OSError as error:\n",
        "the marker of a file stays when its program has succeeded",
        RUNS_ONCE,
    ),
    Bug(
        "known-file-added-again",
        _RUNNER,
        "        if marker.identity not in self._known:\n            self._known",
        "        if True:\n            self._known",
        "a file that a scan finds while its program runs is started again",
        RUNS_ONCE,
    ),
    Bug(
        "marker-of-living-owner-taken",
        "disk.owners",
        "            ours = files.lock(lock) and files.links(lock) == 1\n",
        "            ours = files.links(lock) == 1\n",
        "an owner holds no lock: another worker takes its markers",
        RUNS_ONCE,
    ),
    Bug(
        "running-marker-not-locked",
        _SPOOL,
        "            if not files.lock(descriptor):\n"
        "                end_orphans(descriptor, self.waiting)\n"
        "                return None\n",
        "",
        "a program is started while that of a killed daemon still runs",
        RUNS_ONCE,
    ),
    Bug(
        "scan-stops-at-stored",
        _SCAN,
        "                    if match is None or match[1] in spool.being_stored:\n"
        "                        continue\n",
        "                    if match is None or match[1] in spool.being_stored:\n"
        "                        break\n",
        "`break` for `continue`: a scan ends at the first marker of an upload in flight",
        RUNS,
    ),
    Bug(
        "bad-marker-stops-the-queue",
        _SCAN,
        "                else:\n                    bad.append(self._set_aside(name, error))\n",
        "                else:\n                    raise\n",
        "one marker that cannot be read stops the whole queue",
        RUNS,
    ),
    Bug(
        "running-programs-counted-for-ever",
        _RUNNER,
        "        self._counts.running -= 1\n        if end is None:\n",
        "        if end is None:\n",
        "each program that has ended takes one of the places for ever",
        RUNS,
    ),
    Bug(
        "failed-program-forgotten",
        _RUNNER,
        "            self._log_not_counted(task, end, pause)\n        self._rest(task, pause)\n",
        "            self._log_not_counted(task, end, pause)\n",
        "a program that has failed is not started again",
        RUNS,
    ),
    Bug(
        "retry-timer-not-set-again",
        _RUNNER,
        "        if self._resting:\n            self._wake_later()\n        self._go_on()\n",
        "        self._go_on()\n",
        "of several files that wait for another try, one is tried",
        RUNS,
    ),
    Bug(
        "journal-lines-lost",
        "observability.journal",
        "        self._lines = self._taken + self._lines\n        self._taken = []\n",
        "        self._taken = []\n",
        "lines of the journal that could not be written are dropped",
        AGREE,
    ),
    Bug(
        "journal-lines-twice",
        "observability.journal",
        "        self._taken, self._lines = self._lines, []\n",
        "        self._taken = [*self._lines]\n",
        "lines of the journal are written twice",
        AGREE,
    ),
    Bug(
        "refused-counted-twice",
        "observability.counters",
        "        end[0] += 1\n",
        '        end[0] += 1 + (ended.outcome == "refused")\n',
        "the metrics count each refused upload twice",
        AGREE,
    ),
    Bug(
        "aborted-not-reported",
        "core.lifecycle",
        "    _abort(upload)\n    upload.sender.report_aborted()\n",
        "    _abort(upload)\n    upload.sender.report_unused()\n",
        "an upload that was broken off is not reported",
        AGREE,
    ),
    Bug(
        "object-of-lost-answer-left",
        _OBJECT,
        "        except (Unreachable, Throttled):  # it may have been carried out\n"
        "            self._visible = True\n            raise\n"
        "        self._visible, self._identity = True, None\n",
        "        except (Unreachable, Throttled):  # it may have been carried out\n"
        "            self._identity = None\n            raise\n"
        "        self._visible, self._identity = True, None\n",
        "an object whose completion was answered too late stays although its sender was refused",
        "who was refused has nothing stored",
    ),
    Bug(
        "completed-twice-as-two-objects",
        _OBJECT,
        "        self._check_wanted()\n        assert self._about is not None\n"
        "        assert self._identity is not None\n",
        "        self._check_wanted()\n        assert self._about is not None\n"
        "        assert self._identity is not None\n"
        '        self._bucket.put(self._name + "-1", [b""], self._about)\n',
        "an upload becomes two objects",
        "each file is stored once, under a name of its own",
    ),
    Bug(
        "pending-never-aborted",
        "stores.s3.pending",
        "            self._uploads.not_aborted(name, identity)\n            raise\n"
        "        self._uploads.ended(identity)\n",
        "            raise\n        self._uploads.ended(identity)\n",
        "a multipart upload that could not be aborted at once is never aborted",
        PENDING,
    ),
    Bug(
        "multipart-of-refused-left",
        _OBJECT,
        "                self._bucket.abort(self._name, identity)\n",
        "                pass\n",
        "the multipart upload of a sender that was refused stays pending",
        PENDING,
    ),
)
"""In no particular order."""
