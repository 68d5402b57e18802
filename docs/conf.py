"""The site: MyST pages, and an API reference read from the docstrings. Builds without a network."""

import importlib.metadata
from typing import Any

from sphinx.application import Sphinx

project = "Aleator"
author = "The Aleator developers"
copyright = "The Aleator developers"
release = version = importlib.metadata.version("aleator")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
# A name in single backticks is linked where it is one of ours, and is plain text otherwise.
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"Aleator {release}"
html_copy_source = False


def keep_formulas(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Show an indented paragraph as it is written: in our docstrings it is a formula or a piece of code."""
    # In an attribute's first line napoleon takes what is before a colon for a type: let that line be an empty comment.
    kept: list[str] = ["..", ""] if what == "attribute" else []
    for index, line in enumerate(lines):
        if line.startswith(" ") and index > 1 and not lines[index - 1] and lines[index - 2][:1].strip():
            kept += ["::", ""]
        kept.append(line)
    lines[:] = kept


def setup(app: Sphinx) -> None:
    """Register what a docstring goes through before napoleon reads it."""
    app.connect("autodoc-process-docstring", keep_formulas, priority=400)
