"""Sphinx's settings; what is our own lies in `_ext`, and CONTRIBUTING.md says how it is built."""

import os
import sys
from importlib import metadata
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

from docs._ext import cells, figures, sources  # noqa: E402

project = "jaxopt_tut"
author = "The jaxopt_tut developers"
copyright = author
version = release = metadata.version(project)

OURS = ("cells", "figures", "katex", "links", "mending", "reference")
extensions = ["myst_nb", "sphinx_design", "sphinx_copybutton", *(f"docs._ext.{m}" for m in OURS)]
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "_ext", "play/**", "**/README.md"]

# One page alone, with what it links to left out: `make docs PAGES=docs/learn/a1_data.md`
if pages := os.environ.get("PAGES", "").split():
    include_patterns = ["index.md", *(str((DOCS.parent / p).relative_to(DOCS)) for p in pages)]
    suppress_warnings = ["toc", "myst.xref_missing"]

myst_enable_extensions = ["colon_fence", "dollarmath", "deflist", "attrs_inline"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

nb_execution_mode = "cache"
kept = sources.kept_in(DOCS / "_build" / "cells")
nb_execution_cache_path = str(kept)
figures.keep_dark_figures_in(kept / "dark")
cells.configure_kernels_in(kept / "ipython")
nb_execution_timeout = 120
nb_execution_show_tb = True
nb_merge_streams = True
nb_mime_priority_overrides = [("html", "image/svg+xml", 5), ("html", "text/html", 10)]

smartquotes_action = "qe"  # dashes stay what they are: options of commands begin with two
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
toc_object_entries = False
highlight_language = "python"
pygments_style = "a11y-high-contrast-light"

html_theme = "pydata_sphinx_theme"
html_title = project
html_math_renderer = "katex"
html_static_path = ["_static"]
templates_path = ["_templates"]
# a page of a name has the names beside it on its room's page; in each they would be megabytes
html_sidebars = {"gallery/**": [], "reference/*/**": []}
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": project},
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "collapse_navigation": True,
    "navigation_depth": 3,
    "header_links_before_dropdown": 7,
    "show_toc_level": 2,
    "primary_sidebar_end": [],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
