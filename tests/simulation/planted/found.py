"""
Bugs that were real, and that the simulation has found: each is what its fix has replaced.

For most there is a plan in `tests/simulation/regressions`, in which it breaks a promise.
"""

from __future__ import annotations

from tests.simulation.planted.bug import Bug

__all__ = ["BUGS"]

BUGS = (
    Bug(
        "found-state-that-may-be-there",
        "stores.directory.partial_record",
        "        self.unsure = True\n",
        "",
        "a record whose write failed, but had an effect, counts more bytes than there are",
        "the bytes before an offset that was told are on the disk, and it never goes back",
    ),
    Bug(
        "found-close-hides-the-reason",
        "stores.directory.folder",
        "                undo.callback(files.give_up, final)\n",
        "                undo.callback(files.close, final)\n",
        "a start that fails ends with a traceback, if a folder cannot be closed either",
        "the operator gets one line that says what to change",
    ),
    Bug(
        "found-slot-kept",
        "frontends.http.transaction",
        "        if not self.over:\n"
        "            self._end()\n"
        "            self._http.ended(self)\n"
        "        self._http.abort()\n",
        "        self._http.abort()\n",
        "a request whose place another one takes never ends if its body was complete",
        "when nobody sends anything, nothing is taken",
    ),
    Bug(
        "found-offset-of-what-is-not-stored",
        "frontends.http.tus.responses",
        "    return () if is_to_be_stored(partial) else ",
        "    return ",
        "an error tells the offset at the end of an upload that could not be stored",
        "an offset at the end means that the file is stored",
    ),
    Bug(
        "found-expires-while-it-is-written",
        "stores.partial_uploads",
        "    return lambda: expires + (now() - began) // 1\n",
        "    return lambda: expires\n",
        "an upload is gone at the end of a request that takes longer than it is kept",
        "an upload is kept for a while after its last request",
    ),
    Bug(
        "found-expired-when-it-was-created",
        "stores.directory.partial_record",
        "        if expires - self.state.expires >= STALL:\n",
        "        if False:\n",
        "an upload is gone when its client is told its URL, after a disk has been stalled",
        "an upload is kept for a while after its last request",
    ),
    Bug(
        "found-marker-with-two-names",
        "hooks.spool_scan",
        "                if not self._remove_other_names(identity):\n                    raise\n",
        "                raise\n",
        "a marker that has two names after a power cut is never run",
        "a program is started for each stored file",
    ),
    Bug(
        "found-both-names",
        "stores.directory.resumable_open",
        "    if _is_its_name(folder, _published_name(folder, log), log):\n        return True\n",
        "",
        "an upload that has both names after a power cut is published again",
        "each upload is stored once",
    ),
    Bug(
        "found-first-name-stays",
        "stores.directory.published",
        "    if not marker.partial:\n        return\n",
        "    return\n",
        "an upload whose file was put and removed has its first name after a power cut",
        "each upload is stored once",
    ),
    Bug(
        "found-program-for-no-object",
        "hooks.spool",
        "        if self._removes(marker.identity) and marker.url and self._durable:\n"
        "            with contextlib.suppress(OSError):\n"
        "                self.files.fsync(self.waiting)\n",
        "        self._removes(marker.identity)\n",
        "a marker of an object that was removed comes back after a power cut",
        "a program is started for each stored file, and for no other",
    ),
    Bug(
        "found-stored-later",
        "stores.s3.resumable",
        "self._puts.later(receipt.name) if begun else None",
        "None",
        "an upload whose object is stored after its client was told to ask again is unreported",
        "each upload ends once, and everybody is told the same",
    ),
    Bug(
        "found-reset-too-late",
        "client.connecting",
        "            if self._reset:  # from the beginning",
        "            if self._reset is None:  # from the beginning",
        "a client that dies before it has sent anything leaves an orderly end: an empty file",
        "what is not whole is not stored",
    ),
    Bug(
        "found-watch-forgets-what-it-knew",
        "client.files",
        "    files.sync_folder(above)\n",
        "",
        "the folders of a watcher's state are not synced in theirs",
        "a watched file is stored once",
    ),
    Bug(
        "found-watch-asks-for-ever",
        "client.http.tus",
        "        self._job.saved.lost()\n",
        "        self._job.saved.forget()\n",
        "a watcher asks for ever for an upload that the server does not know any more",
        "a watched file is stored",
    ),
    Bug(
        "found-journal-twice",
        "observability.journal_files",
        "                with contextlib.suppress(OSError):\n"
        "                    files.close(descriptor)\n",
        "                files.close(descriptor)\n",
        "lines are written again if the file of the journal cannot be closed",
        "each upload ends once, and everybody is told the same",
    ),
    Bug(
        "found-refused-but-visible",
        "stores.directory.incoming",
        "        return self._part.may_be_visible\n",
        "        return False\n",
        "a sender is told that it is refused when its file has its name, at the end of a stop",
        "nothing of a refused upload is visible",
    ),
    Bug(
        "found-acknowledged-taken-back",
        "stores.directory.resumable_open",
        " and key not in at.acknowledged:\n"
        "        if folder.sync_errors and _is_its_name(folder, name, log):\n"
        "            raise Busy\n"
        "        try:\n"
        "            folder.files.fsync(folder.final)\n"
        "        except OSError as error:\n",
        ":\n"
        "        try:\n"
        "            folder.files.fsync(folder.final)\n"
        "        except OSError as error:\n"
        "            at.unpublish(key, name)\n",
        "a stored upload is taken back if that could not be noted, and its folder not be synced",
        "what was acknowledged is never lost",
    ),
    Bug(
        "found-cut-off-before-it-is-taken-back",
        "stores.directory.resumable_file",
        "                if published is not None:\n"
        "                    self.at.sync_unpublished()\n",
        "",
        "an upload that is taken back is cut off, and a power cut leaves it its final name",
        "each visible file is whole",
    ),
    Bug(
        "found-visible-without-a-marker",
        "stores.directory.partial_file",
        "        end_marks(self.marks, keep=stays)\n",
        "        end_marks(self.marks, keep=False)\n",
        "a file that is given up and cannot be removed any more has no marker",
        "a program is started for each visible file",
    ),
    Bug(
        "found-swept-again-and-again",
        "stores.directory.partial_file",
        "            self._create(locked=swept)\n",
        "            self._create(locked=False)\n",
        "a small upload is refused if other machines start five times while it is stored",
        "an upload is refused only for a reason",
    ),
    Bug(
        "found-code-that-is-not-read",
        "client.http.messages",
        "_problem_in(response) or _line_in(response) or ",
        "_problem_in(response) or ",
        "a client that is told why it is rejected before its request is read says that it is busy",
        "nobody is told a reason that there is not",
    ),
    Bug(
        "found-question-is-refused",
        "client.http.upload",
        "        if finishing and not isinstance(error, OutcomeUnknown):\n",
        "        if finishing and not isinstance(error, OutcomeUnknown | UploadRefused):\n",
        "a client that may not ask what has become of its file says that it is refused",
        "nothing of a refused upload is visible",
    ),
    Bug(
        "found-reset-too-late-by-twisted",
        "client.endpoints",
        "        if connection is not None:  # otherwise",
        "        if connection is None:  # otherwise",
        "the same, if the client is Twisted's",
        "what is not whole is not stored",
    ),
)
