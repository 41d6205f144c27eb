"""What outputs of cells depend on besides the cells: kept outputs of an older library are wrong."""

import hashlib
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def fingerprint() -> str:
    """Return a short word that changes with the library and its requirements."""
    digest = hashlib.sha256(sys.version.encode())
    files = sorted((REPOSITORY / "jaxopt_tut").rglob("*.py"))
    for path in [*files, REPOSITORY / "constraints.txt"]:
        digest.update(path.relative_to(REPOSITORY).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def kept_in(folder: Path) -> Path:
    """Return the folder for outputs of the library as it is, and remove those of older ones."""
    now = folder / fingerprint()
    for old in folder.glob("*"):
        if old != now:
            shutil.rmtree(old)
    return now
