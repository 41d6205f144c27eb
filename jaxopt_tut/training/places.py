"""Where tables are written to."""

import os
from pathlib import Path
from typing import Any


def place_of_file(caller: str, path: Any) -> Path:
    """Refuse what is no path of a file, and make the folders on the way to it."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{caller} needs a path, got {path!r}.")
    place = Path(path).expanduser()
    if place.is_dir():
        raise IsADirectoryError(f"{caller} needs a file, got the folder {str(place)!r}.")
    place.parent.mkdir(parents=True, exist_ok=True)
    return place
