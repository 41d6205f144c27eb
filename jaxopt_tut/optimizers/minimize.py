"""Descent until converged, in one compiled loop, with any optimizer."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut import control_flow, programs
from jaxopt_tut.optimizers import solution as ended
from jaxopt_tut.optimizers.objective import value_and_ascent
from jaxopt_tut.optimizers.solution import History, Solution, Status
from jaxopt_tut.optimizers.stationarity import constraint, projected_gradient
from jaxopt_tut.optimizers.vectors import has_moved, ravel
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Params, PyTree


def minimize(
    fun: Callable[..., Any],
    x0: Params,
    optimizer: optax.GradientTransformation,
    *args: Any,
    max_steps: int | Int[Array, ""] = 1000,
    gtol: ArrayLike | None = None,
    ftol: ArrayLike = -1.0,
    xtol: ArrayLike = -1.0,
    history: bool = False,
    residual_fn: Callable[..., Any] | None = None,
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
      fun: `fun(params, *args)` returns a real scalar.
      x0: Where to start: any tree of floating or complex arrays.
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

    Returns:
      The solution; it says by a number and in words why the search ended. What is not finite ends
      it, and the best point is returned.

    Raises:
      TypeError: If a parameter is neither floating nor complex, or `optimizer` is not a
        transformation.
      ValueError: If there is no parameter, if `max_steps` is negative or no integer, if `fun`
        does not return a real scalar, or if the steps before a projection do not go with it.

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
    if not hasattr(optimizer, "update"):
        raise TypeError(f"minimize needs an optax transformation as optimizer, got {optimizer!r}.")
    is_static = isinstance(max_steps, int | np.integer) and max_steps >= 0
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
    limits = _Limits(max_steps, gtol, ftol, xtol)
    problem = _Problem(fun, residual_fn, optimizer, int(max_steps) if history else None)
    return programs.run(_run, problem, x0, args, limits)


class _Limits(NamedTuple):
    max_steps: Any
    gtol: Any
    ftol: Any
    xtol: Any


class _Problem(NamedTuple):
    fun: Callable[..., Any]
    residual_fn: Callable[..., Any] | None
    optimizer: optax.GradientTransformation
    history_length: int | None


class _Point(NamedTuple):
    params: Params
    value: Float[Array, ""]
    grad_norm: Float[Array, ""]


class _Search(NamedTuple):
    point: _Point
    grad: PyTree
    state: PyTree
    best: _Point
    steps: Int[Array, ""]
    evaluations: Int[Array, ""]
    failures: Int[Array, ""]  # in a row
    status: Int[Array, ""]
    history: _Point | None


def _run(problem: _Problem, x0: Params, args: tuple, limits: _Limits) -> Solution:
    # weakly typed parameters would turn strong after a step, and change the loop's types
    x0 = jax.tree.map(lambda leaf: jax.lax.convert_element_type(leaf, leaf.dtype), x0)
    dtype = ravel(x0)[0].dtype
    limits = _Limits(
        jnp.asarray(limits.max_steps, jnp.int32),
        *(jnp.asarray(limit, dtype) for limit in limits[1:]),
    )
    value_fn = lambda params: _scalar(problem.fun(params, *args))
    x0 = control_flow.spread(x0, value_fn)
    optimizer = optax.with_extra_args_support(problem.optimizer)
    extra_args = {"value_fn": value_fn}
    if (residual_fn := problem.residual_fn) is not None:
        extra_args["residual_fn"] = lambda params: residual_fn(params, *args)

    first_state = optimizer.init(x0)
    projection = constraint("minimize", optimizer, first_state, strict=False)

    def at(params: Params, value, grad) -> _Point:
        left = projected_gradient(projection, params, optax.tree.cast_like(grad, params))
        grad_norm = jnp.max(jnp.abs(ravel(left)[0]))
        return _Point(params, jnp.asarray(value, grad_norm.dtype), grad_norm)

    def step(search: _Search) -> _Search:
        old = search.point
        updates, state = optimizer.update(
            search.grad, search.state, old.params, value=old.value, grad=search.grad, **extra_args
        )
        params = optax.apply_updates(old.params, updates)
        known = last_evaluation(state)
        value, grad = value_and_ascent(value_fn)(params) if known is None else known
        new = at(params, value, grad)
        failed = _any_failed(state) & ~(new.value < old.value)
        failures = jnp.where(failed, search.failures + 1, 0)
        stays = failed | _any_rejected(state)
        stuck = jnp.zeros([], bool)
        if projection is not None:
            # e.g. momentum that still points over a bound
            waits = ~has_moved(ravel(params)[0], ravel(old.params)[0])
            waits &= new.grad_norm > limits.gtol
            stays, stuck = stays | waits, waits & ~failed & _is_same(state, search.state)
        steps = search.steps + 1
        evaluations = search.evaluations + _num_evaluations(state) + int(known is None)
        is_better = _is_finite(new) & ~(new.value >= search.best.value)
        return _Search(
            point=new,
            grad=grad,
            state=state,
            best=jax.tree.map(lambda a, b: jnp.where(is_better, a, b), new, search.best),
            steps=steps,
            evaluations=evaluations,
            failures=failures,
            status=_status(old, new, steps, failures, stays, stuck, limits),
            history=_record(search.history, steps, new),
        )

    value, grad = value_and_ascent(value_fn)(x0)
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
        status=_first_status(start, limits),
        history=_first_history(problem.history_length, start),
    )
    last = control_flow.while_loop(lambda search: search.status == ended.RUNNING, step, first)
    # the last point is the one that was asked for, unless it cannot be used
    end = jax.tree.map(
        lambda a, b: jnp.where(_is_unusable(last.status), a, b), last.best, last.point
    )
    return Solution(
        params=end.params,
        value=end.value,
        grad_norm=end.grad_norm,
        converged=last.status < ended.MAX_STEPS,
        status=Status(last.status),
        steps=last.steps,
        evaluations=last.evaluations,
        history=_finish(last.history, last.steps),
    )


def _scalar(value: Any) -> Any:
    is_array = jax.tree_util.all_leaves([value])
    if not is_array or jnp.shape(value) or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        got = jax.typeof(value) if is_array else value
        raise ValueError(f"minimize needs fun to return a real scalar, got {got}.")
    return value


def _is_finite(point: _Point) -> Bool[Array, ""]:
    return jnp.isfinite(point.value) & jnp.isfinite(point.grad_norm)


def _first_status(start: _Point, limits: _Limits) -> Int[Array, ""]:
    status = jnp.where(limits.max_steps > 0, ended.RUNNING, ended.MAX_STEPS)
    status = jnp.where(start.grad_norm <= limits.gtol, ended.GRADIENT, status)
    return jnp.where(_is_finite(start), status, ended.NON_FINITE_START)


def _is_unusable(status: Int[Array, ""]) -> Bool[Array, ""]:
    return (status == ended.NON_FINITE) | (status == ended.NON_FINITE_START)


def _is_same(new: PyTree, old: PyTree) -> Bool[Array, ""]:
    same = jax.tree.leaves(jax.tree.map(lambda a, b: jnp.all(a == b), new, old))
    return functools.reduce(jnp.logical_and, same, jnp.ones([], bool))


def _status(old: _Point, new: _Point, steps, failures, stays, stuck, limits: _Limits):
    """Return the code of the first reason to stop; later lines overrule earlier ones."""
    moved = ravel(new.params)[0] - ravel(old.params)[0]
    status = jnp.where(steps >= limits.max_steps, ended.MAX_STEPS, ended.RUNNING)
    status = jnp.where(failures >= 2, ended.FAILED, status)
    status = jnp.where(stuck, ended.STUCK, status)
    # a step that failed or was rejected does not move, which is not convergence
    change, size = jnp.abs(new.value - old.value), jnp.maximum(1, jnp.abs(new.value))
    status = jnp.where(~stays & (jnp.max(jnp.abs(moved)) <= limits.xtol), ended.STEP, status)
    status = jnp.where(~stays & (change <= limits.ftol * size), ended.VALUE, status)
    status = jnp.where(new.grad_norm <= limits.gtol, ended.GRADIENT, status)
    return jnp.where(_is_finite(new), status, ended.NON_FINITE)


def last_evaluation(state: PyTree) -> tuple[Array, PyTree] | None:
    """Return the value and the gradient that an optimizer left at the point it stepped to.

    Only the last link of a chain can know them: a link after it may change the step.

    Args:
      state: An optimizer's state.

    Returns:
      The two, or `None` if the last link does not keep them.

    Example:
      >>> import jax.numpy as jnp, optax
      >>> from jaxopt_tut.optimizers import lbfgs
      >>> chained = optax.chain(lbfgs(), optax.scale(0.5))
      >>> last_evaluation(chained.init(jnp.ones(2))) is None
      True
    """
    while type(state) is tuple and state:
        state = state[-1]
    value, grad = getattr(state, "value", None), getattr(state, "grad", None)
    if value is None or grad is None:
        return None
    if isinstance(state, _OPTAX_SEARCHES):  # they keep what `jax.grad` returns
        grad = jax.tree.map(jnp.conj, grad)
    return value, grad


_OPTAX_SEARCHES = (optax.ScaleByZoomLinesearchState, optax.ScaleByBacktrackingLinesearchState)


def _any_failed(state: PyTree) -> Bool[Array, ""]:
    flags = [flag for _, flag in optax.tree.get_all_with_path(state, "failed")]
    return functools.reduce(jnp.logical_or, flags, jnp.zeros([], bool))


def _any_rejected(state: PyTree) -> Bool[Array, ""]:
    flags = [~flag for _, flag in optax.tree.get_all_with_path(state, "accepted")]
    return functools.reduce(jnp.logical_or, flags, jnp.zeros([], bool))


def _num_evaluations(state: PyTree) -> ArrayLike:
    counts = [
        count
        for name in ("num_evaluations", "num_linesearch_steps")  # ours, optax's
        for _, count in optax.tree.get_all_with_path(state, name)
    ]
    return sum(jnp.asarray(count, jnp.int32) for count in counts)


def _first_history(length: int | None, start: _Point) -> _Point | None:
    if length is None:
        return None
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (length + 1, *leaf.shape)), start)


def _record(history: _Point | None, steps, point: _Point) -> _Point | None:
    if history is None:
        return None
    return jax.tree.map(lambda rows, row: rows.at[steps].set(row), history, point)


def _finish(history: _Point | None, steps) -> History | None:
    if history is None:
        return None
    rows = jnp.minimum(jnp.arange(len(history.value), dtype=steps.dtype), steps)
    return History(*jax.tree.map(lambda leaf: leaf[rows], history))
