"""A run of `fit` on the host: its epochs, the best parameters, the record, interruptions."""

import math
from collections.abc import Mapping

import jax
import numpy as np

from jaxopt_tut.training.evaluation import DefaultScore, Evaluate, Score
from jaxopt_tut.training.events import Announcer, OnEvent
from jaxopt_tut.training.history import History, Recorder
from jaxopt_tut.training.loop import Loop, copied
from jaxopt_tut.training.progress import ProgressLine
from jaxopt_tut.training.result import FitResult
from jaxopt_tut.training.scalars import as_floats, as_score
from jaxopt_tut.training.steps import Carry
from jaxopt_tut.training.stops import Stop, reason_to_stop, why_stopped
from jaxopt_tut.types import Params, PyTree


class _Best:
    """The parameters with the best score so far."""

    def __init__(self, score: Score | None):
        self.score_fn = score or DefaultScore()
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
    stop: Stop | None = None,
    on_event: OnEvent | None = None,
    progress: bool,
) -> FitResult:
    """Run and record the epochs until they are done, a step fails or someone interrupts."""
    recorder, best = Recorder(), _Best(score)
    line = ProgressLine(num_epochs, enabled=progress)
    announce = Announcer(on_event, loop)
    message = None
    try:
        with loop.interrupts.handled():
            announce("start")
            # a loop in the program takes no step from parameters that are not finite
            for epoch in range(num_epochs if loop.carry.alive else 0):
                loop.run_epoch(epoch)
                _record(loop, recorder)
                if not loop.carry.alive:
                    break
                metrics = {}
                if evaluate is not None:
                    # a copy, because the steps donate their buffers and `evaluate` may keep it
                    copy = copied((loop.carry.params, loop.carry.model_state))
                    metrics = _validate(copy[0], copy[1], evaluate)
                    recorder.add_validation(metrics)
                    best.offer(epoch + 1, metrics, copy)
                    del copy
                shown = {f"validation {n}" if n == "loss" else n: v for n, v in metrics.items()}
                line.show(epoch + 1, {"loss": recorder.train["loss"][-1], **shown})
                announce("epoch", recorder.last_epoch(metrics))
                if stop is not None:  # by the record alone: a run that resumes decides the same
                    message = reason_to_stop(stop, _history(loop, recorder))
                    if message is not None:
                        break
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
    if message is None:
        message = f"Finished {num_epochs} epochs."
    else:
        announce("stop", message=message)
    announce("end", message=message)
    if best.copy is None:
        best.copy = copied((carry.params, carry.model_state))
        best.epoch = max(loop.epoch + (carry.step > 0).item(), 0)  # the one that led there
    return FitResult(
        params=carry.params,
        opt_state=carry.opt_state,
        history=_history(loop, recorder),
        best=best.copy[0],
        model_state=carry.model_state,
        best_model_state=best.copy[1],
        best_epoch=best.epoch,
        best_score=best.score,
        finite=bool(carry.alive),
        message=message,
    )


def _history(loop: Loop, recorder: Recorder) -> History:
    return recorder.history(loop.carry.record)._replace(diagnoses=loop.diagnoses)


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
