"""
Bugs in uploads that can be resumed: offsets, records, locks, turns.
"""

from __future__ import annotations

from tests.simulation.planted.bug import Bug

__all__ = ["BUGS"]

_FILE = "stores.directory.resumable_file"
_OPEN = "stores.directory.resumable_open"

OFFSETS = "the bytes before an offset that was told are on the disk, and it never goes back"
CONTENT = "a stored file has the bytes that its sender sent, in their order"

BUGS = (
    Bug(
        "partial-data-not-synced",
        _FILE,
        "        if self.folder.durable and self._size > self.committed:\n"
        "            self.folder.files.datasync(self.descriptor)\n",
        "",
        "an offset is told before the bytes are synced",
        OFFSETS,
    ),
    Bug(
        "record-not-synced",
        "stores.directory.partial_record",
        "        if durable:\n            self.sync()\n        self.renew",
        "        self.renew",
        "an offset is told before its record is synced",
        OFFSETS,
    ),
    Bug(
        "record-before-data",
        _FILE,
        "        if self.folder.durable and self._size > self.committed:\n"
        "            self.folder.files.datasync(self.descriptor)\n"
        "        state = self.log.state._replace("
        "phase=OPEN, offset=self._size, expires=self.log.expires)\n"
        "        self.write_state(state)\n",
        "        state = self.log.state._replace("
        "phase=OPEN, offset=self._size, expires=self.log.expires)\n"
        "        self.write_state(state)\n"
        "        if self.folder.durable and self._size > self.committed:\n"
        "            self.folder.files.datasync(self.descriptor)\n",
        "the new offset is durable before its bytes are",
        OFFSETS,
    ),
    Bug(
        "creation-not-synced",
        _OPEN,
        "        at.sync()\n        log.until = until\n",
        "        log.until = until\n",
        "the folder is not synced before the URL of an upload is told",
        OFFSETS,
    ),
    Bug(
        "publishing-record-not-synced",
        _FILE,
        "        return (*super().descriptors, self.log.descriptor)\n",
        "        return super().descriptors\n",
        "the record is not synced before a complete upload is published",
        "what was stored is told to be stored, also after a crash",
    ),
    Bug(
        "found-published-not-synced",
        _OPEN,
        "            folder.files.fsync(folder.final)\n        except OSError as error:\n",
        "            pass\n        except OSError as error:\n",
        "an upload that turns out to be published is told as stored before that is durable",
        "a file whose sender was told success is whole and durable",
    ),
    Bug(
        "offset-in-record-off-by-one",
        _FILE,
        "phase=OPEN, offset=self._size, expires=self.log.expires)\n"
        "        self.write_state(state)\n",
        "phase=OPEN, offset=max(0, self._size - 1), expires=self.log.expires)\n"
        "        self.write_state(state)\n",
        "the record counts a byte less than was told",
        OFFSETS,
    ),
    Bug(
        "resumed-from-the-beginning",
        _OPEN,
        "            files.seek(data, state.offset)\n",
        "",
        "what follows after a resumption is written over the beginning",
        CONTENT,
    ),
    Bug(
        "uncommitted-bytes-kept",
        _OPEN,
        "                files.truncate(data, state.offset)\n"
        "            files.seek(data, state.offset)\n",
        "            files.seek(data, size)\n",
        "bytes that were written and not committed stay before those that are sent again",
        CONTENT,
    ),
    Bug(
        "aborted-bytes-kept",
        _FILE,
        "        if self._size > self.committed:\n"
        "            if files.links(self._descriptor) == 1:  # otherwise, its next user copies it\n"
        "                files.truncate(self._descriptor, self.committed)\n"
        "            self._size = self.committed\n",
        "",
        "bytes that were discarded take space, uncounted, until the next request or the expiry",
        "what was discarded of an upload takes no space",
    ),
    Bug(
        "stale-offset-accepted",
        "frontends.http.tus.upload",
        "    elif partial.offset != at:\n",
        "    elif partial.offset < at:\n",
        "a PATCH with an earlier offset than the committed one is appended",
        CONTENT,
    ),
    Bug(
        "conflict-of-writers-not-noticed",
        "frontends.http.tus.appending",
        "    elif append.offset != body.partial.offset:  # another writer was faster\n",
        "    elif False:\n",
        "a second writer appends after the bytes of the first",
        CONTENT,
    ),
    Bug(
        "turn-not-taken",
        "stores.turns",
        "        current = self._current.get(key)\n        if current is None:\n"
        "            return succeed(self._give(key))\n",
        "        current = self._current.get(key)\n        if True:\n"
        "            return succeed(self._give(key))\n",
        "two requests use an upload at the same time",
        CONTENT,
    ),
    Bug(
        "record-not-locked",
        _OPEN,
        "        if not files.lock(descriptor):\n            raise InUse\n",
        "",
        "two workers use an upload at the same time",
        CONTENT,
    ),
    Bug(
        "claim-not-heard",
        "stores.directory.partial_uses",
        "            if not at.files.is_claimed(at.descriptor):\n                return []\n",
        "            return []\n",
        "a worker never gives up an upload that another one asks for",
        "who resumes an upload gets it within seconds",
    ),
    Bug(
        "checksum-not-verified",
        "frontends.http.tus.checksums",
        "            if not hmac.compare_digest(digest, expected.digest):\n"
        "                raise DigestMismatch\n",
        "",
        "a body whose checksum is wrong is appended",
        "bytes with a wrong checksum are not stored",
    ),
    Bug(
        "body-with-checksum-committed-early",
        "frontends.http.tus.appending",
        "        return self.creating or bool(self.checks)\n",
        "        return self.creating\n",
        "the bytes of a body that was cut off are committed before its checksum has come",
        "bytes with a wrong checksum are not stored",
    ),
    Bug(
        "parts-in-wrong-order",
        "stores.directory.concatenation",
        "        self._keys = [key_of(identity) for identity in identities]\n",
        "        self._keys = [key_of(identity) for identity in sorted(identities)]\n",
        "a concatenation has its parts in another order than was asked for",
        CONTENT,
    ),
    Bug(
        "removal-takes-stored-file",
        "stores.directory.partials",
        '            raise Busy("this upload is being concatenated; try again later")\n',
        '            raise Busy("this upload is being concatenated; try again later")\n'
        "        if part.is_stored:\n"
        "            folder = part.at.folder\n"
        "            folder.files.unlink(folder.final, part.log.state.name)\n",
        "DELETE of an upload that is stored removes its file",
        "what was visible stays",
    ),
    Bug(
        "expired-never-removed",
        "stores.directory.partial_keeper",
        "        if self._started and self._timer is None:\n"
        "            self._timer = self._clock.callLater(SCAN_EVERY, self._again)\n",
        "        pass\n",
        "there is one scan for uploads that have expired, and no other",
        "what was not completed in time is removed",
    ),
    Bug(
        "repeated-concatenation-stored-twice",
        "stores.directory.concatenation",
        "    return partials.repeats.once(terms, identities, begin)\n",
        "    return begin()\n",
        "a concatenation that is asked for again, because its answer was lost, is stored again",
        "each file is stored once, under a name of its own",
    ),
    Bug(
        "stored-upload-reported-twice",
        "frontends.http.tus.request",
        "            for ended in outcomes:\n",
        "            for ended in outcomes + outcomes[:1]:\n",
        "an outcome of a resumable upload is told to the log, the journal and the metrics twice",
        "each upload has one outcome, and everybody is told the same",
    ),
    Bug(
        "completed-and-not-published",
        "stores.directory.partials",
        "    return part.is_complete and not part.is_stored and not part.is_part\n",
        "    return False\n",
        "an upload that is complete, and not stored yet, such as one of length 0, is never stored",
        "honest senders are served when nothing is in their way",
    ),
)
"""In no particular order."""
