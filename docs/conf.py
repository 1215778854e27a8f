"""
Configuration of the site; build it with ``sphinx-build -W --keep-going -b html docs build/docs``.
"""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from twisted_upload.version import VERSION  # noqa: E402 - from this checkout

project = "twisted-upload"
author = "the twisted-upload authors"
version = release = VERSION

extensions = ["myst_parser", "sphinx.ext.autodoc", "docs.site.interfaces"]
exclude_patterns = ["man", "site"]
# Options begin with two hyphens, which must not become a dash.
smartquotes = False
default_role = "py:obj"
# GitHub makes the same anchors, so links work on both.
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_maximum_signature_line_length = 80

html_theme = "furo"
html_title = "twisted-upload"
html_static_path = ["_static"]
html_css_files = ["site.css"]
# Make the build reproducible.
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False


def _as_written(_: Any, what: str, name: str, it: Any, *rest: Any) -> tuple[str, str] | None:
    """Show annotations as in the source: autodoc does not know interfaces as types."""
    if what != "function":
        return None
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(it)))
    arguments, _arrow, returns = text.rpartition(" -> ")
    return arguments, returns


def setup(app: Any) -> None:
    """Register the signature hook with Sphinx."""
    app.connect("autodoc-process-signature", _as_written)
