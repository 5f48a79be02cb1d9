"""How Sphinx builds the site: `make docs`."""

import inspect
import os
import re
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import typer
from pydantic import BaseModel
from sphinx.ext.napoleon import Config, NumpyDocstring
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.typing import stringify_annotation
from typer.cli import get_docs_for_click

from ibl_mtm.cli import app as commands

project = "ibl-mtm"
author = "The ibl-mtm developers"
release = metadata.version("ibl-mtm")
html_title = "ibl-mtm"

extensions = ["myst_nb", "sphinx.ext.autodoc"]
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
html_show_copyright = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1f5fa8", "color-brand-content": "#1f5fa8"},
    "dark_css_variables": {"color-brand-primary": "#74b3f5", "color-brand-content": "#74b3f5"},
}

autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
# Called below, not an extension: it would take the words before a colon in an attribute's line for
# a type.
NAPOLEON = Config(napoleon_use_rtype=False)
# Types in a signature that no page describes: other packages', and a few of our own.
nitpick_ignore_regex = [("py:(class|data|obj)", ".*")]


def _translate_docstring(app, what, name, obj, options, lines):
    """Make reStructuredText of a docstring; the one line of an attribute is that already."""
    if what in ("attribute", "property"):
        return
    _give_returns_their_type(obj, lines)
    lines[:] = NumpyDocstring(lines, NAPOLEON, app, what, name, obj, options).lines()
    if what == "class" and issubclass(obj, BaseModel):
        lines += ["", *_list_settings(obj)]


def _give_returns_their_type(obj, lines):
    """Where a section Returns is prose, put the annotated type before it."""
    text = "\n".join(lines)
    section = re.search(r"^Returns\n-+\n((?:.+\n?)+)", text, flags=re.M)
    if section is None or "\n    " in section[1]:
        return
    kind = stringify_annotation(inspect.signature(obj).return_annotation)
    prose = textwrap.indent(section[1], "    ")
    lines[:] = f"{text[: section.start(1)]}{kind}\n{prose}{text[section.end(1) :]}".split("\n")


def _list_settings(model):
    """Each setting with its type, the comment above it in the source, and its default."""
    comments = {}
    for parent in reversed(model.__mro__):
        if issubclass(parent, BaseModel) and parent is not BaseModel:
            found = ModuleAnalyzer.for_module(parent.__module__).find_attr_docs()
            comments |= {
                key: text for (owner, key), text in found.items() if owner == parent.__name__
            }
    for name, field in model.model_fields.items():
        about = " ".join(comments.get(name, [])) or field.description or ""
        about = about[:1].upper() + about[1:].strip().rstrip(".") + (". " if about else "")
        kind = re.sub(r"~?\b(\w+\.)+(?=\w)", "", stringify_annotation(field.annotation))
        if field.is_required():
            default = "Required."
        else:
            value = field.get_default(call_default_factory=True)
            grouped = isinstance(value, BaseModel)
            default = f"See `{type(value).__name__}`." if grouped else f"Default: ``{value!r}``."
        yield f"``{name}`` : {kind}"
        yield f"    {about}{default}"
        yield ""


def _shorten_signature(app, what, name, obj, options, signature, returns):
    """Of settings: they are listed one by one."""
    if what == "class" and issubclass(obj, BaseModel):
        return "", None
    return None


def _write_commands(app):
    """The page of the command line, made from the commands themselves."""
    command = typer.main.get_command(commands)
    text = get_docs_for_click(
        obj=command, ctx=typer.Context(command), name="ibl-mtm", title="The command line"
    )
    page = Path(app.srcdir, "commands.md")
    if not page.is_file() or page.read_text(encoding="utf-8") != text:
        page.write_text(text, encoding="utf-8")


def setup(app):
    """Sphinx calls this."""
    app.connect("builder-inited", _write_commands)
    app.connect("autodoc-process-docstring", _translate_docstring)
    app.connect("autodoc-process-signature", _shorten_signature)
