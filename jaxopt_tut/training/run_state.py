"""All that a run of `fit` is between two dispatches, to be saved and taken up again."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Literal

import jax
import numpy as np

from jaxopt_tut.diagnostics import Diagnosis
from jaxopt_tut.training.checkpoints.arrays import fitted
from jaxopt_tut.training.checkpoints.store import Stored
from jaxopt_tut.training.evaluation import DefaultScore, Score
from jaxopt_tut.training.history import Recorder
from jaxopt_tut.training.loop import Loop
from jaxopt_tut.training.scalars import as_score
from jaxopt_tut.training.steps import copied, look_back
from jaxopt_tut.types import Params, PyTree

Stage = Literal["steps", "evaluation", "over"]
"""What is due in the current epoch: steps, perhaps none, and the record; evaluation; nothing."""


class Best:
    """The parameters with the best score so far."""

    def __init__(self, score: Score | None):
        """Start with none."""
        self.score_fn = score or DefaultScore()
        self.epoch, self.score, self.copy = 0, math.nan, None

    def offer(self, epoch: int, metrics: Mapping[str, float], copy: tuple[Params, PyTree]) -> None:
        """Keep them if they are better; what is not a number is worse than any."""
        score = as_score(self.score_fn(metrics))
        if self.copy is None or score > self.score or math.isnan(self.score):
            self.epoch, self.score, self.copy = epoch, score, copy


@dataclasses.dataclass
class Run:
    """A run: its loop, its record, the best parameters, and what is due."""

    loop: Loop
    recorder: Recorder
    best: Best
    stage: Stage = "over"

    def trees(self) -> dict[str, PyTree]:
        """Copy the arrays, as the steps donate theirs; `before` becomes the carry one day."""
        carry, trees = copied(self.loop.carry), {}
        if self.loop.before is not None and self.stage == "steps":
            trees["before"] = copied(self.loop.before)
            trees["probes_before"] = self.loop.measurements.before
        if self.best.copy is not None:
            trees["best"], trees["best_model_state"] = self.best.copy
        for name in ("params", "opt_state", "model_state"):
            trees[name] = getattr(carry, name)
        trees["probes"] = self.loop.measurements.states
        trees["now"] = carry._replace(params=None, opt_state=None, model_state=None)
        return trees

    def rest(self, steps: int) -> dict[str, Any]:
        """Return what is no tree of arrays, after so many steps; nothing in it changes later."""
        starts = {max(self.loop.epoch, 0) * self.loop.num_steps, steps}
        return {
            "source": [self.loop.source.position(at) for at in sorted(starts)],
            "stage": self.stage,
            "epoch": self.loop.epoch,
            "exact": self.loop.exact,
            "has_before": self.loop.before is not None and self.stage == "steps",
            "diagnoses": {
                at: [jax.tree.leaves(one.statistics), one.verdicts]
                for at, one in self.loop.diagnoses.items()
            },
            "probes": self.loop.measurements.saved(),
            "best": None if self.best.copy is None else [self.best.epoch, self.best.score],
            "score_name": getattr(self.best.score_fn, "name", None),
            "record": self.recorder.state(),
        }

    def load(self, stored: Stored, where: str) -> None:
        """Become the run that was saved, on the devices of this one."""
        rest, loop = stored.rest, self.loop
        start, measurements = loop.carry, loop.measurements
        finite = jax.eval_shape(look_back, start, start) if rest["exact"] else None
        like = start._replace(finite=finite)
        trees = {
            "params": like.params,
            "opt_state": like.opt_state,
            "model_state": like.model_state,
            "probes": measurements.states,
            "now": like._replace(params=None, opt_state=None, model_state=None),
        }
        if rest["has_before"]:
            trees |= {"before": start, "probes_before": measurements.states}
        if rest["best"] is not None:
            trees |= {"best": start.params, "best_model_state": start.model_state}
        trees = fitted(stored.leaves, trees, "fit", where)
        parts = {name: trees[name] for name in ("params", "opt_state", "model_state")}
        measurements.load(rest.get("probes"), start)  # there are none in older checkpoints
        with loop.interrupts.held():
            measurements.states = trees["probes"]
            measurements.before = trees.get("probes_before", measurements.states)
            loop.carry = trees["now"]._replace(**parts)
            loop.before = trees.get("before")
            loop.epoch, loop.exact = rest["epoch"], rest["exact"]
            for position in rest["source"]:
                loop.source.learn(position)
            loop.diagnoses = self._diagnoses(rest["diagnoses"])
            self.stage = rest["stage"]
            self.recorder.load(rest["record"])
            if rest["best"] is not None:
                self.best.epoch, self.best.score = rest["best"]
                self.best.copy = trees["best"], trees["best_model_state"]
            if isinstance(self.best.score_fn, DefaultScore):
                self.best.score_fn.name = rest["score_name"]

    def _diagnoses(self, saved: Mapping[int, Any]) -> dict[int, Diagnosis]:
        """Put saved numbers into the form of a diagnosis, which has the program in it."""
        if not saved:
            return {}
        form = self.loop.diagnose_first().statistics
        structure, diagnoses = jax.tree.structure(form), {}
        for at, (leaves, verdicts) in saved.items():
            statistics = structure.unflatten(leaves)
            diagnoses[at] = Diagnosis(dict(statistics.layers), statistics, verdicts)
        return diagnoses

    @property
    def num_epochs_over(self) -> int:
        """Epochs in which nothing is due."""
        return self.loop.epoch + (self.stage == "over")

    @property
    def epochs_taken(self) -> float:
        """Epochs and their part since the start."""
        return self.steps_taken / self.loop.num_steps

    @property
    def steps_taken(self) -> int:
        """Steps since the start; asks the device."""
        return max(self.loop.epoch, 0) * self.loop.num_steps + int(np.asarray(self.loop.carry.step))
