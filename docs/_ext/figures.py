"""Figures need an alternative text that is no file's name; those of cells have a dark version."""

import hashlib
import os
import re
import shutil
from pathlib import Path

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
        light = Path(app.srcdir) / image["uri"]
        if image["uri"].endswith(".png") and light.is_file():
            _add_dark(light, image)


def _add_dark(light: Path, image: nodes.image) -> None:
    digest = hashlib.sha256(light.read_bytes()).hexdigest()
    kept = Path(os.environ[FOLDER], f"{digest}.png")
    if not kept.is_file():
        return
    dark = light.with_name(f"{light.stem}.dark.png")
    shutil.copy(kept, dark)
    width, _ = Image.open(light).size
    image["width"] = f"{width / SCALE:.0f}px"
    other = image.deepcopy()
    other["uri"] = image["uri"].removesuffix(".png") + ".dark.png"
    other["candidates"] = {"*": other["uri"]}
    image["classes"].append("only-light")
    other["classes"].append("only-dark")
    image.parent.insert(image.parent.index(image) + 1, other)


def setup(app):
    """Register the check."""
    app.connect("doctree-read", _check)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
