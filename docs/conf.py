"""How the pages are built: ``tox -e docs``, or ``sphinx-build -W docs docs/_build``.

Nothing is fetched while building, so there is no intersphinx: names of the standard library are shown without links.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from async_plus import __version__

project = "async_plus"
author = "async_plus contributors"
copyright = author  # noqa: A001  # that is what Sphinx calls it
version = release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "docstrings", "command_line", "benchmark_figures"]
exclude_patterns = ["_build"]
default_role = "py:obj"
# Of what only "::" announces: commands, mostly, and output.
highlight_language = "none"

# Types are part of the signatures, in short names, and one parameter a line where a line would be too long. (Those of
# overloaded functions are written out in the pages, without types; tests/test_docs.py compares them.)
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"async_plus {version}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
