"""Descent until converged, in one compiled loop, with any optimizer."""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Int
from typing_extensions import TypeAliasType

from jaxopt_tut import control_flow, counts, programs
from jaxopt_tut.losses import is_real_scalar, value_and_ascent
from jaxopt_tut.optimizers import solution as ended
from jaxopt_tut.optimizers.bounds import Bounds, active, into, is_same, spread_bounds
from jaxopt_tut.optimizers.ending import Limits, Point, first_status, is_finite, next_status
from jaxopt_tut.optimizers.extra_arguments import require_optimizer
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
from jaxopt_tut.trees import require_inexact, strong
from jaxopt_tut.types import Count, Limit, LossFn, Number, Optimizer, Params, PyTree
from jaxopt_tut.vectors import has_moved, ravel

Tolerance = TypeAliasType("Tolerance", Number | None)
"""A number, or `None` for one that goes with the precision."""

ResidualFn = TypeAliasType("ResidualFn", Callable[..., PyTree])
"""`residual_fn(params, *args)` returns a tree whose squares are summed."""


def minimize(
    fun: LossFn,
    x0: Params,
    optimizer: Optimizer,
    *args: Any,
    max_steps: Limit = 1000,
    gtol: Tolerance = None,
    ftol: Number = -1.0,
    xtol: Number = -1.0,
    history: bool = False,
    residual_fn: ResidualFn | None = None,
    has_aux: bool = False,
    bounds: Bounds | None = None,
    **unknown: Any,
) -> Solution:
    r"""Minimise a function with any optimizer, until the gradient is small.

    $$w_{t+1} = w_t + u_t \quad \text{until} \quad
    \max_i |\partial_i f(w_t)| \le \epsilon_g$$

    where $u_t$ is what the optimizer makes of the gradient; behind `project` it is the projected
    gradient $w - P(w - \nabla f(w))$ that must be small. For functions without noise; with
    `bfgs`, `lbfgs`, `newton_cg` or `trust_region` it stands where `scipy.optimize.minimize` would.
    The whole search is one compiled loop: the first call with a function, an optimizer and a
    shape compiles, later ones do not, also if the optimizer is built anew with equal arguments
    (and `fun` is the same object: define it once, and hand over what changes as `args`). Under
    `jax.vmap` over starts, `args` or hyper-parameters all searches run at once; those that ended
    stay put.

    Args:
      fun: `fun(params, *args)` returns a real scalar; or, with `has_aux`, a pair of it and a tree.
      x0: Where to start: any tree of floating or complex arrays; a list of numbers becomes an
        array.
      optimizer: Any optax transformation; line searches and solvers get `value`, `grad` and
        `value_fn`.
      *args: Trees of arrays that `fun` needs besides.
      max_steps: Steps at most, 0 or more; may be traced unless there is a `history`.
      gtol: $\epsilon_g$, in value per unit of parameters; `None` means 1e-6 in float64, else 1e-4.
      ftol: Stop also where a step changes the value by this much or less, in units of
        `max(1, |value|)`; negative: never.
      xtol: Stop also where a step moves no parameter by more than this; negative: never.
      history: Whether to return every point visited.
      residual_fn: `residual_fn(params, *args)`, for `gauss_newton` and `levenberg_marquardt`.
      has_aux: Whether `fun` returns auxiliary values too; those at the end are in the solution.
      bounds: `(lower, upper)`, each a number, `None`, or a tree like the parameters of numbers,
        `None` or arrays; infinite where there is no bound; may be traced. A start outside is moved
        to the nearest point within. `lbfgsb` takes bounds into account in every step; behind the
        steps of others `project(projections.box(lower, upper))` is put, and those that do not go
        with it are refused.
      **unknown: Nothing: the keywords of `scipy.optimize.minimize` are refused by what to write.

    Returns:
      The solution; it says by a number and in words why the search ended. What is not finite ends
      it, and the best point is returned.

    Raises:
      TypeError: If a parameter is neither floating nor complex, `optimizer` is not a
        transformation, or a keyword is unknown.
      ValueError: If there is no parameter, if `max_steps` is negative or no integer, if `fun`
        does not return a real scalar (with `has_aux`: a pair), if the steps before a projection do
        not go with it; from `jax.grad`, as the loop has no reverse mode.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import bfgs
      >>> def rosenbrock(w, steepness):
      ...     return (1 - w[0]) ** 2 + steepness * (w[1] - w[0] ** 2) ** 2
      >>> solution = minimize(rosenbrock, jnp.array([-1.2, 1.0]), bfgs(), 100.0)
      >>> print(solution.params.round(2))
      [1. 1.]
      >>> print(solution.message)
      Converged: no component of the gradient is larger than gtol.

    References:
      Nocedal and Wright (2006), chapter 2.2. https://doi.org/10.1007/978-0-387-40065-5
    """
    for name in unknown:
        written = _WRITTEN.get(name)
        raise TypeError(
            f"minimize has no {name}="
            + (f"; write {written}." if written else " among its options.")
        )
    require_optimizer("minimize", optimizer)
    x0 = _as_array(x0) if type(x0) is list else x0
    steps = counts.whole_number(max_steps)
    is_static = steps is not None and steps >= 0
    is_array = isinstance(max_steps, jax.Array) and not history  # a history needs a static length
    if not (is_static or is_array):
        kind = "a static integer" if history else "an integer"
        raise ValueError(f"minimize needs {kind} max_steps >= 0, got max_steps={max_steps}.")
    require_inexact(x0, "minimize")
    x0 = jax.tree.map(jnp.asarray, x0)
    if not sum(leaf.size for leaf in jax.tree.leaves(x0)):
        raise ValueError("minimize needs at least one parameter, got an empty tree.")
    precision = [jnp.finfo(leaf.dtype) for leaf in jax.tree.leaves(x0)]
    if gtol is None:
        gtol = 1e-6 if max(info.bits for info in precision) == 64 else 1e-4
    limits = Limits(counts.as_limit(max_steps), gtol, ftol, xtol)
    if bounds is not None:
        bounds = spread_bounds("minimize", bounds, x0)
    problem = _Problem(fun, residual_fn, optimizer, steps if history else None, has_aux)
    return programs.run(_run, problem, x0, args, limits, bounds)


_WRITTEN = {
    "args": "minimize(fun, x0, optimizer, *args)",
    "method": "the optimizer itself, such as bfgs(), in the third place",
    "jac": "nothing: gradients come from JAX",
    "hess": "nothing: Hessians come from JAX; newton() and trust_region() take them",
    "hessp": "nothing: products come from JAX; newton_cg() takes them",
    "constraints": "optax.chain(nonlinear_cg(), project(...)) as optimizer",
    "tol": "gtol=, ftol= or xtol=",
    "maxiter": "max_steps=",
    "options": "max_steps=, gtol=, ftol= or xtol=",
    "callback": "history=True",
}
"""What SciPy's keywords are here."""


def _as_array(x0: list) -> Any:
    """Make an array of a list of numbers, or of lists of them; leave other lists alone."""
    if not all(isinstance(leaf, int | float | complex | np.number) for leaf in jax.tree.leaves(x0)):
        return x0
    try:
        array = np.asarray(x0)
    except ValueError:  # of different lengths: a tree
        return x0
    return jnp.asarray(array, jnp.result_type(float) if array.dtype.kind in "iu" else None)


class _Problem(NamedTuple):
    fun: Callable[..., Any]
    residual_fn: Callable[..., Any] | None
    optimizer: Optimizer
    history_length: int | None
    has_aux: bool


class _Search(NamedTuple):
    point: Point
    grad: PyTree
    state: PyTree
    best: Point
    steps: Int[Array, ""]
    evaluations: Int[Array, ""]
    failures: Int[Array, ""]  # in a row
    status: Int[Array, ""]
    history: Point | None


def _run(
    problem: _Problem, x0: Params, args: tuple, limits: Limits, bounds: Bounds | None
) -> Solution:
    asked_for = x0 = strong(x0)
    x0 = x0 if bounds is None else into(bounds, x0)
    dtype = ravel(x0)[0].dtype
    limits = Limits(
        jnp.asarray(limits.max_steps, jnp.int32),
        *(jnp.asarray(limit, dtype) for limit in limits[1:]),
    )
    value_fn = lambda params: _value_and_aux(problem, params, args)[0]
    x0 = control_flow.spread(x0, value_fn)
    optimizer = problem.optimizer
    functions: dict[str, Any] = {}
    if (residual_fn := problem.residual_fn) is not None:
        functions["residual_fn"] = lambda params: residual_fn(params, *args)

    first_state = optimizer.init(x0)
    if bounds is not None:
        if keeps_bounds(first_state):
            functions["bounds"] = bounds
        optimizer, projection = _under(bounds, optimizer, first_state)
        first_state = optimizer.init(x0)
    else:
        projection = constraint("minimize", optimizer, first_state, strict=False)
    refuse_reverse_mode(closed_arrays(optimizer), "minimize")  # learning rates and their like

    def at(params: Params, value, grad) -> Point:
        left = projected_gradient(projection, params, optax.tree.cast_like(grad, params))
        grad_norm = jnp.max(jnp.abs(ravel(left)[0]))
        return Point(params, jnp.asarray(value, grad_norm.dtype), grad_norm)

    def move(params: Params, state: PyTree, value, grad) -> tuple[Params, PyTree]:
        known = value, grad
        after = take_step("minimize", optimizer, value_fn, params, state, known, **functions)
        return after.params if bounds is None else into(bounds, after.params), after.state

    def follow(params: Params, state: PyTree) -> tuple[Params, PyTree]:
        value, grad = value_and_ascent(value_fn)(params)
        return move(params, state, value, grad)

    def step(search: _Search) -> _Search:
        old = search.point
        params, state = move(old.params, search.state, old.value, search.grad)
        detours = jnp.zeros([], jnp.int32)
        if climbers(state):
            # sharpness-aware minimization climbs first; only where it comes down is a step done
            params, state, detours = control_flow.while_loop(
                lambda carry: is_away(carry[1]),
                lambda carry: (*follow(carry[0], carry[1]), carry[2] + 1),
                (params, state, detours),
            )
        known = last_evaluation(state)
        value, grad = value_and_ascent(value_fn)(params) if known is None else known
        new = at(params, value, grad)
        failed = any_failed(state) & ~(new.value < old.value)
        # in a set the values outside of it may fall as they like
        falls = any_endless(state) & (projection is None)
        failures = jnp.where(failed | falls, search.failures + 1, 0)
        stays = failed | any_rejected(state)
        stuck = jnp.zeros([], bool)
        if projection is not None:
            # e.g. momentum that still points over a bound
            waits = ~has_moved(ravel(params)[0], ravel(old.params)[0])
            waits &= new.grad_norm > limits.gtol
            stays, stuck = stays | waits, waits & ~failed & is_same(state, search.state)
        steps = search.steps + 1
        evaluations = search.evaluations + num_evaluations(state) + int(known is None) + detours
        is_better = is_finite(new) & ~(new.value >= search.best.value)
        return _Search(
            point=new,
            grad=grad,
            state=state,
            best=optax.tree.where(is_better, new, search.best),
            steps=steps,
            evaluations=evaluations,
            failures=failures,
            status=next_status(old, new, steps, failures, falls, stays, stuck, limits),
            history=_record(search.history, steps, new),
        )

    # through `args` or what `fun` closes over, all that can be differentiated comes in here
    x0, value, grad = refuse_reverse_mode((x0, *value_and_ascent(value_fn)(x0)), "minimize")
    start = at(x0, value, grad)
    zero = jnp.zeros([], jnp.int32)
    first = _Search(
        point=start,
        grad=grad,
        state=first_state,
        best=start,
        steps=zero,
        evaluations=zero + 1,
        failures=zero,
        status=first_status(start, limits),
        history=_first_history(problem.history_length, start),
    )
    last = control_flow.while_loop(lambda search: search.status == ended.RUNNING, step, first)
    # the last point is the one that was asked for, unless it cannot be used
    end = optax.tree.where(is_finite(last.point), last.point, last.best)
    return Solution(
        params=end.params,
        value=end.value,
        grad_norm=end.grad_norm,
        converged=last.status < ended.MAX_STEPS,
        status=Status(last.status),
        steps=last.steps,
        evaluations=last.evaluations,
        history=_finish(last.history, last.steps),
        aux=_value_and_aux(problem, end.params, args)[1],
        active=None if bounds is None else active(bounds, end.params),
        start_was_outside=None if bounds is None else ~is_same(x0, asked_for),
    )


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


def _value_and_aux(problem: _Problem, params: Params, args: tuple) -> tuple[Any, PyTree]:
    value, aux = problem.fun(params, *args), None
    is_pair = isinstance(value, tuple) and len(value) == 2
    if problem.has_aux:
        if not is_pair:
            raise ValueError(
                "minimize needs fun to return a pair (value, aux) under has_aux=True, got "
                f"{_kind(value)}."
            )
        value, aux = value
    if not _is_scalar(value):
        hint = ""
        if is_pair and not problem.has_aux and _is_scalar(value[0]):
            hint = "; for a loss with auxiliary values write minimize(..., has_aux=True)"
        raise ValueError(f"minimize needs fun to return a real scalar, got {_kind(value)}{hint}.")
    return value, aux


_ARRAYS = (int, float, complex, np.generic, np.ndarray, jax.Array)


def _is_scalar(value: Any) -> bool:
    return isinstance(value, _ARRAYS) and is_real_scalar(value)


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple ({', '.join(map(_kind, value))})"
    return str(jax.typeof(value)) if isinstance(value, _ARRAYS) else type(value).__name__


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
