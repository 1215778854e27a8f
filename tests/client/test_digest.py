"""
Hashing while sending.
"""

from __future__ import annotations

import hashlib
import os

from hypothesis import given, settings
from hypothesis import strategies as st

from twisted_upload.client.digest import INLINE, Digest


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, INLINE), max_size=40))
def test_any_chunks(sizes: list[int]) -> None:
    """Any chunks, hashed inline or in the thread, give the hash of their concatenation."""
    digest, content = Digest(), b""
    for size in sizes:
        chunk = os.urandom(16) + bytes(size)
        content += chunk
        digest.update(chunk)
    assert digest.hexdigest() == hashlib.sha256(content).hexdigest()
    digest.close()


def test_hash_at_any_time() -> None:
    """The hash is available at any time, and more chunks may follow."""
    digest = Digest()
    digest.update(bytes(2 * INLINE))
    assert digest.hexdigest() == hashlib.sha256(bytes(2 * INLINE)).hexdigest()
    digest.update(b"more")
    assert digest.hexdigest() == hashlib.sha256(bytes(2 * INLINE) + b"more").hexdigest()
    digest.close()
