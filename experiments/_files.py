"""Files and folders that are there whole or not at all."""

import shutil
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place and rename it."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def replace_folder(part: Path, folder: Path) -> None:
    """Put a folder in the place of another: two renames, between which no file is lost.

    Args:
      part: The new folder, beside its place.
      folder: Its place; what is there goes.
    """
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
