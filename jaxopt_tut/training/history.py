"""What happened during training, as NumPy arrays."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, Shaped
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import shown
from jaxopt_tut.diagnostics import Diagnosis
from jaxopt_tut.training.showing import history_block
from jaxopt_tut.types import PyTree

Column = TypeAliasType("Column", Float[np.ndarray, "rows"])
"""A number a step or an epoch."""


@shown
class History(NamedTuple):
    """What happened, as NumPy arrays; for pandas as `columns()`, because it is a tuple."""

    steps: dict[str, Column]
    """Loss and metrics of every training step."""
    train: dict[str, Column]
    """Their mean over each epoch (while the parameters move)."""
    validation: dict[str, Column]
    """What `evaluate` returned after each epoch; NaN where it left out a name, empty without it."""
    diagnoses: dict[int, Diagnosis]
    """Of the batch of every k-th step, before that step, by the number of steps taken until then;
    empty without `diagnose_every`."""
    probes: dict[str, PyTree] = {}  # noqa: RUF012  (nobody writes to it)
    """What each probe measured, with an axis of measurements before those of every leaf."""
    probe_steps: Int[np.ndarray, "measurements"] = np.zeros(0, int)
    """The steps after which was measured."""

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        """Return the numbers of the first and the last epoch."""
        return history_block(self)

    def columns(self) -> dict[str, Shaped[np.ndarray, "epochs"]]:
        """Return what is known of each epoch as columns of equal length.

        `pandas.DataFrame(history.columns())` is a table of epochs, and
        `pandas.DataFrame(history.steps)` one of steps.

        Returns:
          `epoch`, counted from 1, the columns of `train`, and those of `validation` behind
          `validation_`: NaN in an epoch that was not evaluated.

        Example:
          >>> loss = {"loss": np.array([2.0, 1.0])}
          >>> History({}, loss, {"loss": np.array([3.0])}, {}).columns()["validation_loss"]
          array([ 3., nan])
        """
        columns = self.train | {f"validation_{n}": column for n, column in self.validation.items()}
        length = max(map(len, columns.values()), default=0)
        pad = lambda column: np.append(column, np.full(length - len(column), np.nan))
        padded = {name: pad(column) for name, column in columns.items()}
        return {"epoch": np.arange(1, length + 1), **padded}


class Recorder:
    """Collects the numbers of each epoch on the host."""

    def __init__(self):
        """Start with no epoch."""
        self.steps: dict[str, list] = {}
        self.train: dict[str, list[float]] = {}
        self.validation: dict[str, list[float]] = {}
        self.num_validations = 0

    @property
    def num_epochs(self) -> int:
        """Epochs that have been added."""
        return len(self.train.get("loss", ()))

    def add_epoch(self, record: dict[str, np.ndarray], num_steps: int) -> None:
        """Append the first steps of an epoch."""
        for name, values in record.items():
            self.steps.setdefault(name, []).append(np.asarray(values[:num_steps]))
            self.train.setdefault(name, []).append(float(np.mean(values[:num_steps])))

    def add_validation(self, metrics: Mapping[str, float]) -> None:
        """Append what `evaluate` returned; every column has a number an epoch."""
        for name in metrics:
            self.validation.setdefault(name, [math.nan] * self.num_validations)
        for name, column in self.validation.items():
            column.append(metrics.get(name, math.nan))
        self.num_validations += 1

    def last_epoch(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Name the numbers of the last epoch: its own, and what `evaluate` returned of it."""
        train = {name: column[-1] for name, column in self.train.items()}
        return train | {f"validation_{name}": value for name, value in metrics.items()}

    def state(self) -> dict[str, Any]:
        """Return all of it, in arrays that are not changed later."""
        lengths = [len(values) for values in next(iter(self.steps.values()), [])]
        return {
            "lengths": np.asarray(lengths, np.int64),
            "steps": {name: np.concatenate(values) for name, values in self.steps.items()},
            "train": {name: np.asarray(column) for name, column in self.train.items()},
            "validation": {name: np.asarray(v) for name, v in self.validation.items()},
            "num_validations": self.num_validations,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over what `state` returned."""
        ends = np.cumsum(state["lengths"])[:-1]
        self.steps = {name: np.split(values, ends) for name, values in state["steps"].items()}
        self.train = {name: column.tolist() for name, column in state["train"].items()}
        self.validation = {name: v.tolist() for name, v in state["validation"].items()}
        self.num_validations = state["num_validations"]

    def history(self, record: dict[str, Array]) -> History:
        """Join the epochs; a run of no epochs has empty columns."""
        return History(
            steps={n: np.concatenate(self.steps.get(n, [np.zeros(0)])) for n in record},
            train={n: np.asarray(self.train.get(n, [])) for n in record},
            validation={n: np.asarray(v) for n, v in self.validation.items()},
            diagnoses={},
        )
