"""
The three ways in which a Python program uploads: one behaviour, tested once for each.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Any

from tests.support.waiting import in_thread
from twisted_upload import aio, sync, upload
from twisted_upload.interfaces import Receipt

__all__ = ["Flavour"]


class Flavour(Enum):
    """A way in which a program uploads."""

    TWISTED = "twisted"
    AIO = "aio"
    SYNC = "sync"

    async def upload(self, source: Any, target: str, **options: Any) -> Receipt:
        """Upload so, and return the receipt."""
        if self is Flavour.TWISTED:
            return await upload(source, target, **options)
        if self is Flavour.AIO:
            return await in_thread(lambda: asyncio.run(aio.upload(source, target, **options)))
        return await in_thread(lambda: sync.upload(source, target, **options))

    async def error_of(self, source: Any, target: str, **options: Any) -> BaseException:
        """Upload so, and return the error."""
        try:
            await self.upload(source, target, **options)
        except BaseException as error:
            return error
        raise AssertionError("it did not fail")
