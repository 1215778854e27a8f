"""
The version, said once: the build takes it from here.

To look it up in what is installed (``importlib.metadata``) takes as long as all else that
``--version`` does.
"""

from __future__ import annotations

__all__ = ["VERSION"]

VERSION = "0.1.0"
