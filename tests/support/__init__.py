"""
Helpers for the tests of several rooms.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["ROOT"]

ROOT = Path(__file__).parents[2]
"""The root of the checkout."""
