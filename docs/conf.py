"""How Sphinx builds the site: `make docs`."""

import inspect
import os
import re
import sys
import textwrap
from importlib import metadata
from pathlib import Path

from sphinx.util.typing import stringify_annotation

project = "ibl-mtm"
author = "The ibl-mtm developers"
release = metadata.version("ibl-mtm")
html_title = "ibl-mtm"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
# `results` is listed, but only there once the workflows have written it.
suppress_warnings = ["toc.not_readable"]
default_role = "code"
highlight_language = "none"

# The notebook runs its commands as a reader would: those of this very installation.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
os.environ["COLUMNS"] = "96"
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 180
nb_execution_raise_on_error = True
nb_merge_streams = True

myst_heading_anchors = 3

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f5fa8", "color-brand-content": "#1f5fa8"},
    "dark_css_variables": {"color-brand-primary": "#74b3f5", "color-brand-content": "#74b3f5"},
}

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
# Types in a signature that no page describes: other packages', and a few of our own.
nitpick_ignore_regex = [("py:(class|data|obj)", ".*")]


def _give_returns_their_type(app, what, name, obj, options, lines):
    """Where a section Returns is prose, put the annotated type before it, as napoleon expects."""
    text = "\n".join(lines)
    section = re.search(r"^Returns\n-+\n((?:.+\n?)+)", text, flags=re.M)
    if section is None or "\n    " in section[1]:
        return
    kind = stringify_annotation(inspect.signature(obj).return_annotation)
    prose = textwrap.indent(section[1], "    ")
    lines[:] = f"{text[: section.start(1)]}{kind}\n{prose}{text[section.end(1) :]}".split("\n")


def setup(app):
    """Sphinx calls this."""
    # Before napoleon, which listens at the usual 500.
    app.connect("autodoc-process-docstring", _give_returns_their_type, priority=400)
