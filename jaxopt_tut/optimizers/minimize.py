"""Descent until converged, in one compiled loop, with any optimizer."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from typing_extensions import TypeAliasType

from jaxopt_tut import counts, programs
from jaxopt_tut.optimizers.bounds import spread_bounds
from jaxopt_tut.optimizers.callbacks import Callback, require_callback, run_watched
from jaxopt_tut.optimizers.descent import Given, Problem, run
from jaxopt_tut.optimizers.ending import Limits
from jaxopt_tut.optimizers.scipy_words import BoundsLike, as_bounds, as_optimizer, refuse_words
from jaxopt_tut.optimizers.solution import Solution, trimmed
from jaxopt_tut.optimizers.starts import as_start
from jaxopt_tut.types import Limit, LossFn, Number, Optimizer, Params, PyTree

Tolerance = TypeAliasType("Tolerance", Number | None)
"""A number, or `None` for one that goes with the precision."""

ResidualFn = TypeAliasType("ResidualFn", Callable[..., PyTree])
"""`residual_fn(params, *args)` returns a tree whose squares are summed."""


def minimize(
    fun: LossFn,
    x0: Params,
    optimizer: Optimizer | None = None,
    *args: Any,
    max_steps: Limit = 1000,
    gtol: Tolerance = None,
    ftol: Number = -1.0,
    xtol: Number = -1.0,
    history: bool = False,
    residual_fn: ResidualFn | None = None,
    has_aux: bool = False,
    bounds: BoundsLike | None = None,
    callback: Callback | None = None,
    callback_every: Limit = 1,
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
      x0: Where to start: any tree of floating or complex arrays; a list or tuple of numbers
        becomes an array, and integers become floating.
      optimizer: Any optax transformation; line searches and solvers get `value`, `grad` and
        `value_fn`.
      *args: Trees of arrays that `fun` needs besides.
      max_steps: Steps at most, 0 or more; may be traced unless there is a `history`.
      gtol: $\epsilon_g$, in value per unit of parameters; `None` means 1e-6 in float64, else 1e-4,
        and for `levenberg_marquardt` and `gauss_newton` that the residuals are orthogonal to their
        derivatives, too, which does not depend on units.
      ftol: Stop also where a step changes the value by this much or less, in units of
        `max(1, |value|)`; negative: never.
      xtol: Stop also where a step moves no parameter by more than this; negative: never.
      history: Whether to return every point visited: `steps + 1` of them; under `jax.jit` and
        `jax.vmap`, where shapes must be known, `max_steps + 1`, the last ones equal.
      residual_fn: `residual_fn(params, *args)`, for `gauss_newton` and `levenberg_marquardt`.
      has_aux: Whether `fun` returns auxiliary values too; those at the end are in the solution.
      bounds: `(lower, upper)`, each a number, `None`, or a tree like the parameters of numbers,
        `None` or arrays; infinite where there is no bound; may be traced. For parameters in one
        vector also what SciPy takes: its `Bounds`, or pairs, `[(low, high), ...]`, one a
        parameter. A start outside is moved to the nearest point within. `lbfgsb` takes bounds
        into account in every step; behind the steps of others
        `project(projections.box(lower, upper))` is put, and those that do not go with it are
        refused.
      callback: Called on the host as `callback(progress)` with a `Progress(step, params, value,
        grad_norm)`; the search stops where it returns True or raises `StopIteration`. Another
        error comes through, with a note of the step. Between calls the steps are one compiled
        loop; not under `jax.jit` or `jax.vmap`.
      callback_every: After how many steps it is called, each time; and after the last one.
      **unknown: Nothing: the keywords of `scipy.optimize.minimize` are refused by what to write.

    Returns:
      The solution; it says by a number and in words why the search ended. What is not finite ends
      it, and the best point is returned.

    Raises:
      TypeError: If a parameter is no number, `optimizer` is not a transformation, a keyword is
        unknown, or `callback` returns neither a truth value nor `None`.
      ValueError: If there is no parameter, if `max_steps` is negative or no integer, if `fun`
        does not return a real scalar (with `has_aux`: a pair), if the steps before a projection do
        not go with it, if there is a `callback` and something is traced; from `jax.grad`, as the
        loop has no reverse mode.

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
    refuse_words(unknown)
    optimizer = as_optimizer(optimizer, args, bounds is not None)
    if not callable(fun):
        raise TypeError(f"minimize needs a function of the parameters first, got {fun!r:.60}.")
    require_callback(callback, callback_every)
    steps = counts.whole_number(max_steps)
    is_static = steps is not None and steps >= 0
    is_array = isinstance(max_steps, jax.Array) and not history  # a history needs a static length
    if not (is_static or is_array):
        kind = "a static integer" if history else "an integer"
        raise ValueError(f"minimize needs {kind} max_steps >= 0, got max_steps={max_steps}.")
    x0 = as_start("minimize", x0)
    precision = [jnp.finfo(leaf.dtype) for leaf in jax.tree.leaves(x0)]
    by_offset = gtol is None and residual_fn is not None
    if gtol is None:
        gtol = 1e-6 if max(info.bits for info in precision) == 64 else 1e-4
    limits = Limits(counts.as_limit(max_steps), gtol, ftol, xtol)
    if bounds is not None:
        bounds = spread_bounds("minimize", as_bounds(bounds, x0), x0)
    length = steps if history else None
    problem = Problem(fun, residual_fn, optimizer, length, has_aux, by_offset)
    given = Given(args, limits, bounds)
    if callback is None:
        solution = programs.run(run, problem, x0, given)
    else:
        solution = run_watched(problem, x0, given, callback, callback_every)
    return solution if solution.history is None else trimmed(solution)
