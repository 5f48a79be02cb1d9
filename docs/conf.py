"""How Sphinx builds the site: `make docs`."""

import os
import re
import sys
from importlib import metadata
from pathlib import Path

project = "ibl-mtm"
author = "The ibl-mtm developers"
release = metadata.version("ibl-mtm")
html_title = "ibl-mtm"

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
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
# Other packages' documentation is not at hand where the site is built.
nitpick_ignore_regex = [("py:.*", r"(?!ibl_mtm).*")]


def _returns_in_prose(app, what, name, obj, options, lines):
    """Let a section Returns hold plain sentences, where napoleon expects a type."""
    text = "\n".join(lines)
    text = re.sub(r"^Returns\n-+\n((?:(?!\n\n).)+?)(?=\n\n|\Z)", _unless_typed, text, flags=re.M | re.S)
    lines[:] = text.split("\n")


def _unless_typed(section):
    body = section[1].split("\n")
    if any(line.startswith(" ") for line in body):
        return section[0]
    return ":returns: " + "\n    ".join(body)


def setup(app):
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", _returns_in_prose, priority=400)
