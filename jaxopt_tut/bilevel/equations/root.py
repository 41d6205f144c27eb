"""Solutions of equations, as differentiable functions of what the equation depends on."""

from collections.abc import Callable
from typing import Any

from typing_extensions import TypeAliasType

from jaxopt_tut.bilevel.argmin import solve
from jaxopt_tut.bilevel.equations.equation import EquationSolver, FixedPointSolver
from jaxopt_tut.bilevel.equations.fixed_points import Anderson
from jaxopt_tut.bilevel.equations.newton import Newton
from jaxopt_tut.bilevel.modes import Implicit, Mode
from jaxopt_tut.bilevel.pose import Pose
from jaxopt_tut.bilevel.result import Result
from jaxopt_tut.types import Params, PyTree

EquationFn = TypeAliasType("EquationFn", Callable[[Any, Any], Any])
"""`F(y, z)`: a tree like `y`."""

RootSolver = TypeAliasType("RootSolver", EquationSolver)
"""`Newton()`, `Broyden()`, ..., or a solver of one's own."""

PointSolver = TypeAliasType("PointSolver", FixedPointSolver)
"""`Picard()`, `Anderson()`, or a solver of one's own."""

MaybeMode = TypeAliasType("MaybeMode", Mode | None)
"""A mode of differentiation, or `None` for `Implicit()`."""

_NEWTON, _ANDERSON, _IMPLICIT = Newton(), Anderson(), Implicit()


def root(
    F: EquationFn,
    y0: Params,
    z: PyTree,
    *,
    solver: RootSolver = _NEWTON,
    steps: int,
    diff: MaybeMode = None,
    tol: float | None = None,
    strict: bool = True,
    check: bool = False,
) -> Result:
    r"""Solve as many equations as there are unknowns, differentiably.

    $$F(y^*, z) = 0, \qquad \frac{dy^*}{dz} = -(\partial_y F)^{-1}\, \partial_z F$$

    The derivative of `Implicit` asks one linear solve, whatever the solver and the steps it took;
    `OneStep` and `Unroll` differentiate the steps. `Newton` for up to some hundred unknowns,
    `Broyden` where derivatives cost much, `NewtonKrylov` for many unknowns, `Bisection` for one
    unknown in a bracket. Stationary points, saddles among them, are roots of a gradient field.

    Args:
      F: `F(y, z)` returns a tree like `y`.
      y0: Where to start: a tree of floating or complex arrays.
      z: What the equation depends on: any tree.
      solver: What solves it.
      steps: Steps at most.
      diff: The mode of differentiation; `None` means `Implicit()`.
      tol: Stop after the step that begins with a residual of at most this; `None` takes all steps.
      strict: Whether a derivative that `diff` does not define raises while tracing; otherwise it
        is zero.
      check: Whether to raise if the run does not end at a root.

    Returns:
      The root or, if none was found, the last point (of `Broyden` under `Implicit` the best one);
      the solver's state, and how good they are:
      `info.inner_residual` is the largest component of `F` there, `info.converged` says whether
      that is small.

    Raises:
      TypeError: If `solver` solves no equations, `diff` is no mode, or `y0` has a leaf of integers.
      ValueError: If `steps` is negative, or `F` returns another structure than that of `y`; under
        `strict`, if a derivative is not defined; under `check`, if the run has not converged.

    Example:
      The square root of 2 and its derivative $1 / (2 \sqrt z)$.

      >>> import jax
      >>> solve = lambda z: root(lambda y, z: y**2 - z, 1.0, z, steps=9).y
      >>> print(f"{solve(2.0):.4f} {jax.grad(solve)(2.0):.4f}")
      1.4142 0.3536

    References:
      Krantz and Parks (2013), The implicit function theorem, theorem 3.3.1.
      Blondel et al. (2022), eq. (2). https://arxiv.org/abs/2105.15183
    """
    if not isinstance(solver, EquationSolver) or isinstance(solver, FixedPointSolver):
        raise TypeError(
            "root needs one of Newton(), Broyden(), NewtonKrylov(), Bisection(lower, upper), "
            f"got solver={solver!r}."
        )
    mode = _IMPLICIT if diff is None else diff
    pose = Pose(
        caller="root",
        f=F,
        y0=y0,
        z=z,
        solver=solver,
        steps=steps,
        diff=mode,
        tol=tol,
        strict=strict,
    )
    return solve(pose, check=check)


def fixed_point(
    T: EquationFn,
    y0: Params,
    z: PyTree,
    *,
    solver: PointSolver = _ANDERSON,
    steps: int,
    diff: MaybeMode = None,
    tol: float | None = None,
    strict: bool = True,
    check: bool = False,
) -> Result:
    r"""Find a point that a map leaves where it is, differentiably.

    $$y^* = T(y^*, z), \qquad \frac{dy^*}{dz} = (I - \partial_y T)^{-1}\, \partial_z T$$

    With `Implicit` no step is kept, so that a network of any depth with shared weights costs the
    memory of one layer; `Implicit(Neumann(k, step_size=1.0))` is backpropagation through the last
    `k` applications, `OneStep()` through one. `Anderson` mostly is the fastest, `Picard` applies
    the map alone; a fixed point is also a root of $y - T(y, z)$.

    Args:
      T: `T(y, z)` returns a tree like `y`.
      y0: Where to start: a tree of floating or complex arrays.
      z: What the map depends on: any tree.
      solver: What finds it.
      steps: Applications of the map at most.
      diff: The mode of differentiation; `None` means `Implicit()`.
      tol: Stop after the step that begins with a residual of at most this; `None` takes all steps.
      strict: Whether a derivative that `diff` does not define raises while tracing; otherwise it
        is zero.
      check: Whether to raise if the run does not end at a fixed point.

    Returns:
      The last point (of `Anderson` under `Implicit` the best one, if none is a fixed point), the
      solver's state, and how good they are: `info.inner_residual` is the
      largest component of $y - T(y, z)$, `info.converged` says whether that is small: a map that
      does not contract may leave it large, or not finite.

    Raises:
      TypeError: If `solver` finds no fixed points, `diff` is no mode, or `y0` has a leaf of
        integers.
      ValueError: If `steps` is negative, or `T` returns another structure than that of `y`; under
        `strict`, if a derivative is not defined; under `check`, if the run has not converged.

    Example:
      The limit of $y \mapsto y/2 + z$ is $2 z$.

      >>> import jax
      >>> solve = lambda z: fixed_point(lambda y, z: 0.5 * y + z, 0.0, z, steps=9).y
      >>> print(f"{solve(3.0):.3f} {jax.grad(solve)(3.0):.3f}")
      6.000 2.000

    References:
      Bai, Kolter and Koltun (2019), theorem 1. https://arxiv.org/abs/1909.01377
    """
    if not isinstance(solver, FixedPointSolver):
        raise TypeError(
            f"fixed_point needs one of Picard(damping), Anderson(memory), got solver={solver!r}."
        )
    mode = _IMPLICIT if diff is None else diff
    pose = Pose(
        caller="fixed_point",
        f=T,
        y0=y0,
        z=z,
        solver=solver,
        steps=steps,
        diff=mode,
        tol=tol,
        strict=strict,
    )
    return solve(pose, check=check)
