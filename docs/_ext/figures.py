"""Figures need an alternative text that is no file's name; those of cells have a dark version."""

import hashlib
import os
import re
from pathlib import Path, PurePosixPath

from docutils import nodes
from PIL import Image
from sphinx.util import logging

FILE_NAME = re.compile(r"\S+\.(png|svg|jpe?g|gif|webp)", re.IGNORECASE)
SCALE = 1.6  # pixels of a picture for each one it takes up, as in jaxopt_tut/plotting/figures.py
FOLDER = "SITE_DARK_FIGURES"
log = logging.getLogger(__name__)


def complaint(alt: str | None) -> str | None:
    """Say what is wrong with an alternative text, if something is."""
    if not (alt or "").strip():
        return "a figure without an alternative text; begin its cell with `# alt: ...`"
    if FILE_NAME.fullmatch(alt.strip()):
        return f"the alternative text {alt!r} is the name of a file; say what is seen"
    return None


def keep_dark_figures_in(folder: Path) -> None:
    """Tell the kernels where dark versions go, named by the hash of the light ones."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ[FOLDER] = str(folder)


def _check(app, doctree):
    for image in list(doctree.findall(nodes.image)):
        said = complaint(image.get("alt"))
        if said:
            log.warning("%s", said, location=image, type="figure")
        light = Path(app.env.relfn2path(image["uri"], app.env.docname)[1])
        if light.suffix == ".svg" and "prefers-color-scheme" in light.read_text(encoding="utf-8"):
            image["classes"].append("dark-light")  # which has its own colours on a dark page
        kept = _dark_version_of(light)
        if kept:
            _show_both(image, light, kept)


def _dark_version_of(light: Path) -> Path | None:
    if light.suffix != ".png" or not light.is_file():
        return None
    kept = Path(os.environ[FOLDER], hashlib.sha256(light.read_bytes()).hexdigest() + ".png")
    return kept if kept.is_file() else None


def _show_both(image: nodes.image, light: Path, dark: Path) -> None:
    """Show one picture on light pages and another on dark ones, both in the smaller format."""
    width, height = Image.open(light).size
    image["width"], image["height"] = f"{width / SCALE:.0f}", f"{height / SCALE:.0f}"
    other = image.deepcopy()
    image.parent.insert(image.parent.index(image) + 1, other)
    for node, source, kind in ((image, light, "light"), (other, dark, "dark")):
        small = light.with_name(f"{light.stem}.{kind}.webp")
        if not small.is_file():
            Image.open(source).save(small, lossless=True, quality=50, method=2)
        node["uri"] = str(PurePosixPath(image["uri"]).with_name(small.name))
        node["classes"].append(f"only-{kind}")


def setup(app):
    """Register the check, ahead of Sphinx's own look at images."""
    app.connect("doctree-read", _check, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
