"""
Bugs in connections: their ends, their deadlines, what they take, and how a daemon stops.
"""

from __future__ import annotations

from tests.simulation.planted.bug import Bug

__all__ = ["BUGS"]

_TRANSPORT = "net.transport"
_RAW = "frontends.raw.protocol"
_READER = "stores.directory.socket_reader"

NO_HALF_FILES = "an upload that was broken off is not stored"
ENDS = "no state of a connection is without a deadline"
GIVEN_BACK = "memory, descriptors and slots are bounded, and are given back"
SERVED = "honest senders are served when nothing is in their way"
TOLD_THE_SAME = "who was refused has nothing stored"

BUGS = (
    Bug(
        "reset-taken-for-half-close",
        _TRANSPORT,
        "        except OSError:\n            return CONNECTION_LOST\n        if not size:\n",
        "        except OSError:\n            size = 0\n        if not size:\n",
        "a connection that is reset ends the file",
        NO_HALF_FILES,
    ),
    Bug(
        "reset-before-accept-taken-for-half-close",
        "net.acceptor",
        "        except OSError:\n            return size, True\n",
        "        except OSError:\n            return size, False\n",
        "a connection that is reset before it is served ends the file",
        NO_HALF_FILES,
    ),
    Bug(
        "reset-lost-while-spliced",
        _READER,
        "            return SpliceResult(size, lost=True)\n",
        "            return SpliceResult(size, dry=True)\n",
        "a reset that the store has read looks like the end afterwards",
        NO_HALF_FILES,
    ),
    Bug(
        "nothing-there-taken-for-end",
        _TRANSPORT,
        "        except BlockingIOError:\n            return None\n        except OSError:\n"
        "            return CONNECTION_LOST\n",
        "        except BlockingIOError:\n            size = 0\n        except OSError:\n"
        "            return CONNECTION_LOST\n",
        "EAGAIN is taken for the end of the file",
        SERVED,
    ),
    Bug(
        "nothing-there-taken-for-end-at-accept",
        "net.acceptor",
        "        except BlockingIOError:\n            pass\n        except OSError:\n"
        "            return size, True\n        return size, None\n",
        "        except BlockingIOError:\n            return size, False\n        except OSError:\n"
        "            return size, True\n        return size, None\n",
        "EAGAIN is taken for the end of the file, when it is accepted",
        NO_HALF_FILES,
    ),
    Bug(
        "hang-up-of-unix-socket-ignored",
        "net.half_close",
        "    if isinstance(transport.getHost(), UNIXAddress) and sockets",
        "    if False and isinstance(transport.getHost(), UNIXAddress) and sockets",
        "half a file of a sender at a unix socket that died is stored",
        NO_HALF_FILES,
    ),
    Bug(
        "urgent-data-loop",
        _READER,
        "        if received == 0 or (received == _NOTHING and waited):\n",
        "        if received == 0:\n",
        "a thread reads again and again what follows urgent data, and cannot be read so",
        "no loop is without progress",
    ),
    Bug(
        "idle-timeout-never-started",
        "net.timeouts",
        "            if self._timer is None:\n                self._set(self._seconds)\n",
        "",
        "no idle sender is ever noticed",
        ENDS,
    ),
    Bug(
        "next-idle-timeout-not-started",
        "net.timeouts",
        "                if self._timer is not None:  # set by a sender that started meanwhile\n"
        "                    self._timer.cancel()\n"
        "                self._set(left)\n"
        "                return\n",
        "                return\n",
        "after the first look, no idle sender is noticed any more",
        ENDS,
    ),
    Bug(
        "lingering-without-deadline",
        _RAW,
        "        self.transport.resumeProducing()\n"
        "        self._active_settings.lingering.restart(self)\n",
        "        self.transport.resumeProducing()\n",
        "a refused sender that does not close keeps its connection for ever",
        ENDS,
    ),
    Bug(
        "idle-timeout-not-stopped",
        _RAW,
        "            self._half_closed = True\n            self._idle_timeouts.cancel(self)\n"
        "            self._minimum_rate = None\n",
        "            self._half_closed = True\n            self._minimum_rate = None\n",
        "a sender that waits for a slow store is refused as idle",
        SERVED,
    ),
    Bug(
        "idle-while-paused",
        _RAW,
        "            self.paused = True\n            self._idle_timeouts.cancel(self)\n",
        "            self.paused = True\n",
        "a sender that the store has paused is refused as idle",
        SERVED,
    ),
    Bug(
        "store-without-deadline",
        "frontends.sender",
        "        if not self._waiting.is_too_long(now, self.size):\n            return False\n"
        "        self.refuse(StoreFailed())\n        return True\n",
        "        return False\n",
        "a sender waits for a stalled store for ever",
        ENDS,
    ),
    Bug(
        "low-water-mark-left",
        "frontends.splice",
        "            if self._transport.connected:\n                self._wake_for(1)\n",
        "            pass\n",
        "SO_RCVLOWAT is not reset: a sender that slows down hears `timeout`",
        SERVED,
    ),
    Bug(
        "lent-socket-counted-for-ever",
        "frontends.splice",
        "        self.active = False\n        self._slots.splices -= 1\n",
        "        self.active = False\n",
        "each lent socket takes one of the places for them for ever",
        GIVEN_BACK,
    ),
    Bug(
        "lent-socket-not-closed",
        "frontends.splice",
        "        self._close(descriptor)\n        if isinstance(result, Failure):\n",
        "        if isinstance(result, Failure):\n",
        "the duplicate of each lent socket stays open",
        GIVEN_BACK,
    ),
    Bug(
        "slot-leaks",
        "frontends.connections",
        "        elif connection.slot is not None:\n            connection.slot.release()\n",
        "",
        "the slot of a connection is not given back when it ends",
        GIVEN_BACK,
    ),
    Bug(
        "slot-of-unanswered-leaks",
        "frontends.connections",
        "            del self._unanswered[connection]\n"
        "            if connection.slot is not None:\n"
        "                connection.slot.release()\n",
        "            del self._unanswered[connection]\n",
        "the slot of a sender that did not wait is not given back",
        GIVEN_BACK,
    ),
    Bug(
        "drain-ends-at-once",
        "frontends.connections",
        "        return self._wait_in(self._drained)\n",
        "        done: Deferred[None] = Deferred()\n"
        "        done.callback(None)\n"
        "        return done\n",
        "a stop refuses uploads in flight at once instead of letting them finish",
        "uploads in flight may finish when a daemon stops",
    ),
    Bug(
        "reload-drops-connections",
        "daemon.service",
        "            frontend.slots.change(slots)\n",
        "            frontend.slots.change(slots)\n            frontend.abort_the_rest()\n",
        "a reload resets all connections",
        "a reload applies to new connections only",
    ),
    Bug(
        "refused-and-stored",
        "core.lifecycle",
        "def abort_and_tell(upload: _Upload, refusal: UploadRefused) -> None:\n"
        "    _abort(upload)\n",
        "def abort_and_tell(upload: _Upload, refusal: UploadRefused) -> None:\n"
        "    if upload.incoming is not None:\n        upload.incoming.commit()\n",
        "what was refused is stored",
        TOLD_THE_SAME,
    ),
    Bug(
        "expectation-refused-body-stored",
        "frontends.http.plain",
        "        if refusal is None:\n            exchange.accept_body(upload)\n        else:\n"
        "            upload.refuse(refusal)\n",
        "        if refusal is None or refusal.code == 'too-large':\n"
        "            upload._max_size = 0\n"
        "            exchange.accept_body(upload)\n"
        "        else:\n            upload.refuse(refusal)\n",
        "a body that is larger than allowed is stored although its length was known",
        "no file is larger than the maximum size",
    ),
    Bug(
        "short-body-stored",
        "frontends.http.transaction",
        "        self._http.ended(self)\n        if reader is not None:\n"
        "            reader.broke_off()\n",
        "        self._http.ended(self)\n        if reader is not None:\n"
        "            reader.ended({})\n",
        "a body that is shorter than its Content-Length is stored",
        NO_HALF_FILES,
    ),
    Bug(
        "wrong-digest-stored",
        "frontends.http.body_upload",
        "            self._digests.verify(trailers)\n        except UploadRefused as refusal:\n",
        "            pass\n        except UploadRefused as refusal:\n",
        "a body is stored whose Content-Digest is another one",
        "bytes with a wrong checksum are not stored",
    ),
    Bug(
        "pipelined-request-swallowed",
        "frontends.http.transaction",
        "            data = http.take(length)\n            self.size = length\n",
        "            data = http.take(sys.maxsize)[:length]\n            self.size = length\n",
        "a request that follows at once in the same segment is dropped",
        SERVED,
    ),
    Bug(
        "progress-checked-once",
        "frontends.frontend",
        "        return CHECK_INTERVAL if self.all_there else None\n",
        "        return None\n",
        "there is one check for stores and senders that are too slow, and no other",
        ENDS,
    ),
)
"""In no particular order."""
