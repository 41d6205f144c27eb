"""What a sweep returns."""

import csv
import dataclasses
import os
import warnings
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Shaped
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import shown
from jaxopt_tut.training.places import place_of_file
from jaxopt_tut.training.pure import Trained
from jaxopt_tut.training.showing import sweep_block
from jaxopt_tut.training.sweeps.strategies import Strategy
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import PyTree

Scores = TypeAliasType("Scores", Callable[[PyTree], Any])
"""From the results of a sweep to a number a configuration and key, the smallest best."""


@shown
class Best(NamedTuple):
    """The best configuration of a sweep.

    Its score is that of a winner: the largest luck is in it. Judge it with keys of its own.
    """

    index: int
    """Its place along the first axis of the hyper-parameters."""
    hyperparameters: PyTree
    """Of this one."""
    score: float
    """Mean over the keys."""
    standard_error: float
    """Of that mean; NaN for one key."""
    scores: Float[np.ndarray, "keys"]
    results: PyTree
    """Of every key."""


@shown
@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Sweep:
    """Every configuration with every key.

    Attributes:
      hyperparameters: As they were given; the configurations are the first axis of every leaf.
      results: What `run` returned, with two axes more in front: configurations and keys. NaN, or
        0 of what has none, where a chunk is missing.
      finite: Whether all numbers of a result are finite; of a `Trained`, what it says itself.
      done: False where a chunk is missing, see `errors`.
      timings: Seconds a run took by strategy, where they were timed to choose one.
      strategy: The one that was taken.
      chunk: Pairs of a configuration and a key that one device runs before they are kept.
      num_restored: Chunks that were found in the directory.
      messages: Sentences on what was not as asked: a chunk that was halved, pairs that
        are missing.
      failures: Chunks whose worker or program failed, and why.
    """

    hyperparameters: PyTree
    results: PyTree
    finite: Bool[np.ndarray, "configurations keys"]
    done: Bool[np.ndarray, "configurations keys"]
    timings: dict[str, float]
    strategy: Strategy = dataclasses.field(metadata={"static": True})
    chunk: int = dataclasses.field(metadata={"static": True})
    num_restored: int = dataclasses.field(metadata={"static": True})
    messages: tuple[str, ...] = dataclasses.field(metadata={"static": True})
    failures: tuple[tuple[int, str], ...] = dataclasses.field(metadata={"static": True})

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return how much of it there is, and the best."""
        try:
            scores = self.scores()
        except (ValueError, TypeError, AttributeError, IndexError):  # none by default, or traced
            scores = None
        return sweep_block(self, scores)

    @property
    def errors(self) -> dict[int, str]:
        """Why chunks are missing, by chunk; their pairs are those where `done` is False."""
        return dict(self.failures)

    def scores(self, scores: Scores | None = None) -> Float[np.ndarray, "configurations keys"]:
        """Return a number for each pair, the smallest best; infinite where it is none.

        Args:
          scores: From `results` to numbers of two axes. By default the last loss of a `Trained`,
            the `"loss"` of a dictionary, or minus its `"score"` or `"accuracy"`, or the only array
            there is.

        Returns:
          The scores; NaN, of what is not finite or not done, has become inf.

        Raises:
          ValueError: If `scores` returns other axes, or is needed and not given.
        """
        found = _default_scores(self.results) if scores is None else scores(self.results)
        found = np.asarray(found, float)
        if found.shape != self.done.shape:
            raise ValueError(
                f"Sweep.scores needs a number for each of {list(self.done.shape)} configurations "
                f"and keys, got shape {found.shape}."
            )
        return np.where(np.isnan(found) | ~self.done | ~self.finite, np.inf, found)

    def best(self, scores: Scores | None = None) -> Best:
        """Return the configuration with the smallest mean score over the keys.

        Args:
          scores: Numbers of the results, as the method `scores` takes them.

        Returns:
          The configuration, its score with a standard error, and its results; the first of several.

        Raises:
          ValueError: If no configuration is finite with all its keys.
        """
        table = self.scores(scores)
        means = table.mean(axis=1)
        missing = ""
        if not self.done.all():
            missing = f"{np.sum(~self.done)} of {self.done.size} pairs are missing, see `errors`"
        index = int(np.argmin(means))
        if not np.isfinite(means[index]):
            raise ValueError(
                f"Sweep.best needs a configuration that is finite with all {table.shape[1]} keys, "
                f"got none of {len(means)}{missing and '; ' + missing}."
            )
        if missing:
            warnings.warn(f"Sweep.best leaves configurations out: {missing}.", stacklevel=2)
        num = table.shape[1]
        error = float(table[index].std(ddof=1) / np.sqrt(num)) if num > 1 else np.nan
        one = lambda tree: jax.tree.map(lambda leaf: leaf[index], tree)
        return Best(
            index, one(self.hyperparameters), float(means[index]), error, table[index],
            one(self.results),
        )  # fmt: skip

    def table(self) -> dict[str, Shaped[np.ndarray, "rows"]]:
        """Return columns with a row a pair: hyper-parameters, key, results that are scalars.

        Returns:
          Columns by name, as `pandas.DataFrame` takes them. Numbers of an array have a column each
          up to 16; larger results, such as parameters, and keys are left out. A name that is taken,
          `key` say, becomes `hyperparameter key` or `result key`. Of a `Trained` there are the
          last loss and metrics.
        """
        num, keys = self.done.shape
        rows: dict[str, Any] = {"configuration": np.repeat(np.arange(num), keys)}
        for name, leaf in named_leaves(self.hyperparameters):
            values = np.asarray(leaf).reshape(num, -1)
            for at, column in _columns(_named(name, "value"), np.shape(leaf)[1:], values):
                rows[_distinct(at, "hyperparameter", rows)] = np.repeat(column, keys)
        rows["key"] = np.tile(np.arange(keys), num)
        results = self.results
        if isinstance(results, Trained):
            last = {"loss": results.losses, **results.metrics}
            results = {name: leaf[..., -1] for name, leaf in last.items() if leaf.shape[-1]}
        for name, leaf in named_leaves(results):
            dtype = getattr(leaf, "dtype", None)
            is_key = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
            if dtype is None or is_key or dtype.kind not in "biufcV":
                continue
            values = np.asarray(leaf).reshape(num * keys, -1)
            for at, column in _columns(_named(name, "result"), np.shape(leaf)[2:], values):
                rows[_distinct(at, "result", rows)] = column
        rows["finite"], rows["done"] = self.finite.reshape(-1), self.done.reshape(-1)
        return rows

    def to_csv(self, path: str | os.PathLike) -> None:
        """Write the table as comma-separated values; numbers read back as they are.

        Args:
          path: Of the file, which is replaced; folders that are missing are made.

        Raises:
          TypeError: If it is no path.
          OSError: If it is that of a folder, or cannot be written to.
        """
        place, table = place_of_file("Sweep.to_csv", path), self.table()
        with place.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(table)
            writer.writerows(zip(*(column.tolist() for column in table.values()), strict=True))


def _named(name: str, alone: str) -> str:
    """Name a leaf that is the whole tree."""
    return alone if name == "(root)" else name


OWN_COLUMNS = ("configuration", "key", "finite", "done")


def _distinct(name: str, kind: str, taken: Collection[str]) -> str:
    """Say what a column is of until its name is no other's."""
    while name in taken or name in OWN_COLUMNS:
        name = f"{kind} {name}"
    return name


MOST_COLUMNS = 16


def _columns(
    name: str, shape: tuple[int, ...], values: Shaped[np.ndarray, "rows numbers"]
) -> list[tuple[str, Shaped[np.ndarray, "rows"]]]:
    """Name the columns of an array, unless they are many."""
    if values.shape[1] > MOST_COLUMNS:
        return []
    places = [list(place) for place in np.ndindex(*shape)]
    ends = [f"[{', '.join(map(str, place))}]" if place else "" for place in places]
    return [(f"{name}{end}", values[:, at]) for at, end in enumerate(ends)]


def _default_scores(results: PyTree) -> Any:
    """Find the number by which configurations compare."""
    if isinstance(results, Trained) and results.losses.shape[-1]:
        return results.losses[..., -1]
    if isinstance(results, dict):
        for name, sign in (("loss", 1), ("score", -1), ("accuracy", -1)):
            if name in results:
                return sign * np.asarray(results[name], float)
    leaves = jax.tree.leaves(results)
    if len(leaves) == 1 and leaves[0].ndim == 2:
        return leaves[0]
    raise ValueError(
        "Sweep.scores needs scores=, a function from results to a number a configuration and key, "
        'unless run returns a scalar, a Trained or a dictionary with "loss", "score" or '
        '"accuracy".'
    )


def finite_pairs(results: PyTree) -> Bool[np.ndarray, "configurations keys"]:
    """Tell for each pair whether its result is finite."""
    if isinstance(results, Trained):
        return np.asarray(results.finite)
    leaves = [leaf for leaf in jax.tree.leaves(results) if isinstance(leaf, np.ndarray)]
    flags = [
        np.isfinite(leaf.astype(complex if leaf.dtype.kind == "c" else float)).all(
            axis=tuple(range(2, leaf.ndim))
        )
        for leaf in leaves
    ]
    return np.logical_and.reduce(flags) if flags else np.ones(())
