"""
How the site is built: ``sphinx-build -W --keep-going -b html docs build/docs``.
"""

import sys
from pathlib import Path

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
# GitHub makes the same anchors, so that a link works there and here.
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_display_short_literal_types = True

html_theme = "furo"
html_title = "twisted-upload"
html_static_path = ["_static"]
html_css_files = ["site.css"]
# The built site is the same for the same sources.
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
