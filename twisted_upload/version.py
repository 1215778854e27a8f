"""
The version, defined once: the build reads it from here.

Looking it up among the installed packages (``importlib.metadata``) takes as long as
everything else that ``--version`` does.
"""

from __future__ import annotations

__all__ = ["VERSION"]

VERSION = "0.1.0"
