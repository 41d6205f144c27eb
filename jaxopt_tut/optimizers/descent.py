"""The search that `minimize` runs: in one program, or in several with a look between them."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from jaxopt_tut import control_flow
from jaxopt_tut.losses import value_and_ascent
from jaxopt_tut.optimizers import solution as ended
from jaxopt_tut.optimizers.auxiliary import value_and_aux
from jaxopt_tut.optimizers.bounds import Bounds, active, into, is_empty, is_same
from jaxopt_tut.optimizers.ending import Limits, Point, first_status, is_finite, next_status
from jaxopt_tut.optimizers.project import project
from jaxopt_tut.optimizers.projecting import Projection
from jaxopt_tut.optimizers.projections import box
from jaxopt_tut.optimizers.reverse_mode import refuse_reverse_mode
from jaxopt_tut.optimizers.solution import History, Solution, Status
from jaxopt_tut.optimizers.state_readings import (
    any_endless,
    any_failed,
    any_rejected,
    climbers,
    fit_verdict,
    is_away,
    keeps_bounds,
    last_evaluation,
    num_evaluations,
)
from jaxopt_tut.optimizers.stationarity import (
    closed_arrays,
    constraint,
    projected_gradient,
    projections_of,
)
from jaxopt_tut.optimizers.step import take_step
from jaxopt_tut.trees import strong
from jaxopt_tut.types import Count, Flag, Optimizer, Params, PyTree
from jaxopt_tut.vectors import has_moved, ravel


class Problem(NamedTuple):
    """What the program is made for."""

    fun: Callable[..., Any]
    residual_fn: Callable[..., Any] | None
    optimizer: Optimizer
    history_length: int | None
    has_aux: bool
    by_offset: bool = False  # whether a fit that can judge itself decides where it has arrived


class Given(NamedTuple):
    """What is handed to the program."""

    args: tuple
    limits: Limits
    bounds: Bounds | None


class Search(NamedTuple):
    """What the next step needs."""

    point: Point
    grad: PyTree
    state: PyTree
    best: Point
    steps: Int[Array, ""]
    evaluations: Int[Array, ""]
    failures: Int[Array, ""]  # in a row
    status: Int[Array, ""]
    history: Point | None


def run(problem: Problem, x0: Params, given: Given) -> Solution:
    """Search from start to end."""
    search, was_outside = begin(problem, x0, given)
    return finish(problem, advance(problem, search, given), was_outside, given)


def begin(problem: Problem, x0: Params, given: Given) -> tuple[Search, Flag | None]:
    """Evaluate the start, and tell whether it had to be moved into the bounds."""
    bounds = given.bounds
    asked_for = x0 = strong(x0)
    x0 = x0 if bounds is None else into(bounds, x0)
    descent = _Descent(problem, x0, given)
    x0 = control_flow.spread(x0, descent.value_fn)
    first_state = descent.optimizer.init(x0)
    refuse_reverse_mode(closed_arrays(descent.optimizer), "minimize")  # learning rates and others
    # through `args` or what `fun` closes over, all that can be differentiated comes in here
    evaluated = (x0, *value_and_ascent(descent.value_fn)(x0))
    x0, value, grad = refuse_reverse_mode(evaluated, "minimize")
    start = descent.at(x0, value, grad)
    zero = jnp.zeros([], jnp.int32)
    search = Search(
        point=start,
        grad=grad,
        state=first_state,
        best=start,
        steps=zero,
        evaluations=zero + 1,
        failures=zero,
        status=_first_status(start, descent.limits, first_state, bounds),
        history=_first_history(problem.history_length, start),
    )
    # as a loop returns them, so that a program for the first steps is one for the next
    return strong(search), None if bounds is None else ~is_same(x0, asked_for)


def advance(
    problem: Problem, search: Search, given: Given, until: Count | int | None = None
) -> Search:
    """Step until the search ends, or until that many steps are made."""
    descent = _Descent(problem, search.point.params, given)

    def goes_on(search: Search) -> Flag:
        is_running = search.status == ended.RUNNING
        return is_running if until is None else is_running & (search.steps < until)

    return control_flow.while_loop(goes_on, descent.step, search)


def finish(problem: Problem, last: Search, was_outside: Flag | None, given: Given) -> Solution:
    """Say where the search ended, and why."""
    # the last point is the one that was asked for, unless it cannot be used
    end = optax.tree.where(is_finite(last.point), last.point, last.best)
    return Solution(
        params=end.params,
        value=end.value,
        grad_norm=end.grad_norm,
        converged=(last.status < ended.MAX_STEPS) | (last.status == ended.ORTHOGONAL),
        status=Status(last.status),
        steps=last.steps,
        evaluations=last.evaluations,
        history=_finish(last.history, last.steps),
        aux=value_and_aux(problem.fun, problem.has_aux, end.params, given.args)[1],
        active=None if given.bounds is None else active(given.bounds, end.params),
        start_was_outside=was_outside,
    )


class _Descent:
    """One step, and what it takes, of a problem at parameters of some shape."""

    def __init__(self, problem: Problem, params: Params, given: Given):
        args, limits, bounds = given
        dtype = ravel(params)[0].dtype
        self.bounds = bounds
        self.by_offset = problem.by_offset
        self.limits = Limits(
            jnp.asarray(limits.max_steps, jnp.int32),
            *(jnp.asarray(limit, dtype) for limit in limits[1:]),
        )
        fun, residual_fn = problem.fun, problem.residual_fn
        self.value_fn = lambda params: value_and_aux(fun, problem.has_aux, params, args)[0]
        self.functions: dict[str, Any] = {}
        if residual_fn is not None:
            self.functions["residual_fn"] = lambda params: residual_fn(params, *args)
        self.optimizer = problem.optimizer
        state = self.optimizer.init(params)
        if bounds is None:
            self.projection = constraint("minimize", self.optimizer, state, strict=False)
        else:
            if keeps_bounds(state):
                self.functions["bounds"] = bounds
            self.optimizer, self.projection = _under(bounds, self.optimizer, state)
        if self.projection is not None and "bounds" not in self.functions:
            self.functions["projection"] = self.projection  # for line searches

    def at(self, params: Params, value: Any, grad: PyTree) -> Point:
        """Measure a point."""
        left = projected_gradient(self.projection, params, optax.tree.cast_like(grad, params))
        grad_norm = jnp.max(jnp.abs(ravel(left)[0]))
        return Point(params, jnp.asarray(value, grad_norm.dtype), grad_norm)

    def step(self, search: Search) -> Search:
        """Take a step, and find a reason to stop."""
        old = search.point
        params, state = self._move(old.params, search.state, old.value, search.grad)
        detours = jnp.zeros([], jnp.int32)
        if climbers(state):
            # sharpness-aware minimization climbs first; only where it comes down is a step done
            params, state, detours = control_flow.while_loop(
                lambda carry: is_away(carry[1]),
                lambda carry: (*self._follow(carry[0], carry[1]), carry[2] + 1),
                (params, state, detours),
            )
        known = last_evaluation(state)
        value, grad = value_and_ascent(self.value_fn)(params) if known is None else known
        new = self.at(params, value, grad)
        failed = any_failed(state) & ~(new.value < old.value)
        # in a set the values outside of it may fall as they like
        falls = any_endless(state) & (self.projection is None)
        failures = jnp.where(failed | falls, search.failures + 1, 0)
        stays = failed | any_rejected(state)
        stuck = jnp.zeros([], bool)
        if self.projection is not None:
            # e.g. momentum that still points over a bound
            waits = ~has_moved(ravel(params)[0], ravel(old.params)[0])
            waits &= new.grad_norm > self.limits.gtol
            stays, stuck = stays | waits, waits & ~failed & is_same(state, search.state)
        steps = search.steps + 1
        evaluations = search.evaluations + num_evaluations(state) + int(known is None) + detours
        is_better = is_finite(new) & ~(new.value >= search.best.value)
        return Search(
            point=new,
            grad=grad,
            state=state,
            best=optax.tree.where(is_better, new, search.best),
            steps=steps,
            evaluations=evaluations,
            failures=failures,
            status=next_status(
                *(old, new, steps, failures, falls, stays, stuck, self.limits),
                *(fit_verdict(state), self.by_offset),
            ),
            history=_record(search.history, steps, new),
        )

    def _move(
        self, params: Params, state: PyTree, value: Any, grad: PyTree
    ) -> tuple[Params, PyTree]:
        known = value, grad
        after = take_step(
            "minimize", self.optimizer, self.value_fn, params, state, known, **self.functions
        )
        moved = after.params if self.bounds is None else into(self.bounds, after.params)
        return moved, after.state

    def _follow(self, params: Params, state: PyTree) -> tuple[Params, PyTree]:
        value, grad = value_and_ascent(self.value_fn)(params)
        return self._move(params, state, value, grad)


def _under(bounds: Bounds, optimizer: Optimizer, state: PyTree) -> tuple[Optimizer, Projection]:
    """Return the optimizer that stays within bounds, and the projection that it ends at."""
    if projections_of(optimizer):
        raise ValueError("minimize needs either bounds= or project(...), got both.")
    if keeps_bounds(state):
        return optimizer, box(*bounds)
    if isinstance(optimizer, optax.MultiSteps):
        optimizer = optimizer.gradient_transformation()
    optimizer = optax.chain(optimizer, project(box(*bounds)))
    params = bounds[0]  # of the same shapes
    found = constraint("minimize under bounds", optimizer, jax.eval_shape(optimizer.init, params))
    return optimizer, cast(Projection, found)


def _first_status(
    start: Point, limits: Limits, state: PyTree, bounds: Bounds | None
) -> Int[Array, ""]:
    status = first_status(start, limits, fit_verdict(state) is not None)
    return status if bounds is None else jnp.where(is_empty(bounds), ended.EMPTY_BOX, status)


def _first_history(length: int | None, start: Point) -> Point | None:
    if length is None:
        return None
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (length + 1, *leaf.shape)), start)


def _record(history: Point | None, steps: Count, point: Point) -> Point | None:
    if history is None:
        return None
    return jax.tree.map(lambda rows, row: rows.at[steps].set(row), history, point)


def _finish(history: Point | None, steps: Count) -> History | None:
    if history is None:
        return None
    rows = jnp.minimum(jnp.arange(len(history.value), dtype=steps.dtype), steps)
    return History(*jax.tree.map(lambda leaf: leaf[rows], history))
