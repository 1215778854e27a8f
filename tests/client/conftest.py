"""
Shared fixtures of the client's tests.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import BinaryIO

import pytest


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    """The two ends of a pipe."""
    reading, writing = os.pipe()
    with open(reading, "rb") as source, open(writing, "wb", buffering=0) as sink:
        yield source, sink
        sink.close()
