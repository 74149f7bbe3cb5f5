"""Sphinx configuration of the documentation: ``make docs``."""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import build_reference
from docutils import nodes
from sphinx.addnodes import download_reference
from sphinx.application import Sphinx
from sphinx.ext.napoleon.docstring import GoogleDocstring

import unistep

project = "Unistep"
author = "The Unistep authors"
copyright = "The Unistep authors, Apache-2.0"
version = release = unistep.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
]
# Links to files outside the documentation, which GitHub shows, lead nowhere on the site; a test checks that they exist.
suppress_warnings = ["myst.xref_missing"]
exclude_patterns = ["_build", "**/.ipynb_checkpoints", "images/README.md"]
html_theme = "furo"
html_title = "Unistep"
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}

# Markdown as GitHub shows it: the same formulas, tables and heading links.
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

# The tutorials run when they have changed; their outputs are kept in the cache below `_build`.
nb_execution_mode = "cache"
nb_execution_cache_path = str(Path(__file__).parent / "_build" / "notebooks")
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True
nb_number_source_lines = False
os.environ.setdefault("OMP_NUM_THREADS", "1")  # over-subscribed threads are several times slower

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature has them
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "show-inheritance": True, "ignore-module-all": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
maximum_signature_line_length = 100
python_use_unqualified_type_names = True
toc_object_entries_show_parents = "hide"


def parse_as_text(docstring: GoogleDocstring) -> None:
    """Parse docstrings of attributes as those of functions: Napoleon takes what stands before a colon for a type."""
    if docstring._what in {"attribute", "data", "property"}:
        docstring._what = "method"
    parse(docstring)


parse = GoogleDocstring._parse
GoogleDocstring._parse = parse_as_text


def show_sources(app: Sphinx, doctree: nodes.document) -> None:
    """Let links to files outside the documentation be their names: a reader of the site has the reference instead."""
    for node in list(doctree.findall(download_reference)):
        node.replace_self(nodes.inline("", "", *node.children))


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages of the reference before the documents are read, and check them afterwards."""
    app.connect("builder-inited", lambda app: build_reference.write(Path(app.srcdir) / "reference" / "api"))
    app.connect("doctree-read", show_sources)
    app.connect("env-check-consistency", build_reference.check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
