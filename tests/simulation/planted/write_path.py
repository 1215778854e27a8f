"""
Bugs in how a file is written, synced and published, and in what cleans up after a crash.
"""

from __future__ import annotations

from tests.simulation.planted.bug import Bug

__all__ = ["BUGS"]

_COMMIT = "stores.directory.commit_batch"
_FILE = "stores.directory.partial_file"
_FOLDER = "stores.directory.folder"
_QUEUE = "stores.directory.file_queue"

DURABLE = "a file whose sender was told success is whole and durable"
NOTHING_PARTIAL = "nothing partial is ever visible"
ONCE = "each file is stored once, under a name of its own"
TOLD_THE_SAME = "who was refused has nothing stored"
NOTHING_LEFT = "nothing is left of what was not stored"
SERVED = "honest senders are served when nothing is in their way"

BUGS = (
    Bug(
        "file-not-synced",
        _FILE,
        "        if not self.marks:\n            return (self.descriptor,)\n",
        "        if not self.marks:\n            return ()\n",
        "the file is not synced before it is published",
        DURABLE,
    ),
    Bug(
        "folder-not-synced",
        _COMMIT,
        "return folder.durable and folder.sync_folder and any(",
        "return False and folder.durable and folder.sync_folder and any(",
        "the folder is not synced after the file has been published",
        DURABLE,
    ),
    Bug(
        "answer-before-folder-sync",
        "stores.directory.group_commit",
        "            if self._is_for_the_next(ours.together):\n                return False\n",
        "            if self._is_for_the_next(ours.together):\n                return True\n",
        "success is told before the next batch has synced the folder",
        DURABLE,
    ),
    Bug(
        "rename-before-sync",
        _COMMIT,
        "        cover = self._cover(record)\n        if folder.durable:\n",
        "        cover = self._cover(record)\n"
        "        for part, error in zip(self._parts, self._errors, strict=True):\n"
        "            if error is None and folder.by_rename:\n"
        "                name = part._intended_name()\n"
        "                folder.files.rename(folder.incoming, part._name, folder.final, name)\n"
        "                part._published = name\n"
        "        if folder.durable:\n",
        "the file has its final name before it is synced",
        NOTHING_PARTIAL,
    ),
    Bug(
        "file-sync-error-ignored",
        _COMMIT,
        "            error = errors[descriptor]\n"
        "            if error is not None and self._errors[index] is None:\n",
        "            error = None\n"
        "            if error is not None and self._errors[index] is None:\n",
        "EIO of a file's fsync is ignored",
        DURABLE,
    ),
    Bug(
        "sync-repeated-until-it-works",
        _FOLDER,
        "        return sync_one_by_one(self.files.fsync, descriptors)\n",
        "        sync_one_by_one(self.files.fsync, descriptors)\n"
        "        return sync_one_by_one(self.files.fsync, descriptors)\n",
        "a failed fsync is repeated, and the kernel reports an error only once",
        DURABLE,
    ),
    Bug(
        "folder-sync-error-ignored",
        _COMMIT,
        "            except Exception as error:\n                errors[folder.final] = error\n",
        "            except Exception:\n                errors[folder.final] = None\n",
        "EIO of the folder's fsync is ignored",
        DURABLE,
    ),
    Bug(
        "other-threads-sync-error-ignored",
        _COMMIT,
        "        if error is None and len(sync_errors) > self._sync_errors:\n",
        "        if False and len(sync_errors) > self._sync_errors:\n",
        "another thread was told the error of the folder, and this one success",
        DURABLE,
    ),
    Bug(
        "short-write-taken-for-all",
        _FILE,
        "            if written == len(chunks[0]) and len(chunks) == 1:\n                return\n",
        "            if len(chunks) == 1:\n                return\n",
        "the rest is dropped after a short write",
        DURABLE,
    ),
    Bug(
        "short-write-counted-whole",
        _FILE,
        "            self._size += written\n",
        "            self._size += sum(map(len, chunks))\n",
        "a short write counts as all of its bytes, and so do those that follow",
        "the size that is told is that of the file",
    ),
    Bug(
        "rest-after-short-write-shifted",
        _FILE,
        "                chunks[0] = memoryview(chunks[0])[written:]\n",
        "                chunks[0] = memoryview(chunks[0])[written - 1 :]\n",
        "a byte is written twice after a short write",
        DURABLE,
    ),
    Bug(
        "given-up-file-stays",
        "stores.directory.incoming",
        "        if self._over:\n            self._discard()\n            return\n        try:\n",
        "        if self._over:\n            return\n        try:\n",
        "a file that was published after its sender had been refused stays",
        TOLD_THE_SAME,
    ),
    Bug(
        "aborted-upload-committed",
        "core.lifecycle",
        "def abort(upload: _Upload) -> None:\n    _abort(upload)\n",
        "def abort(upload: _Upload) -> None:\n    commit(upload)\n",
        "an upload whose connection broke is published",
        NOTHING_PARTIAL,
    ),
    Bug(
        "vanished-file-made-of-its-rest",
        _COMMIT,
        "        return self._uploads[index][0].repeatable\n",
        "        return True\n",
        "a large file whose temporary name vanished is made again of its last bytes",
        DURABLE,
    ),
    Bug(
        "pieces-in-wrong-order",
        _QUEUE,
        "            if self._crumbs:\n                self._gather()\n"
        "            self._pieces.append(data)\n",
        "            self._pieces.append(data)\n",
        "a long piece overtakes the short ones before it",
        DURABLE,
    ),
    Bug(
        "digest-of-first-piece",
        _FILE,
        "            for chunk in chunks:\n                self._hash.update(chunk)\n",
        "            for chunk in chunks[:1]:\n                self._hash.update(chunk)\n",
        "the SHA-256 in the receipt is that of a part of the file",
        "a receipt tells the SHA-256 of the file",
    ),
    Bug(
        "sweep-stops-at-foreign-name",
        _FOLDER,
        "        match = _TEMPORARY.match(name)\n        if match is None:\n            continue\n",
        "        match = _TEMPORARY.match(name)\n        if match is None:\n            break\n",
        "`break` for `continue`: the sweep ends at the first name that is no leftover",
        NOTHING_LEFT,
    ),
    Bug(
        "sweep-takes-living-files",
        _FOLDER,
        "        if not lives[owner]:\n"
        "            removed += _remove_unlocked(files, incoming, name)\n",
        "        files.unlink(incoming, name)\n        removed += 1\n",
        "the sweep of another worker removes the files of living ones",
        SERVED,
    ),
    Bug(
        "large-file-not-locked",
        _FILE,
        "            if not locked:\n                return descriptor\n",
        "            return descriptor\n",
        "unfinished files are not locked: on another machine the sweep takes them",
        SERVED,
    ),
    Bug(
        "names-not-recorded",
        _COMMIT,
        "        if record is None or latest <= record.covered:\n",
        "        if record is None or True:\n",
        "names that were given out are not recorded",
        ONCE,
    ),
    Bug(
        "recorded-names-not-read",
        "stores.directory.name_record",
        "            self.floor = int(entry)\n",
        "            self.floor = 0\n",
        "a start does not go on after the names that were given out",
        ONCE,
    ),
    Bug(
        "workers-share-an-entry",
        "stores.directory.name_record",
        "        if not files.is_claimed(incoming, _FIRST_CLAIM + number):\n            break\n",
        "        if True:\n            break\n",
        "all workers use the same entry of the record, and the same serials",
        ONCE,
    ),
    Bug(
        "descriptor-of-discarded-file-left",
        _FILE,
        "            descriptor, self._descriptor = self._descriptor, None\n"
        "            with contextlib.suppress(OSError):\n"
        "                folder.files.close(descriptor)\n",
        "            self._descriptor = None\n",
        "a file descriptor is left for each upload that was broken off",
        "memory, descriptors and slots are bounded, and are given back",
    ),
    Bug(
        "temporary-file-of-discarded-left",
        _FILE,
        "        if self._name is not None:\n"
        "            folder.remove_unfinished(self._name)\n"
        "            self._name = None\n"
        "        if self._descriptor",
        "        if self._descriptor",
        "the temporary file of an upload that was broken off is left",
        NOTHING_LEFT,
    ),
    Bug(
        "memory-of-written-bytes-kept",
        _QUEUE,
        "        memory = self._store.memory\n        memory.give_back(self._writing_size)\n",
        "        memory = self._store.memory\n",
        "bytes that have been written count as held for ever",
        "memory, descriptors and slots are bounded, and are given back",
    ),
    Bug(
        "memory-of-aborted-kept",
        _QUEUE,
        "        if self._over:\n"
        "            self._store.memory.give_back(self._waiting)\n        else:",
        "        if self._over:\n            pass\n        else:",
        "the memory of an upload that was broken off is not given back",
        "memory, descriptors and slots are bounded, and are given back",
    ),
    Bug(
        "sender-never-resumed",
        _QUEUE,
        "            if self._waiting + self._writing_size < MOST_HELD:\n"
        "                self._resume()\n",
        "            pass\n",
        "a sender that was paused for back-pressure is never read again",
        SERVED,
    ),
    Bug(
        "commit-during-splice-forgotten",
        _QUEUE,
        "        if self._told is not None and not self._busy and not self._over:\n"
        "            self._start_commit()\n",
        "",
        "an upload that ends while the store reads its socket is never committed",
        SERVED,
    ),
)
"""In no particular order."""
