"""What happened during training, as NumPy arrays."""

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
    """What `evaluate` returned after each epoch; empty without it."""
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

    def add_epoch(self, record: dict[str, np.ndarray]) -> None:
        """Append one epoch, cut after the first non-finite loss: later steps changed nothing."""
        bad = np.flatnonzero(~np.isfinite(record["loss"]))
        stop = bad[0] + 1 if bad.size else record["loss"].size
        for name, values in record.items():
            self.steps.setdefault(name, []).append(np.asarray(values[:stop]))
            self.train.setdefault(name, []).append(float(np.mean(values[:stop])))

    def add_validation(self, metrics: Mapping[str, float]) -> None:
        """Append what `evaluate` returned."""
        for name, value in metrics.items():
            self.validation.setdefault(name, []).append(value)

    def non_finite_message(self, epoch: int) -> str:
        """Say where training stopped."""
        losses = np.concatenate(self.steps["loss"])
        last = (
            f"the last finite loss was {losses[-2]:.6g}" if losses.size > 1 else "it was the first"
        )
        step = self.steps["loss"][-1].size
        return f"Stopped at a non-finite loss in epoch {epoch + 1}, step {step}; {last}."

    def history(self, record: dict[str, Array]) -> History:
        """Join the epochs; a run of no epochs has empty columns."""
        return History(
            steps={n: np.concatenate(self.steps.get(n, [np.zeros(0)])) for n in record},
            train={n: np.asarray(self.train.get(n, [])) for n in record},
            validation={n: np.asarray(v) for n, v in self.validation.items()},
            diagnoses={},
        )
