"""One inner problem: what is solved, apart from how its solution is differentiated."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int
from typing_extensions import TypeAliasType

from jaxopt_tut import control_flow, counts
from jaxopt_tut.bilevel.batches import batch_at, mean_over_batches
from jaxopt_tut.bilevel.solvers.solver import Objective, Solver, size_of
from jaxopt_tut.blocks import shown
from jaxopt_tut.types import Number, Params, PyTree

InnerFn = TypeAliasType("InnerFn", Callable[..., Any])
"""`f(y, z)` or, with batches, `f(y, z, batch)`."""


@shown
class Inputs(NamedTuple):
    """All values an inner solution depends on: what a mode may differentiate with respect to.

    Attributes:
      y0: Where the inner steps begin.
      z: What the inner problem depends on, any tree.
      hp: Hyper-parameters of the solver, or `None`.
      batches: What the steps are handed in turn: arrays with a leading axis of steps, a key of a
        `Stream`, or `None`.

    Example:
      A mode of one's own holds some of them constant by `_replace`:

      >>> inputs = Inputs(y0=0.0, z=1.0, hp=None, batches=None)
      >>> print(inputs._replace(z=jax.lax.stop_gradient(inputs.z)).z)
      1.0
    """

    y0: Params
    z: PyTree
    hp: PyTree
    batches: PyTree


@shown
class Run(NamedTuple):
    """Where the inner steps have come to: what `Mode.run` returns.

    Attributes:
      y: The inner variables.
      state: The state of the solver, such as moments of an optimizer.
      steps: How many steps were taken.
      is_done: Whether the residual has been small, so that no more are taken; `None` where no
        tolerance was given.

    Example:
      >>> run = Run(y=2.0, state=(), steps=jnp.array(3), is_done=None)
      >>> print(run._replace(y=jax.lax.stop_gradient(run.y)).y)
      2.0
    """

    y: Params
    state: PyTree
    steps: Int[Array, ""]
    is_done: Bool[Array, ""] | None


@shown
@dataclass(frozen=True)
class Problem:
    r"""An inner problem without its values: functions and limits, as a mode is handed them.

    $$r_0 = \mathrm{start}(\mathrm{inputs}), \qquad
      r_{t+1} = \mathrm{advance}(\mathrm{inputs}, r_t, t), \qquad t = 0, \dots, T - 1$$

    with runs $r_t$ and $T$ = `num_steps`. `argmin`, `hypergrad`, `root` and `fixed_point` make it;
    a mode of one's own takes its steps. It is static: it may be closed over by what is compiled,
    and holds no array.

    Attributes:
      f: `f(y, z)` or, with batches, `f(y, z, batch)`.
      solver: What solves it.
      steps: Steps at most.
      tol: Residual at which to stop, or `None`.
      has_batches: Whether `f` takes a batch.
      strict: Whether a derivative that the mode does not define raises.
      caller: The public function, for messages.

    Example:
      >>> from jaxopt_tut.bilevel import ClosedForm
      >>> f = lambda y, z: (y - 2 * z) ** 2
      >>> problem = Problem(f, ClosedForm(lambda z: 2 * z), steps=5, tol=None,
      ...                   has_batches=False, strict=True, caller="argmin")
      >>> inputs = Inputs(jnp.array(0.0), jnp.array(3.0), hp=None, batches=None)
      >>> run = problem.advance(inputs, problem.start(inputs), 0)
      >>> print(run.y, problem.num_steps, problem.residual(run.y, inputs))
      6.0 1 0.0
    """

    f: InnerFn
    solver: Solver
    steps: int
    tol: Number | None
    has_batches: bool
    strict: bool
    caller: str

    @property
    def num_steps(self) -> int:
        """Steps of the loop: one for a solver whose step is the whole solve."""
        return min(self.steps, 1) if self.solver.is_whole else self.steps

    def start(self, inputs: Inputs) -> Run:
        """Return the run before its first step.

        Args:
          inputs: The values; `y0` and `hp` of them are used.

        Returns:
          A run of no steps.
        """
        is_done = None if self.tol is None else jnp.zeros((), bool)
        state = self.solver.init(inputs.y0, inputs.hp)
        return Run(inputs.y0, state, jnp.zeros((), jnp.int32), is_done)

    def advance(self, inputs: Inputs, run: Run, index: Any) -> Run:
        """Take step number `index`, or none if the run is done.

        Differentiable in `inputs` and `run`, if the solver's steps are.

        Args:
          inputs: The values.
          run: Where the steps before have come to.
          index: Which step, counted from 0; it chooses the batch, and may be traced.

        Returns:
          The run after it.
        """
        if run.is_done is None:
            return self.move(inputs, run, index)
        move = lambda run: self.move(inputs, run, index)
        return control_flow.cond(run.is_done, lambda run: run, move, run)

    def move(self, inputs: Inputs, run: Run, index: Any) -> Run:
        """Take step number `index`; the step that finds the residual small is the last."""
        return self._step(inputs, run, index)[0]

    def _step(self, inputs: Inputs, run: Run, index: Any) -> tuple[Run, Float[Array, ""]]:
        objective = self.objective_at(inputs, index)
        y, state, size = self.solver.step(objective, run.y, run.state, inputs.hp)
        is_done = None if self.tol is None else size <= jnp.asarray(self.tol, size.dtype)
        return Run(y, state, run.steps + 1, is_done), size

    def run(self, inputs: Inputs, num_steps: int | None = None) -> Run:
        """Take all steps, or the first `num_steps`, keeping nothing for a derivative.

        A loop of unknown length, without reverse mode: hand over `jax.lax.stop_gradient(inputs)`
        where the result is a constant.

        Args:
          inputs: The values.
          num_steps: How many steps at most; `None` for all.

        Returns:
          The run after them, or after that which found the residual small.
        """
        num_steps = self.num_steps if num_steps is None else num_steps
        goes_on = lambda run: self._is_unfinished(run, num_steps)
        move = lambda run: self.move(inputs, run, run.steps)
        return control_flow.while_loop(goes_on, move, self.start(inputs))

    def run_to_best(self, inputs: Inputs) -> Run:
        """Take all steps; end at the best point met where the last one is worse and no solution.

        For solvers that say that they may wander; the others end where they end.
        """
        if not getattr(self.solver, "wanders", False) or self.has_batches:
            return self.run(inputs)

        def move(carry: tuple) -> tuple:
            run, best, least = carry
            after, size = self._step(inputs, run, run.steps)  # the residual of the old point
            is_better = size < least
            best = optax.tree.where(is_better, run.y, best)
            return after, best, jnp.where(is_better, size, least)

        start = self.start(inputs)
        size_at = lambda y: size_of(self.residual(y, inputs))
        endless = jnp.full((), jnp.inf, jax.eval_shape(size_at, inputs.y0).dtype)
        run, best, least = control_flow.while_loop(
            lambda carry: self._is_unfinished(carry[0], self.num_steps),
            move,
            (start, inputs.y0, endless),
        )
        size = size_at(run.y)
        is_worse = ~(size <= least) & ~self.is_small(size) & (least < jnp.inf)
        return run._replace(y=optax.tree.where(is_worse, best, run.y))

    def _is_unfinished(self, run: Run, num_steps: int) -> Bool[Array, ""]:
        going = run.steps < counts.as_limit(num_steps)
        return going if run.is_done is None else going & ~run.is_done

    def objective_at(self, inputs: Inputs, index: Any) -> Objective:
        """Return the inner function of one step."""
        if not self.has_batches:
            return Objective(self.f, (inputs.z,))
        if self.solver.is_whole:
            return self.mean_objective(inputs)
        return Objective(self.f, (inputs.z, batch_at(inputs.batches, index)))

    def mean_objective(self, inputs: Inputs) -> Objective:
        """Return the inner function whose minimum the run approaches."""
        if not self.has_batches:
            return Objective(self.f, (inputs.z,))
        return Objective(mean_over_batches(self.f, self.steps), (inputs.z, inputs.batches))

    def residual(self, y: Params, inputs: Inputs) -> PyTree:
        """Return the tree that is zero where `y` solves the problem."""
        return self.solver.residual(self.mean_objective(inputs), y, inputs.hp)

    def is_small(self, size: Float[Array, ""]) -> Bool[Array, ""]:
        """Tell whether a residual counts as that of a solution."""
        tol = default_tolerance(size.dtype) if self.tol is None else self.tol
        return size <= jnp.asarray(tol, size.dtype)


def default_tolerance(dtype: Any) -> float:
    """Return the residual that counts as that of a solution where no tolerance is given."""
    return 1e-6 if np.finfo(dtype).bits == 64 else 1e-4
