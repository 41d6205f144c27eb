"""The dispatches of `fit` on the host, epoch by epoch; between any two everything is whole."""

import dataclasses
import itertools
from collections import deque
from collections.abc import Callable
from contextlib import closing

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxopt_tut.diagnostics import Diagnosis, diagnose
from jaxopt_tut.tracing import is_traced
from jaxopt_tut.training.accumulation import Total, nothing_yet
from jaxopt_tut.training.arguments import ON_THE_HOST
from jaxopt_tut.training.data import AnyKey, Source, Window, batch_at
from jaxopt_tut.training.interrupts import Interrupts
from jaxopt_tut.training.losses import loss_with_state
from jaxopt_tut.training.measuring import Measurements
from jaxopt_tut.training.sharding import Places
from jaxopt_tut.training.steps import (
    Carry,
    Draw,
    Finite,
    add_micro_batch,
    copied,
    look_back,
    run_steps,
)
from jaxopt_tut.types import LossFn, Optimizer, PyTree

STEPS_AHEAD = 256
"""Dispatches after which the host waits once, to see whether training goes on."""


@dataclasses.dataclass
class Loop:
    """Takes the steps of one epoch after the other; between any two of them `carry` is whole."""

    carry: Carry
    loss_fn: LossFn
    optimizer: Optimizer
    source: Source
    steps_per_call: int
    diagnose_every: int | None
    places: Places | None
    measurements: Measurements
    loss_key: AnyKey | None = None
    accumulate: int = 1
    total: Total | None = None
    exact: bool = False
    before: Carry | None = None
    epoch: int = -1
    window: Window | None = None
    """The last of those that come and go."""
    diagnoses: dict[int, Diagnosis] = dataclasses.field(default_factory=dict)
    interrupts: Interrupts = dataclasses.field(default_factory=Interrupts)
    after_dispatch: Callable[[int], None] = lambda _: None
    """Called between two dispatches with the number of steps that are behind, since the start."""

    def __post_init__(self) -> None:
        """Take exact steps from the start where an epoch cannot be taken again."""
        if not self.source.is_repeatable:
            self.exact = True
            self.carry = self.carry._replace(finite=look_back(self.carry, self.carry))

    @property
    def num_steps(self) -> int:
        """Steps in an epoch."""
        return self.source.num_steps

    def run_epoch(self, epoch: int, *, is_begun: bool = False) -> None:
        """Take all steps of an epoch that are left, or those before one that cannot be taken.

        What is not finite is looked for once an epoch, because that is slower than many a step is;
        then the epoch is taken again in exact steps.
        """
        if not is_begun:
            with self.interrupts.held():
                self.epoch = epoch
                self.carry = self.carry._replace(step=jnp.zeros_like(self.carry.step))
                self.before = None if self.exact else copied(self.carry)
                self.measurements.mark()
        self._take_steps(int(self.carry.step) if is_begun else 0)
        if not epoch and any(
            map(is_traced, jax.tree.leaves(self.carry))
        ):  # by what the loss or the optimizer closes over
            raise TypeError(ON_THE_HOST.format("a loss or an optimizer with a traced number"))
        if not self.is_sound():
            self.go_back()
            self._take_steps(0)
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
            self.measurements.go_back(taken)

    def _take_steps(self, first: int) -> None:
        num_steps = self.num_steps
        due = range(0)
        if self.diagnose_every is not None:
            due = range(
                -self.epoch * num_steps % self.diagnose_every, num_steps, self.diagnose_every
            )
        begin = self.epoch * num_steps
        measured = self.measurements.due(begin, num_steps)
        every = range(0, num_steps, self.steps_per_call)
        stops = sorted({first, num_steps, *(at for at in (*every, *due, *measured) if at > first)})
        # of batches that cannot be had once more the last one is kept, to explain a stop
        cannot_repeat, ahead = not self.source.is_repeatable, self.source.ahead
        marks: deque[Array] = deque()
        with closing(self.source.windows(self.epoch, stops)) as windows:
            for dispatch, (start, stop) in enumerate(itertools.pairwise(stops)):
                # what follows a step that cannot be taken changes nothing, but costs as much
                must_look = cannot_repeat or start in due or start in measured
                must_look |= dispatch % STEPS_AHEAD == STEPS_AHEAD - 1
                if must_look and not self.carry.alive:
                    return
                window = next(windows)
                if ahead is not None and window is not self.window:
                    # else the host would send off windows faster than the device takes them
                    marks.append(jnp.copy(self.carry.step))
                    if len(marks) > ahead:
                        marks.popleft().block_until_ready()
                    self.window = window
                if start in due:
                    self.diagnoses[begin + start] = self._diagnose(window, start)
                if start in measured:
                    self._measure(begin + start)
                with self.interrupts.held():
                    self.carry = self._dispatch(self.carry, window, stop)
                self.after_dispatch(begin + stop)

    def measure_end(self) -> None:
        """Measure by the probes what the last step led to, unless the next one was begun."""
        at = max(self.epoch, 0) * self.num_steps + int(self.carry.step)
        is_known = self.measurements.has(at)
        if self.measurements.probes and not is_known and (at or self.carry.alive):
            self._measure(at)
            self.measurements.settle()

    def _measure(self, at: int) -> None:
        states, measured = self.measurements.measure(self.carry, at)
        with self.interrupts.held():  # all probes have measured, or none
            self.measurements.take(at, states, measured)

    def diagnose_first(self) -> Diagnosis:
        """Diagnose on the first batch of the epoch, where only the form of a diagnosis matters."""
        with closing(self.source.windows(max(self.epoch, 0), (0, 1))) as windows:
            return self._diagnose(next(windows), 0)

    def _diagnose(self, window: Window, step: int) -> Diagnosis:
        loss = loss_with_state(self.loss_fn, self.carry.model_state is not None)
        draw = self._draw()
        key = draw and draw.key_of(np.int32(step))
        batch = batch_at(window, np.int32(step)), self.carry.model_state, key
        return diagnose(loss, self.carry.params, batch)

    def _dispatch(self, carry: Carry, window: Window, stop: int, *, mended: bool = False) -> Carry:
        one_step_per_call = self.steps_per_call == 1
        return run_steps(
            carry,
            window,
            np.int32(stop),
            self._draw(),
            self._sum(carry, window) if one_step_per_call and self.accumulate > 1 else None,
            loss_fn=self.loss_fn,
            optimizer=self.optimizer,
            has_model_state=carry.model_state is not None,
            one_step_per_call=one_step_per_call,
            accumulate=self.accumulate,
            places=self.places,
            exact=self.exact,
            mended=mended,
        )

    def _sum(self, carry: Carry, window: Window) -> Total:
        """Look at the micro-batches of the next step, a dispatch each."""
        total, self.total = self.total, None  # donated
        if total is None:
            total = copied(nothing_yet(carry.params, carry.model_state, carry.record))
        for index in range(self.accumulate):
            total = add_micro_batch(
                total,
                carry,
                window,
                np.int32(index),
                self._draw(),
                loss_fn=self.loss_fn,
                has_model_state=carry.model_state is not None,
                accumulate=self.accumulate,
                places=self.places,
            )
        self.total = total
        return total

    def _draw(self) -> Draw | None:
        """Say what the loss draws by in this epoch, if it does."""
        start = np.uint32(self.epoch * self.num_steps % 2**32)
        return None if self.loss_key is None else Draw(self.loss_key, start)

    def retry(self, opt_state: PyTree, mended: bool) -> Finite:
        """Look at what the step that could not be taken leads to from another optimizer state."""
        step = int(self.carry.step)
        start = copied(self.carry._replace(opt_state=opt_state, alive=~self.carry.alive))
        if self.source.is_repeatable:
            with closing(self.source.windows(self.epoch, (step, step + 1))) as windows:
                self.window = next(windows)
        assert self.window is not None
        finite = self._dispatch(start, self.window, step + 1, mended=mended).finite
        assert finite is not None  # the step is exact
        return finite
