"""A run of `fit` on the host: its epochs, the best parameters, the record, interruptions."""

from contextlib import suppress

import jax
import numpy as np

from jaxopt_tut.progress import ProgressLine
from jaxopt_tut.training.checkpoints.saver import Saver
from jaxopt_tut.training.evaluation import Evaluate, Score
from jaxopt_tut.training.events import Announcer, OnEvent
from jaxopt_tut.training.history import History, Recorder
from jaxopt_tut.training.keeping import Keeper
from jaxopt_tut.training.loop import Loop
from jaxopt_tut.training.result import FitResult
from jaxopt_tut.training.run_state import Best, Run
from jaxopt_tut.training.scalars import as_floats
from jaxopt_tut.training.steps import Carry, copied
from jaxopt_tut.training.stops import Stop, reason_to_stop, why_stopped
from jaxopt_tut.types import Params, PyTree


def run_epochs(
    loop: Loop,
    num_epochs: int,
    evaluate: Evaluate | None,
    score: Score | None,
    *,
    stop: Stop | None = None,
    on_event: OnEvent | None = None,
    saver: Saver | None = None,
    progress: bool,
) -> FitResult:
    """Run and record the epochs until they are done, a step fails or someone interrupts."""
    run = Run(loop, Recorder(), Best(score))
    recorder, best = run.recorder, run.best
    announce = Announcer(on_event, loop)
    keeper = Keeper(saver, run, announce)
    loop.measurements.begin(loop.carry)
    resumed_from = keeper.resume(num_epochs)
    line = ProgressLine(num_epochs, enabled=progress, resumed=run.epochs_taken)
    message, is_whole = None, True
    try:
        with loop.interrupts.handled(), keeper.watching():
            keeper.announce_start(resumed_from)
            if stop is not None and resumed_from is not None and run.stage == "over":
                message = reason_to_stop(stop, _history(loop, recorder))
            # a loop in the program takes no step from parameters that are not finite
            is_over = message is not None or (run.stage == "over" and not loop.carry.alive)
            for epoch in range(run.num_epochs_over, 0 if is_over else num_epochs):
                if run.stage != "evaluation":
                    is_begun, run.stage = run.stage == "steps", "steps"
                    loop.run_epoch(epoch, is_begun=is_begun)
                    _record(loop, recorder)
                    if not loop.carry.alive:
                        break
                    keeper.between_stages("evaluation")
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
                keeper.between_stages("over")  # what was told is not told again
                if stop is not None:  # by the record alone: a run that resumes decides the same
                    message = reason_to_stop(stop, _history(loop, recorder))
                    if message is not None:
                        break
    except KeyboardInterrupt:
        if loop.interrupts.is_pending or _is_lost(loop.carry):  # the second one, or a foreign one
            raise
        if not loop.is_sound():
            loop.go_back()
        is_whole = False
        message = f"Interrupted in epoch {max(loop.epoch, 0) + 1}, step {int(loop.carry.step)}."
        _record(loop, recorder)
    finally:
        line.close()
    carry = loop.carry
    if not carry.alive:
        message = _why_stopped(loop, recorder.steps.get("loss", []))
    keeper.finish(is_whole=is_whole)
    if is_whole:
        # not saved: a run that goes on from here has not measured here, unless it is due
        with suppress(KeyboardInterrupt):
            loop.measure_end()
    if message is None:
        message = f"Finished {num_epochs} epoch{'s' if num_epochs != 1 else ''}."
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
        resumed_from=resumed_from,
        warnings=keeper.warnings,
    )


def _history(loop: Loop, recorder: Recorder) -> History:
    measured = loop.measurements
    return recorder.history(loop.carry.record)._replace(
        diagnoses=loop.diagnoses, probes=measured.trees(), probe_steps=measured.steps
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
    loop.measurements.settle()


def _validate(params: Params, model_state: PyTree, evaluate: Evaluate) -> dict[str, float]:
    state = () if model_state is None else (model_state,)
    return as_floats("fit", "evaluate", evaluate(params, *state))


def _is_lost(carry: Carry) -> bool:
    return any(leaf.is_deleted() for leaf in jax.tree.leaves(carry))
