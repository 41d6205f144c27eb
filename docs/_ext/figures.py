"""A figure without an alternative text, or whose text is a file's name, fails the build."""

import re

from docutils import nodes
from sphinx.util import logging

FILE_NAME = re.compile(r"\S+\.(png|svg|jpe?g|gif|webp)", re.IGNORECASE)
log = logging.getLogger(__name__)


def complaint(alt: str | None) -> str | None:
    """Say what is wrong with an alternative text, if something is."""
    if not (alt or "").strip():
        return "a figure without an alternative text; begin its cell with `# alt: ...`"
    if FILE_NAME.fullmatch(alt.strip()):
        return f"the alternative text {alt!r} is the name of a file; say what is seen"
    return None


def _check(_app, doctree):
    for image in doctree.findall(nodes.image):
        said = complaint(image.get("alt"))
        if said:
            log.warning("%s", said, location=image, type="figure")


def setup(app):
    """Register the check."""
    app.connect("doctree-read", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
