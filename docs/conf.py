"""Sphinx's settings for the documentation; ``make docs`` builds it, without network."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]

project = "Velox"
author = "The Velox developers"
copyright = author
html_title = "Velox"

extensions = ["myst_parser", "velox_docs"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_ext"]

# Links between pages are written as GitHub reads them.
myst_heading_anchors = 5
myst_enable_extensions = ["attrs_block"]

# `name` in a docstring means an object where there is one of that name, and code elsewhere.
default_role = "py:obj"
add_module_names = False
smartquotes = False  # options begin with two hyphens
# Several modules have a class of one name; an annotation then links to none of them.
suppress_warnings = ["ref.python"]
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 88
c_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
highlight_language = "text"

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["velox.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
