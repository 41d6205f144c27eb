"""The run of `fit` on the host: dispatches, epochs, the best parameters, interruptions."""

import dataclasses
import itertools
import math
from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Int

from jaxopt_tut.diagnostics import Diagnosis, diagnose
from jaxopt_tut.tracing import is_traced
from jaxopt_tut.training.arguments import ON_THE_HOST
from jaxopt_tut.training.data import DeviceData, num_examples, take
from jaxopt_tut.training.evaluation import Evaluate, Score
from jaxopt_tut.training.history import Recorder
from jaxopt_tut.training.interrupts import Interrupts
from jaxopt_tut.training.losses import loss_with_state
from jaxopt_tut.training.progress import ProgressLine
from jaxopt_tut.training.result import FitResult
from jaxopt_tut.training.scalars import as_floats, as_score
from jaxopt_tut.training.steps import (
    AnyKey,
    Carry,
    Finite,
    epoch_order,
    look_back,
    run_steps,
)
from jaxopt_tut.training.stops import why_stopped
from jaxopt_tut.types import LossFn, Optimizer, Params, PyTree

STEPS_AHEAD = 256
"""Dispatches after which the host waits once, to see whether training goes on."""


@dataclasses.dataclass
class Loop:
    """Takes the steps of one epoch after the other; between any two of them `carry` is whole."""

    carry: Carry
    loss_fn: LossFn
    optimizer: Optimizer
    data: DeviceData
    shuffle_key: AnyKey
    batch_size: int
    steps_per_call: int
    diagnose_every: int | None
    sharding: NamedSharding | None
    exact: bool = False
    before: Carry | None = None
    epoch: int = -1
    diagnoses: dict[int, Diagnosis] = dataclasses.field(default_factory=dict)
    interrupts: Interrupts = dataclasses.field(default_factory=Interrupts)

    @property
    def num_steps(self) -> int:
        """Steps in an epoch."""
        return num_examples(self.data) // self.batch_size

    def run_epoch(self, epoch: int) -> None:
        """Take all steps of an epoch, or those before one that cannot be taken.

        What is not finite is looked for once an epoch, because that is slower than many a step is;
        then the epoch is taken again in exact steps.
        """
        order = epoch_order(self.shuffle_key, np.uint32(epoch), self.data, self.batch_size)
        with self.interrupts.held():
            self.epoch = epoch
            self.carry = self.carry._replace(step=jnp.zeros_like(self.carry.step))
            self.before = None if self.exact else _copy(self.carry)
        self._take_steps(order)
        if not epoch and any(
            map(is_traced, jax.tree.leaves(self.carry))
        ):  # by what the loss or the optimizer closes over
            raise TypeError(ON_THE_HOST.format("a loss or an optimizer with a traced number"))
        if not self.is_sound():
            self.go_back()
            self._take_steps(order)
        self.before = None  # not needed while the parameters are evaluated

    def is_sound(self) -> bool:
        """Whether nothing happened in this epoch that exact steps would have refused."""
        if self.before is None:
            return True
        finite = jax.device_get(look_back(self.carry, self.before))
        return bool(self.carry.alive) and all(map(np.all, finite))

    def go_back(self) -> None:
        """Return to the start of the epoch, in exact steps from now on."""
        assert self.before is not None
        with self.interrupts.held():
            self.exact, self.before, start = True, None, self.before
            self.carry = start._replace(finite=look_back(start, start))
            taken = self.epoch * self.num_steps
            self.diagnoses = {at: one for at, one in self.diagnoses.items() if at < taken}

    def _take_steps(self, order: Int[Array, "steps batch"]) -> None:
        num_steps, has_model_state = self.num_steps, self.carry.model_state is not None
        due = range(0)
        if self.diagnose_every is not None:
            due = range(
                -self.epoch * num_steps % self.diagnose_every, num_steps, self.diagnose_every
            )
        every = range(0, num_steps, self.steps_per_call)
        stops = sorted({num_steps, *every, *due})
        for dispatch, (start, stop) in enumerate(itertools.pairwise(stops)):
            # what follows a step that cannot be taken changes nothing, but costs as much
            must_look = start in due or dispatch % STEPS_AHEAD == STEPS_AHEAD - 1
            if must_look and not self.carry.alive:
                return
            if start in due:
                batch = take(self.data, order[start]), self.carry.model_state
                loss = loss_with_state(self.loss_fn, has_model_state)
                diagnosis = diagnose(loss, self.carry.params, batch)
                self.diagnoses[self.epoch * num_steps + start] = diagnosis
            with self.interrupts.held():
                self.carry = self._dispatch(self.carry, order, stop)

    def _dispatch(
        self, carry: Carry, order: Int[Array, "steps batch"], stop: int, *, mended: bool = False
    ) -> Carry:
        return run_steps(
            carry,
            self.data,
            order,
            np.int32(stop),
            loss_fn=self.loss_fn,
            optimizer=self.optimizer,
            has_model_state=carry.model_state is not None,
            one_step_per_call=self.steps_per_call == 1,
            sharding=self.sharding,
            exact=self.exact,
            mended=mended,
        )

    def retry(self, opt_state: PyTree, mended: bool) -> Finite:
        """Look at what the step that could not be taken leads to from another optimizer state."""
        order = epoch_order(self.shuffle_key, np.uint32(self.epoch), self.data, self.batch_size)
        start = _copy(self.carry._replace(opt_state=opt_state, alive=~self.carry.alive))
        finite = self._dispatch(start, order, int(self.carry.step) + 1, mended=mended).finite
        assert finite is not None  # the step is exact
        return finite


class _Best:
    """The parameters with the best score so far."""

    def __init__(self, score: Score | None):
        self.score_fn = score or _DefaultScore()
        self.epoch, self.score, self.copy = 0, math.nan, None

    def offer(self, epoch: int, metrics: Mapping[str, float], copy: tuple[Params, PyTree]) -> None:
        """Keep them if they are better; what is not a number is worse than any."""
        score = as_score(self.score_fn(metrics))
        if self.copy is None or score > self.score or math.isnan(self.score):
            self.epoch, self.score, self.copy = epoch, score, copy


def run_epochs(
    loop: Loop,
    num_epochs: int,
    evaluate: Evaluate | None,
    score: Score | None,
    *,
    progress: bool,
) -> FitResult:
    """Run and record the epochs until they are done, a step fails or someone interrupts."""
    recorder, best = Recorder(), _Best(score)
    line = ProgressLine(num_epochs, enabled=progress)
    message = f"Finished {num_epochs} epochs."
    try:
        with loop.interrupts.handled():
            # a loop in the program takes no step from parameters that are not finite
            for epoch in range(num_epochs if loop.carry.alive else 0):
                loop.run_epoch(epoch)
                _record(loop, recorder)
                if not loop.carry.alive:
                    break
                metrics = {}
                if evaluate is not None:
                    # a copy, because the steps donate their buffers and `evaluate` may keep it
                    copy = _copy((loop.carry.params, loop.carry.model_state))
                    metrics = _validate(copy[0], copy[1], evaluate)
                    recorder.add_validation(metrics)
                    best.offer(epoch + 1, metrics, copy)
                    del copy
                shown = {f"validation {n}" if n == "loss" else n: v for n, v in metrics.items()}
                line.show(epoch + 1, {"loss": recorder.train["loss"][-1], **shown})
    except KeyboardInterrupt:
        if loop.interrupts.is_pending or _is_lost(loop.carry):  # the second one, or a foreign one
            raise
        if not loop.is_sound():
            loop.go_back()
        message = f"Interrupted in epoch {max(loop.epoch, 0) + 1}, step {int(loop.carry.step)}."
        _record(loop, recorder)
    finally:
        line.close()
    carry = loop.carry
    if not carry.alive:
        message = _why_stopped(loop, recorder.steps.get("loss", []))
    if best.copy is None:
        best.copy = _copy((carry.params, carry.model_state))
        best.epoch = max(loop.epoch + (carry.step > 0).item(), 0)  # the one that led there
    return FitResult(
        params=carry.params,
        opt_state=carry.opt_state,
        history=recorder.history(carry.record)._replace(diagnoses=loop.diagnoses),
        best=best.copy[0],
        model_state=carry.model_state,
        best_model_state=best.copy[1],
        best_epoch=best.epoch,
        best_score=best.score,
        finite=bool(carry.alive),
        message=message,
    )


def _why_stopped(loop: Loop, losses: list[np.ndarray]) -> str:
    try:
        return why_stopped(loop.carry, losses, loop.epoch, loop.retry)
    except KeyboardInterrupt:  # steps were tried again; what there is is returned all the same
        return why_stopped(loop.carry, losses, loop.epoch)


def _record(loop: Loop, recorder: Recorder) -> None:
    """Take over the record of the current epoch, the step that failed included, but once."""
    record, step, alive = jax.device_get((loop.carry.record, loop.carry.step, loop.carry.alive))
    num_steps = int(step) + (not alive)
    if recorder.num_epochs <= loop.epoch and num_steps:
        with loop.interrupts.held():
            recorder.add_epoch(record, num_steps)


def _validate(params: Params, model_state: PyTree, evaluate: Evaluate) -> dict[str, float]:
    state = () if model_state is None else (model_state,)
    return as_floats("fit", "evaluate", evaluate(params, *state))


def _is_lost(carry: Carry) -> bool:
    return any(leaf.is_deleted() for leaf in jax.tree.leaves(carry))


class _DefaultScore:
    """The accuracy or minus the loss: the one that is there first, as they do not compare."""

    def __init__(self):
        self.name: str | None = None

    def __call__(self, metrics: Mapping[str, float]) -> float:
        self.name = self.name or next((n for n in ("accuracy", "loss") if n in metrics), None)
        if self.name is None:
            raise ValueError(
                "fit needs score= unless evaluate returns 'accuracy' or 'loss', "
                f"got the metrics {sorted(metrics)}."
            )
        value = metrics.get(self.name, math.nan)
        return value if self.name == "accuracy" else -value


_copy = jax.jit(partial(jax.tree.map, jnp.copy))
"""A copy outlives the steps, which donate their buffers."""
