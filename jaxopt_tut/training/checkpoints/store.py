"""One checkpoint: written so that it appears at once, read only if it is what was written."""

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxopt_tut.training.checkpoints import arrays, codec, folder
from jaxopt_tut.training.checkpoints.arrays import Leaf
from jaxopt_tut.training.checkpoints.errors import DamagedCheckpoint
from jaxopt_tut.training.checkpoints.folder import Name
from jaxopt_tut.types import PyTree

FORMAT = 1
"""Of the files; one that is not known is refused, not guessed at."""

Fingerprint = dict[str, Any]
"""What makes a run this one, as JSON: the key, the size of a batch, the data."""


class Contents(NamedTuple):
    """What a checkpoint holds."""

    trees: Mapping[str, PyTree]
    """Trees of arrays by name, to be restored onto trees that are like them."""
    rest: Any
    """Everything else, which is restored as it is."""
    fingerprint: Fingerprint


class Stored(NamedTuple):
    """A checkpoint that was read, and is whole."""

    name: Name
    path: Path
    leaves: dict[str, tuple[Leaf, np.ndarray]]
    """By their key paths."""
    rest: Any
    fingerprint: Fingerprint


def write(directory: Path, name: Name, contents: Contents) -> Path:
    """Write a checkpoint beside its place, make sure that it is on the disk, and move it there."""
    partial = directory / f"{folder.PARTIAL}{name}"
    partial.mkdir()
    try:
        others: list[np.ndarray] = []
        rest = codec.encode(contents.rest, others)
        leaves, values = arrays.describe({**contents.trees, "rest": others})
        arrays.write_arrays(partial / folder.ARRAYS, leaves, values)
        document = {
            "format": FORMAT,
            "number": name.number,
            "step": name.step,
            "fingerprint": contents.fingerprint,
            "leaves": leaves,
            "rest": rest,
            "files": {at: folder.digest_file(partial / at) for at in folder.files_of(partial)},
        }
        text = codec.to_text(document)
        folder.write_file(partial / folder.STATE, text)
        folder.write_file(partial / folder.DIGEST, _digest_line(text.encode()))
        folder.sync_tree(partial)
        os.rename(partial, directory / str(name))
        folder.sync(directory)
    except BaseException:
        if partial.exists():
            folder.remove(partial)
        raise
    return directory / str(name)


def _digest_line(data: bytes) -> str:
    return f"{folder.digest(data)}  {folder.STATE}\n"


def read_document(path: Path, name: Name) -> tuple[dict[str, Any] | None, list[str]]:
    """Read the JSON of a checkpoint, and list what is damaged: files, by their digests.

    All files are looked at, those too that hold no values: what was written is there or is not.
    """
    try:
        data = (path / folder.STATE).read_bytes()
        line = (path / folder.DIGEST).read_bytes()
    except OSError as error:
        return None, [f"{Path(error.filename).name}: {error.strerror}"]
    if line != _digest_line(data).encode():
        return None, [f"{folder.STATE}: not what {folder.DIGEST} says"]
    document = json.loads(data)
    if document["format"] != FORMAT:
        raise ValueError(
            f"restore needs a checkpoint of format {FORMAT}, got {document['format']} in "
            f"{str(path)!r}: a later version wrote it."
        )
    if (document["number"], document["step"]) != name:
        written = Name(document["number"], document["step"])
        return document, [f"{path.name}: has the files of {written}"]
    damage = []
    present = set(folder.files_of(path)) - {folder.STATE, folder.DIGEST}
    for at, expected in document["files"].items():
        if at not in present:
            damage.append(f"{at}: is missing")
        elif _digest_or_none(path / at) != expected:
            damage.append(f"{at}: not the bytes that were written")
    return document, damage


def _digest_or_none(path: Path) -> str | None:
    try:
        return folder.digest_file(path)
    except OSError:  # it is there and cannot be read
        return None


def damaged_leaves(path: Path, document: dict[str, Any]) -> dict[str, str | None]:
    """Say for each leaf, by name, what is wrong with it, or None, in a folder that may be damaged.

    Whatever orbax makes of damaged files is of no interest but for the leaves that are whole.
    """
    leaves = document["leaves"]
    counts = Counter(leaf["name"] for leaf in leaves)
    leaves = [  # two leaves may have one name, "a/b" in a tree and of a key
        leaf if counts[leaf["name"]] == 1 else {**leaf, "name": leaf["path"]} for leaf in leaves
    ]
    try:
        values = arrays.read_arrays(path / folder.ARRAYS, leaves)
    except Exception:
        return {leaf["name"]: "cannot be read" for leaf in leaves}
    return {
        leaf["name"]: None if _is_whole(leaf, value) else "not the numbers that were written"
        for leaf, value in zip(leaves, values, strict=True)
    }


def _is_whole(leaf: Leaf, value: np.ndarray) -> bool:
    return arrays.digest_array(value) == leaf["sha256"]


def read(directory: Path, name: Name) -> Stored:
    """Read a checkpoint, or raise `DamagedCheckpoint`.

    The files are looked at before orbax is: what it raises then is no damage.
    """
    path = directory / str(name)
    document, damage = read_document(path, name)
    if not damage and document is not None:
        leaves = document["leaves"]
        values = arrays.read_arrays(path / folder.ARRAYS, leaves)
        pairs = list(zip(leaves, values, strict=True))
        damage = [
            f"{leaf['name']}: not the numbers that were written"
            for leaf, value in pairs
            if not _is_whole(leaf, value)
        ]
    if damage or document is None:
        more = f" and {len(damage) - 1} more" if len(damage) > 1 else ""
        raise DamagedCheckpoint(
            f"the checkpoint {str(path)!r} is damaged ({damage[0]}{more})", damage
        )
    stored = {leaf["path"]: (leaf, value) for leaf, value in pairs}
    others = [value for leaf, value in pairs if leaf["path"].startswith("['rest']")]
    rest = codec.decode(document["rest"], others)
    return Stored(name, path, stored, rest, document["fingerprint"])
