"""The solution of an inner problem, as a differentiable function of everything it depends on."""

from jaxopt_tut import programs
from jaxopt_tut.bilevel.batches import Batches
from jaxopt_tut.bilevel.doubts import require_sound
from jaxopt_tut.bilevel.modes import DiffMode, Unroll
from jaxopt_tut.bilevel.modes.refusal import guarded_run
from jaxopt_tut.bilevel.pose import Pose
from jaxopt_tut.bilevel.problem import InnerFn, Inputs, Run
from jaxopt_tut.bilevel.result import Info, Result, describe
from jaxopt_tut.bilevel.solvers import SolverLike
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Number, Params, PyTree

_UNROLL = Unroll()


def argmin(
    f: InnerFn,
    y0: Params,
    z: PyTree,
    *,
    solver: SolverLike,
    steps: int,
    diff: DiffMode = _UNROLL,
    hp: PyTree = None,
    batches: Batches = None,
    tol: Number | None = None,
    strict: bool = True,
    check: bool = False,
    residual_fn: InnerFn | None = None,
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
    pose = Pose(
        caller="argmin",
        f=f,
        y0=y0,
        z=z,
        solver=solver,
        steps=steps,
        diff=diff,
        hp=hp,
        batches=batches,
        tol=tol,
        strict=strict,
        residual_fn=residual_fn,
    )
    return solve(pose, check=check)


def solve(pose: Pose, *, check: bool) -> Result:
    """Solve what is posed, and say how well."""
    require_inexact(pose.y0, pose.caller)
    made_of, inputs = pose.split()
    run, info = programs.run(_solve, made_of, *inputs)
    if check:
        require_sound(info, pose.caller)
    return Result(run.y, run.state, info)


def _solve(made_of: Pose, *inputs: PyTree) -> tuple[Run, Info]:
    pose = made_of.joined(Inputs(*inputs))
    problem, values = pose.problem()
    mode = pose.diff.chosen(problem, values)
    run = guarded_run(problem, mode, values)
    return run, describe(mode, problem, values, run)
