"""The solution of an inner problem, as a differentiable function of everything it depends on."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from jaxopt_tut import control_flow, counts, programs
from jaxopt_tut.bilevel.batches import Stream, require_batches, split_batches
from jaxopt_tut.bilevel.doubts import require_sound
from jaxopt_tut.bilevel.modes.mode import Hypergradient, LinearInfo, Mode
from jaxopt_tut.bilevel.modes.unroll import Unroll
from jaxopt_tut.bilevel.problem import Inputs, Problem, Run
from jaxopt_tut.bilevel.result import Info, Result
from jaxopt_tut.bilevel.solvers import Descent, Solver, as_solver, size_of, with_residuals
from jaxopt_tut.bilevel.traceable import as_code
from jaxopt_tut.losses import WithoutAux, is_real_scalar, value_part
from jaxopt_tut.trees import require_inexact, strong
from jaxopt_tut.types import Params, PyTree

_UNROLL = Unroll()


def argmin(
    f: Callable[..., Any],
    y0: Params,
    z: PyTree,
    *,
    solver: optax.GradientTransformation | Callable[[Any], optax.GradientTransformation] | Solver,
    steps: int,
    diff: Mode = _UNROLL,
    hp: PyTree = None,
    batches: PyTree | Stream = None,
    tol: float | None = None,
    strict: bool = True,
    check: bool = False,
    residual_fn: Callable[..., Any] | None = None,
) -> Result:
    r"""Minimise an inner function, differentiably.

    $$y^*(z) \approx \arg\min_y f(y, z)$$

    `diff` says which derivative $y^*$ has: that of the steps (`Unroll`, `Forward`, `Truncate`),
    or that of the optimality condition $\nabla_y f = 0$ (`Implicit`, `OneStep`), which does not
    depend on how $y^*$ was found. Rule of thumb: few steps, or hyper-parameters of the solver to
    learn: `Unroll`; solved to convergence: `Implicit`.

    What is to be differentiated comes in as an argument: a differentiated value that `f` or
    `solver` closes over raises where its derivative would be lost.

    Args:
      f: `f(y, z)` or, with `batches`, `f(y, z, batch)`: a real scalar, or a pair of one and
        auxiliary values, which are dropped.
      y0: Where to start: a tree of floating or complex arrays.
      z: What the problem depends on: any tree.
      solver: An optax transformation; a function of `hp` that returns one; or a `Solver`
        (`Minimize`, `ClosedForm`, `Proximal`).
      steps: $T$, inner steps at most.
      diff: The mode of differentiation.
      hp: What the function `solver` takes: learning rates, decays, schedules of numbers.
      batches: A tree of arrays with a leading axis of `steps`, or a `Stream`.
      tol: Stop after the step that begins with a residual of at most this; `None` takes all steps.
      strict: Whether a derivative that `diff` does not define raises while tracing; otherwise it
        is zero.
      check: Whether to raise if the run does not end at an optimum.
      residual_fn: `residual_fn(y, z)` or, with `batches`, `residual_fn(y, z, batch)`, for
        `gauss_newton` and `levenberg_marquardt`, which minimise the sum of its squares: `f`.

    Returns:
      The solution, the solver's state and how good they are.

    Raises:
      TypeError: If `diff` is no mode, `solver` no solver, or `y0` has a leaf of integers.
      ValueError: If `steps` is negative, the batches don't fit, `f` returns no real scalar; under
        `strict`, if a derivative is not defined; under `check`, if the run has not converged.

    Example:
      The minimiser of $(y - z)^2 + \lambda y^2$ is $z / (1 + \lambda)$, also in its derivative.

      >>> import jax
      >>> from jaxopt_tut.bilevel import Implicit
      >>> from jaxopt_tut.optimizers import sgd
      >>> f = lambda y, z: (y - z["target"]) ** 2 + z["penalty"] * y**2
      >>> def solve(penalty):
      ...     z = {"target": 4.0, "penalty": penalty}
      ...     return argmin(f, 0.0, z, solver=sgd(0.2), steps=50, diff=Implicit()).y
      >>> print(f"{solve(1.0):.3f} {jax.grad(solve)(1.0):.3f}")
      2.000 -1.000

    References:
      Gould et al. (2016), lemma 3.2. https://arxiv.org/abs/1607.05447
    """
    require_inexact(y0, "argmin")
    stream, rows = split_batches(batches)
    made_of = f, solver, steps, diff, tol, strict, stream, residual_fn
    run, info = programs.run(_argmin, made_of, y0, z, hp, rows)
    if check:
        require_sound(info, "argmin")
    return Result(run.y, run.state, info)


def _argmin(made_of: tuple, y0: Params, z: PyTree, hp: PyTree, rows: PyTree) -> tuple[Run, Info]:
    f, solver, steps, diff, tol, strict, stream, residual_fn = made_of
    batches = rows if stream is None else stream
    problem, inputs = prepare("argmin", f, y0, z, solver, steps, diff, hp, batches, tol, strict)
    solver = with_residuals(problem.solver, residual_fn, "argmin")
    problem = dataclasses.replace(problem, solver=solver)
    mode = diff.chosen(problem, inputs)
    run = mode.run(problem, inputs)
    return run, describe(mode, problem, inputs, run)


def prepare(
    caller, f, y0, z, solver, steps, diff, hp, batches, tol, strict
) -> tuple[Problem, Inputs]:
    """Check the arguments that `argmin` and `hypergrad` share, and sort them.

    Args:
      caller: Which of the two asks; it opens the messages.
      f: As in `argmin`, as are the rest.
      y0: As there.
      z: As there.
      solver: As there.
      steps: As there.
      diff: As there.
      hp: As there.
      batches: As there.
      tol: As there.
      strict: As there.

    Returns:
      The static part and the values.

    Raises:
      TypeError: As `argmin`.
      ValueError: As `argmin`.
    """
    if not isinstance(diff, Mode) or isinstance(diff, type):
        raise TypeError(
            f"{caller} needs one of the modes Unroll(), Forward(), Truncate(k), Implicit(), "
            f"OneStep(), Plan(memory), got diff={diff!r}."
        )
    if (num_steps := counts.whole_number(steps)) is None or num_steps < 0:
        raise ValueError(f"{caller} needs a whole number steps >= 0, got steps={steps!r}.")
    require_inexact(y0, caller)
    require_batches(batches, num_steps, caller)
    inputs = Inputs(strong(y0), z, hp, batches)
    bounded = as_solver(solver, hp, caller).bounded(num_steps, tol)
    if isinstance(bounded, Descent):
        bounded = dataclasses.replace(bounded, zero_safe=getattr(diff, "zero_safe", False))
    problem = Problem(f, bounded, num_steps, tol, batches is not None, strict, caller)
    first = lambda y: problem.objective_at(inputs, 0)(y)
    inputs = inputs._replace(y0=control_flow.spread(inputs.y0, first))
    evaluate = lambda inputs: problem.objective_at(inputs, 0)(inputs.y0)
    value = jax.eval_shape(evaluate, inputs)
    if value is not value_part(value):
        problem, value = dataclasses.replace(problem, f=WithoutAux(f)), value_part(value)
    if not is_real_scalar(value):
        raise ValueError(f"{caller} needs f to return a real scalar, got {value}.")
    return problem, inputs


def describe(
    mode: Mode,
    problem: Problem,
    inputs: Inputs,
    run: Run,
    found: Hypergradient | None = None,
) -> Info:
    """Return how good a run is; none of it carries a derivative.

    Args:
      mode: The mode that was used.
      problem: The inner problem.
      inputs: What it depends on.
      run: Where it ended.
      found: The hypergradient, if it was asked for.

    Returns:
      The facts.
    """
    run, inputs, found = jax.lax.stop_gradient((run, inputs, found))
    linear = LinearInfo() if found is None else found.linear
    size = size_of(problem.residual(run.y, inputs))
    converged = problem.is_small(size)
    return Info(
        inner_residual=size,
        converged=converged if linear.is_solved is None else converged & linear.is_solved,
        steps=run.steps,
        linear_residual=linear.residual,
        iterations=linear.iterations,
        is_definite=linear.is_definite,
        error_estimate=None if found is None else found.error_estimate,
        is_finite=None if found is None else _all_finite((found.value, found.grads)),
        mode=as_code(mode),
        bytes=mode.num_bytes(problem, inputs),
    )


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))
