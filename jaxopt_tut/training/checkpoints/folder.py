"""The folder of a run: what in it is ours, who writes there, and how a checkpoint appears at once.

    directory/
      jaxopt_tut.lock             held while a run writes; names it
      save_000007_step_1200/      a checkpoint: the 7th, after 1200 steps
        arrays/                   by orbax
        state.json                everything else, and a SHA-256 of each leaf and file
        state.json.sha256         of that file, as `sha256sum` writes it
      partial_save_.../           one that is being written, or was when the process was killed
      damaged_save_.../           one that was passed over

They are ordered by their number: an epoch that is taken again comes to a step a second time.
"""

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

LOCK = "jaxopt_tut.lock"
STATE = "state.json"
DIGEST = "state.json.sha256"
ARRAYS = "arrays"
PARTIAL = "partial_"
_NAME = re.compile(r"save_(\d{6,})_step_(\d+)")


class Name(NamedTuple):
    """The name of a checkpoint."""

    number: int
    """How many were begun before it, in this run and in those that it goes on."""
    step: int
    """Steps taken."""

    def __str__(self) -> str:
        """Write it as the folder is called."""
        return f"save_{self.number:06d}_step_{self.step}"


def checkpoints_in(directory: Path) -> list[Name]:
    """List the checkpoints, whole or not, the newest first."""
    matches = (_NAME.fullmatch(entry.name) for entry in os.scandir(directory) if entry.is_dir())
    return sorted((Name(int(match[1]), int(match[2])) for match in matches if match), reverse=True)


def next_number(directory: Path) -> int:
    """Return a number that no checkpoint of the folder has had, those passed over included."""
    matches = (_NAME.search(entry.name) for entry in os.scandir(directory))
    return max((int(match[1]) for match in matches if match), default=0) + 1


def is_ours(directory: Path) -> bool:
    """Tell a folder of checkpoints, or an empty one, from any other."""
    names = os.listdir(directory)
    return not names or any(name == LOCK or _NAME.fullmatch(name) for name in names)


def remove_partial(directory: Path) -> None:
    """Remove what a process that was killed left half written."""
    for entry in list(os.scandir(directory)):
        if entry.name.startswith(PARTIAL) and _NAME.fullmatch(entry.name, len(PARTIAL)):
            remove(Path(entry.path))


def remove(folder: Path) -> None:
    """Remove a checkpoint, whole or not, but nothing that others put into it."""
    if all(map(_is_written_here, files_of(folder))):
        shutil.rmtree(folder)
    else:
        os.rename(folder, _free_name(folder.with_name(f"left_{folder.name}")))


def prune(directory: Path, keep: int) -> None:
    """Remove all checkpoints but the newest."""
    for name in checkpoints_in(directory)[keep:]:
        # half a checkpoint, if the process is killed here, has a name that says so
        gone = directory / f"{PARTIAL}{name}"
        os.rename(directory / str(name), gone)
        remove(gone)


def set_aside(directory: Path, name: Name) -> Path:
    """Rename a damaged checkpoint: it is in the way no more, and still there to be looked at."""
    aside = _free_name(directory / f"damaged_{name}")
    os.rename(directory / str(name), aside)
    return aside


def _free_name(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number, free = number + 1, path.with_name(f"{path.name}.{number}")
    return free


def _is_written_here(name: str) -> bool:
    return name in (STATE, DIGEST) or name.startswith((f"{ARRAYS}/", f"{ARRAYS}."))


def files_of(folder: Path) -> list[str]:
    """List the files of a checkpoint by their paths in it, in order."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                  if not path.is_dir() or path.is_symlink())  # fmt: skip


def digest(data: bytes | memoryview) -> str:
    """Return the SHA-256 of some bytes."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_file(path: Path, text: str) -> None:
    """Write a file."""
    path.write_bytes(text.encode())


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def sync_tree(folder: Path) -> None:
    """Wait until all of a folder is on the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            sync(Path(parent) / name)
        sync(Path(parent))


@contextlib.contextmanager
def locked(directory: Path, caller: str) -> Iterator[None]:
    """Keep a second writer out; the lock dies with the process that holds it.

    The file stays: one that is removed and made anew would be two locks.
    """
    try:
        import fcntl
    except ImportError:  # no POSIX: nobody is kept out
        (directory / LOCK).touch()
        yield
        return
    with open(directory / LOCK, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read(200).strip() or "another run"
            raise RuntimeError(
                f"{caller} needs a folder of its own, got {str(directory)!r}, "
                f"in which {holder} writes."
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} on {os.uname().nodename}\n")
        file.flush()
        yield
