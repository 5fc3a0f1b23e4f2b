"""Sphinx settings: Markdown pages through MyST, every warning an error (`make docs`)."""

from importlib.metadata import version as installed_version

project = "Dayfly"
author = "the Dayfly authors"
project_copyright = "the Dayfly authors, Apache-2.0"
version = release = installed_version("dayfly")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
myst_enable_extensions = ["attrs_inline", "deflist", "fieldlist"]
myst_heading_anchors = 4
suppress_warnings = [
    "misc.highlighting_failure"
]  # tag rules and token excerpts are shown as code without a lexer

html_theme = "alabaster"
html_theme_options = {"description": "Profile fragments that destroy themselves", "fixed_sidebar": True}
