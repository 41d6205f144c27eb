"""Finished chunks on disk: a file each, with a digest, never pickled."""

import dataclasses
import hashlib
import json
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxopt_tut.training.sweeps.pairs import Pairs
from jaxopt_tut.training.sweeps.planning import Plan
from jaxopt_tut.training.sweeps.program import Traced, digest_of_arrays
from jaxopt_tut.training.sweeps.strategies import Strategy, as_strategy

HEAD = "sweep.json"
DIGEST = "sha256"

Leaves = list[np.ndarray]


@dataclasses.dataclass
class Folder:
    """The folder of one sweep.

    Attributes:
      path: Where it is.
      what: Digests and names of all that the results depend on, but for the plan.
      plan: Of the sweep that the folder belongs to, None of a new one.
      is_full: Whether a chunk could not be kept.
    """

    path: Path
    what: dict[str, str]
    plan: Plan | None = None
    is_full: bool = False

    def save(self, chunk: int, leaves: Leaves) -> None:
        """Write a chunk whole or not at all; where that fails the sweep goes on without."""
        arrays: dict[str, Any] = {f"leaf{at}": _storable(leaf) for at, leaf in enumerate(leaves)}
        arrays[DIGEST] = np.frombuffer(self._digest(chunk, leaves), np.uint8)
        place = self._place(chunk)
        try:
            _write(place, lambda file: np.savez(file, **arrays))
        except OSError as error:
            if not self.is_full:
                warnings.warn(
                    f"sweep could not keep chunk {chunk} in {str(self.path)!r}: {error}. It goes "
                    "on, and what is not kept will be run again.",
                    stacklevel=4,
                )
            self.is_full = True

    def load(self, chunk: int, shapes: Sequence[jax.ShapeDtypeStruct]) -> Leaves | None:
        """Read a chunk, None if there is none; one that is damaged is as good as none."""
        place = self._place(chunk)
        if not place.exists():
            return None
        assert self.plan is not None
        stored, found = _read(place)
        names = [f"leaf{at}" for at in range(len(shapes))]
        if stored is not None and {*names, DIGEST} == set(stored):
            forms = [((self.plan.chunk, *one.shape), np.dtype(one.dtype)) for one in shapes]
            leaves = [
                _restored(stored[name], *form) for name, form in zip(names, forms, strict=True)
            ]
            if stored[DIGEST].tobytes() == self._digest(chunk, leaves):
                return leaves
            found = "its digest is another"
        warnings.warn(
            f"sweep found {place.name} damaged in {str(self.path)!r} ({found}): the chunk is run "
            "again.",
            stacklevel=3,
        )
        return None

    def begin(self, plan: Plan, asked: dict[str, Any]) -> None:
        """Write down whose folder it is, where that is not written yet."""
        is_new, self.plan = self.plan is None, plan
        if not is_new:
            return
        described = {"strategy": repr(plan.strategy), "chunk": plan.chunk}
        head = {"what": self.what, "asked": asked, "plan": described}
        text = json.dumps({**head, DIGEST: _digest_of(head)}, indent=1)
        try:
            _write(self.path / HEAD, lambda file: file.write(text.encode()))
        except OSError as error:
            raise OSError(
                f"sweep needs a directory that it can write to, got {str(self.path)!r}: {error}."
            ) from error

    def _place(self, chunk: int) -> Path:
        return self.path / f"chunk-{chunk:06d}.npz"

    def _digest(self, chunk: int, leaves: Leaves) -> bytes:
        """Digest a chunk with its place in its sweep, so that none is taken for another."""
        assert self.plan is not None
        head = json.dumps([self.what, repr(self.plan.strategy), self.plan.chunk, chunk])
        return digest_of_arrays(leaves, head).digest()


def open_folder(
    directory: str | os.PathLike, what: dict[str, str], strategy: Strategy | None, chunk: int | None
) -> Folder:
    """Make a folder, or find the one of this sweep; of another one nothing is touched."""
    if not isinstance(directory, str | os.PathLike):
        raise TypeError(f"sweep needs a path as directory, got {directory!r}.")
    path = Path(directory).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
        others = sorted(file.name for file in path.iterdir() if not file.name.endswith(".tmp"))
    except OSError as error:
        raise OSError(
            f"sweep needs a directory that it can write to, got {str(path)!r}: {error}."
        ) from error
    if HEAD not in others:
        if others:
            raise ValueError(
                f"sweep needs an empty directory or that of a sweep, got {str(path)!r} with "
                f"{others[0]!r}."
            )
        return Folder(path, what)
    try:
        head = json.loads((path / HEAD).read_bytes())
        is_sound = head.pop(DIGEST) == _digest_of(head)
    except (ValueError, KeyError, AttributeError, TypeError):
        is_sound, head = False, {}
    if not is_sound:
        raise ValueError(
            f"sweep found {HEAD} damaged in {str(path)!r}; delete the directory to begin anew."
        )
    for name, value in what.items():
        if value != head["what"][name]:
            found = _OTHERS.get(name, f"is {head['what'][name]!r} for {value!r}")
            raise ValueError(_ANOTHER.format(str(path), f"{name} {found}"))
    for name, value in (("strategy", strategy and repr(strategy)), ("chunk", chunk)):
        stored = head["plan"][name]
        if value not in (None, stored, head["asked"][name]):
            raise ValueError(_ANOTHER.format(str(path), f"{name} is {stored} for {value}"))
    plan = Plan(as_strategy(head["plan"]["strategy"]), head["plan"]["chunk"])
    return Folder(path, what, plan)


_OTHERS = {"run": "is another", "hyperparameters": "are others", "keys": "are others"}
"""What is said of digests, which say nothing themselves."""

_ANOTHER = "sweep found the chunks of another sweep in {!r}, whose {}."


def identity(traced: Traced, pairs: Pairs) -> dict[str, str]:
    """Name all that the results depend on, but for the plan."""
    hyperparameters = digest_of_arrays(pairs.leaves, f"{pairs.names} {pairs.treedef}")
    keys = digest_of_arrays([pairs.keys], str(pairs.implementation))
    return {
        "run": traced.digest(),
        "hyperparameters": hyperparameters.hexdigest(),
        "keys": keys.hexdigest(),
        "jax": jax.__version__,
        "backend": jax.default_backend(),
    }


def _digest_of(head: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()


def _storable(leaf: np.ndarray) -> np.ndarray:
    """Make bytes of numbers that NumPy's files do not know, such as bfloat16."""
    return leaf if leaf.dtype.isbuiltin == 1 else np.frombuffer(leaf.tobytes(), np.uint8)


def _restored(stored: np.ndarray, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Undo that where the number of bytes is right; if not, the digest will tell."""
    is_of_form = stored.nbytes == int(np.prod(shape)) * dtype.itemsize
    if dtype.isbuiltin == 1 or not is_of_form:
        return stored
    return np.frombuffer(stored.tobytes(), dtype).reshape(shape)


def _read(place: Path) -> tuple[dict[str, np.ndarray] | None, str]:
    """Read the arrays of a file, or say why not; NumPy's reader and zip's raise whatever."""
    try:
        with place.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            return dict(stored), "it has other arrays"
    except Exception as error:
        return None, f"{type(error).__name__}: {error}"


def _write(place: Path, write: Callable[[Any], Any]) -> None:
    """Write a file beside its place and rename it when it is whole."""
    beside = place.with_name(f"{place.name}.{os.getpid()}.tmp")
    try:
        with beside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(place)
    finally:
        beside.unlink(missing_ok=True)
