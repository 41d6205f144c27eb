"""Files and folders that are there whole or not at all."""

import hashlib
import re
import shutil
from pathlib import Path


def write_text(path: Path, text: str) -> None:
    """Write a file beside its place and rename it; halves of characters become question marks.

    Raises:
      ValueError: If a folder lies there.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, where a file has to be; rename it")
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8", errors="replace")
    part.replace(path)


def plain(name: str, *taken: str) -> str:
    """Return a name for a file that needs no quotes anywhere, nor is too long.

    Args:
      name: What is to be told apart; a plain one stays as it is.
      taken: Names that are not to be had.

    Returns:
      Letters, digits, `_`, `.` and `-`; in place of others a digest of the name.
    """
    kept = re.sub(r"[^\w.-]+", "-", name, flags=re.ASCII)[:100]
    if kept == name and name not in taken:
        return name
    return f"{kept}-{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:8]}"


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
