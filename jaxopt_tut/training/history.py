"""What happened during training, as NumPy arrays."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from jaxopt_tut.diagnostics import Diagnosis


class History(NamedTuple):
    """What happened, as NumPy arrays."""

    steps: dict[str, Float[np.ndarray, "steps"]]
    """Loss and metrics of every training step."""
    train: dict[str, Float[np.ndarray, "epochs"]]
    """Their mean over each epoch (while the parameters move)."""
    validation: dict[str, Float[np.ndarray, "epochs"]]
    """What `evaluate` returned after each epoch; NaN where it left out a name, empty without it."""
    diagnoses: dict[int, Diagnosis]
    """Of the batch of every k-th step, before that step, by the number of steps taken until then;
    empty without `diagnose_every`."""


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

    def history(self, record: dict[str, Array]) -> History:
        """Join the epochs; a run of no epochs has empty columns."""
        return History(
            steps={n: np.concatenate(self.steps.get(n, [np.zeros(0)])) for n in record},
            train={n: np.asarray(self.train.get(n, [])) for n in record},
            validation={n: np.asarray(v) for n, v in self.validation.items()},
            diagnoses={},
        )
