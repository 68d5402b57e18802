"""The site: MyST pages, and an API reference read from the docstrings. Builds without a network."""

import importlib.metadata
import os
from typing import Any

from sphinx.application import Sphinx

project = "Aleator"
author = "The Aleator developers"
copyright = "The Aleator developers"
release = version = importlib.metadata.version("aleator")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build"]
# A name in single backticks is linked where it is one of ours, and is plain text otherwise.
default_role = "py:obj"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
myst_heading_anchors = 3

# The pages of the book. The tests run them all; here they run when `make book` asks, and then show what they print.
RUN_BOOK = os.environ.get("ALEATOR_BOOK") == "run"
sphinx_gallery_conf = {
    "examples_dirs": "../examples/book",
    "gallery_dirs": "book/gallery",
    "filename_pattern": r"\.py$",
    "within_subsection_order": "FileNameSortKey",
    "plot_gallery": RUN_BOOK,
    "run_stale_examples": RUN_BOOK,
    "abort_on_example_error": True,
    # A page prints; nothing draws, and matplotlib is not there.
    "image_scrapers": (),
    "reset_modules": (),
    "capture_repr": (),
    "download_all_examples": False,
    "write_computation_times": False,
    "show_signature": False,
}

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
