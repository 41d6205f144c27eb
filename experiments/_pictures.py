"""Figures of a run as files: which are there, how large, small copies of them."""

import html
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from experiments._files import plain
from experiments._reports import MADE

THUMBNAIL_WIDTH, THUMBNAIL_COLOURS = 400, 128
COLUMN_WIDTH = 800  # a column of text is 640 pixels wide


class Picture(NamedTuple):
    """One figure on the disk."""

    name: str
    file: Path
    """The PNG, or a drawing's SVG."""
    dark: Path | None
    """The same for dark pages."""
    vector: Path | None
    """The SVG, to be looked at enlarged."""

    @property
    def title(self) -> str:
        """The figure's name in words."""
        return in_words(self.name)

    @property
    def alt(self) -> str:
        """The title that is written into the drawing, where there is one."""
        if not self.vector:
            return self.title
        start = self.vector.read_text(encoding="utf-8", errors="replace")[:5000]
        found = re.search(r"<title>([^<]+)</title>", start)
        return " ".join(html.unescape(found[1]).split()).rstrip(".") if found else self.title


def in_words(name: str) -> str:
    """Return the name of a file as the beginning of a sentence."""
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def find(folder: Path, name: str) -> Picture | None:
    """Return a figure's files, or None where there are none that can be shown."""
    # only what lies there: a report may name a file elsewhere, or what is no name at all
    files = {file.name: file for file in folder.iterdir() if file.is_file()}
    png, svg = files.get(f"{name}.png"), files.get(f"{name}.svg")
    file = png or svg
    if file is None or not is_image(file):
        return None
    dark = files.get(f"{name}.dark{file.suffix}")
    return Picture(name, file, dark if dark and is_image(dark) else None, svg)


def is_image(file: Path) -> bool:
    """Say whether a PNG can be drawn, or a file begins and ends as an SVG does."""
    if file.suffix == ".svg":
        text = file.read_text(encoding="utf-8", errors="replace")
        return "<svg" in text and ("</svg>" in text or "/>" in text)
    try:
        with Image.open(file, formats=["PNG"]) as image:
            image.verify()  # the sums of all pieces
        with Image.open(file, formats=["PNG"]) as image:
            image.load()  # which may be right of pieces that are no picture
    except Exception:  # a decoder may stumble in any way
        return False
    return True


def size(file: Path) -> tuple[int, int] | None:
    """Return the width and height of a PNG; an SVG brings its own."""
    if file.suffix == ".svg":
        return None
    with Image.open(file) as image:
        return image.size


def thumbnail(pictures: Sequence[Picture], folder: Path) -> Picture:
    """Write a small copy of the first figure for a card, if there is none of the same age.

    Args:
      pictures: The figures of an experiment.
      folder: Where the copy goes; it takes the place of none of them.

    Returns:
      The copy; of a drawing the drawing itself.
    """
    picture = pictures[0]
    if picture.file.suffix == ".svg":
        return picture
    name, taken = Path(MADE[1]).stem, {figure.name for figure in pictures}
    while taken & {name, f"{name}.dark"}:
        name += "_"
    small, small_dark = folder / f"{name}.png", folder / f"{name}.dark.png"
    shrink(picture.file, small, THUMBNAIL_WIDTH, THUMBNAIL_COLOURS)
    if picture.dark:
        shrink(picture.dark, small_dark, THUMBNAIL_WIDTH, THUMBNAIL_COLOURS)
    else:
        small_dark.unlink(missing_ok=True)
    return Picture(picture.name, small, small_dark if picture.dark else None, None)


def shrink(file: Path, copy: Path, width: int = 1600, colours: int = 256) -> None:
    """Write a PNG in few colours and no wider than that, unless it is there, of the same age.

    Args:
      file: The PNG.
      copy: Where it goes.
      width: The largest one, in pixels.
      colours: How many.
    """
    age = file.stat().st_mtime_ns
    if copy.exists() and copy.stat().st_mtime_ns == age:
        return
    copy.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(file) as image:
        image = image.convert("RGBA")
        opaque = image.getchannel("A").getextrema() == (255, 255)
        image = _no_wider(image, width)
        # the largest coverage keeps the colours of thin curves, the median cut does not; of both
        # and the octree, only that knows transparency
        method = Image.Quantize.MAXCOVERAGE if opaque else Image.Quantize.FASTOCTREE
        image = image.convert("RGB") if opaque else image
        few = image.quantize(colours, method, dither=Image.Dither.NONE)
        few.save(copy, optimize=True)
    os.utime(copy, ns=(age, age))


def small(picture: Picture, folder: Path) -> Picture:
    """Write copies in the format that needs least for curves and shades alike.

    Args:
      picture: The figure.
      folder: Where the copies go.

    Returns:
      The copies; of a drawing the drawing itself.
    """
    if picture.file.suffix == ".svg":
        return picture
    files = [file and _to_webp(file, folder) for file in (picture.file, picture.dark)]
    return picture._replace(file=files[0], dark=files[1])


def _to_webp(file: Path, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    copy = folder / f"{plain(file.stem)}.webp"
    with Image.open(file) as image:
        _no_wider(image.convert("RGBA"), COLUMN_WIDTH).save(copy, quality=70, method=6)
    return copy


def _no_wider(image: Image.Image, width: int) -> Image.Image:
    if image.width <= width:
        return image
    height = max(round(image.height * width / image.width), 1)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def copy(file: Path, folder: Path, name: str = "") -> None:
    """Put a file as it is into a folder, unless it lies there, under its name or another."""
    folder.mkdir(parents=True, exist_ok=True)
    if file.parent.resolve() != folder.resolve():
        shutil.copyfile(file, folder / (name or file.name))
