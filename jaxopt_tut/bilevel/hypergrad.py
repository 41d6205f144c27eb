"""The derivative of an outer function through an inner solution."""

import jax

from jaxopt_tut import programs
from jaxopt_tut.bilevel.batches import Batches
from jaxopt_tut.bilevel.dependence import depends_on
from jaxopt_tut.bilevel.doubts import require_sound, warn_of_doubts
from jaxopt_tut.bilevel.modes.mode import DiffMode, Grads, Hypergradient, Mode, Names, OuterFn
from jaxopt_tut.bilevel.modes.refusal import undefined
from jaxopt_tut.bilevel.pose import Pose
from jaxopt_tut.bilevel.problem import InnerFn, Inputs, Problem
from jaxopt_tut.bilevel.result import Info, describe
from jaxopt_tut.bilevel.solvers import SolverLike
from jaxopt_tut.trees import require_inexact
from jaxopt_tut.types import Number, Params, PyTree, Scalar


def hypergrad(
    outer: OuterFn,
    f: InnerFn,
    y0: Params,
    z: PyTree,
    *,
    solver: SolverLike,
    steps: int,
    diff: DiffMode,
    hp: PyTree = None,
    wrt: Names = ("z",),
    batches: Batches = None,
    tol: Number | None = None,
    certify: bool = False,
    check: bool = False,
) -> tuple[Scalar, Grads, Info]:
    r"""Differentiate an outer function of an inner solution.

    $$F(z) = E(y^*(z), z), \qquad
    \frac{dF}{dz} = \partial_z E + \Big(\frac{dy^*}{dz}\Big)^{\!T} \partial_y E$$

    The gradient that an outer optimizer descends, and how far to trust it: what the implicit
    modes solve on the way is reported. It runs in the mode's cheapest direction: backwards, but
    for `Forward`, which pushes one tangent a number in `wrt`. It can itself be differentiated
    where the mode defines a second derivative.

    Args:
      outer: `outer(y, z)`: a real scalar, or a pair of one and auxiliary values, which are
        dropped.
      f: The inner function, as in `argmin`.
      y0: Where the inner steps start.
      z: What both depend on.
      solver: An optax transformation, a function of `hp` that returns one, or a `Solver`.
      steps: Inner steps at most.
      diff: The mode of differentiation.
      hp: What the function `solver` takes.
      wrt: Which of `"z"`, `"hp"`, `"y0"` to differentiate.
      batches: A tree of arrays with a leading axis of `steps`, or a `Stream`.
      tol: Stop after the step that begins with a residual of at most this.
      certify: Whether an implicit mode estimates its error from a Newton step of the solution:
        two more linear solves.
      check: Whether to raise if the run does not end at an optimum.

    Returns:
      The outer value; the gradients, by name; how good they are.

    Raises:
      TypeError: If `diff` is no mode, `solver` no solver, or what is to be differentiated, or
        `y0`, has a leaf of integers.
      ValueError: If `steps` is negative, the batches don't fit, `f` or `outer` returns no real
        scalar; if the mode does not define a derivative in `wrt`, or the inner function does not
        depend on `z`; under `check`, if the run has not converged.

    Example:
      With $y^*(z) = z^2$ the derivative of $y^* + 3 z$ at 2 is 7.

      >>> from jaxopt_tut.bilevel import Implicit
      >>> from jaxopt_tut.optimizers import sgd
      >>> f = lambda y, z: 0.5 * (y - z**2) ** 2
      >>> value, grads, info = hypergrad(
      ...     lambda y, z: y + 3 * z, f, 0.0, 2.0, solver=sgd(0.5), steps=60, diff=Implicit())
      >>> print(f"{value:.3f} {grads['z']:.3f} {info.converged}")
      10.000 7.000 True

    References:
      Pedregosa (2016), eq. (2). https://arxiv.org/abs/1602.02355
    """
    pose = Pose(
        caller="hypergrad",
        f=f,
        y0=y0,
        z=z,
        solver=solver,
        steps=steps,
        diff=diff,
        hp=hp,
        batches=batches,
        tol=tol,
    )
    wrt = tuple(wrt)
    _require_wrt(pose, wrt)
    require_inexact(y0, "hypergrad")
    made_of, inputs = pose.split()
    found, info = programs.run(_hypergrad, (outer, made_of, wrt, certify), *inputs)
    if check:
        require_sound(info, "hypergrad")
    else:
        warn_of_doubts(info, "hypergrad", needs_optimum=getattr(diff, "needs_optimum", False))
    return found.value, found.grads, info


def _hypergrad(made_of: tuple, *inputs: PyTree) -> tuple[Hypergradient, Info]:
    outer, pose, wrt, certify = made_of
    return differentiate(outer, pose.joined(Inputs(*inputs)), wrt, certify)


def differentiate(
    outer: OuterFn, pose: Pose, wrt: tuple[str, ...], certify: bool = False
) -> tuple[Hypergradient, Info]:
    """Do what `hypergrad` does, and return the inner run too."""
    _require_wrt(pose, wrt)
    problem, inputs = pose.problem()
    mode = pose.diff.chosen(problem, inputs)
    _require_defined(mode, problem, inputs, wrt)
    found = mode.hypergrad(outer, problem, inputs, wrt, certify)
    return found, describe(mode, problem, inputs, found.run, found)


def _require_wrt(pose: Pose, wrt: tuple[str, ...]) -> None:
    arguments = {"z": pose.z, "hp": pose.hp, "y0": pose.y0}
    if not wrt or not set(wrt) <= set(arguments):
        raise ValueError(
            f"hypergrad needs wrt to name some of {tuple(arguments)}, got wrt={wrt!r}."
        )
    for name in wrt:
        require_inexact(arguments[name], "hypergrad")
        if not jax.tree.leaves(arguments[name]):
            raise ValueError(f"hypergrad needs {name} to differentiate it, got no leaf in {name}.")


def _require_defined(mode: Mode, problem: Problem, inputs: Inputs, wrt: tuple[str, ...]) -> None:
    for name in wrt:
        if name not in mode.wrt:
            raise ValueError(undefined(problem, mode, name))
    if "z" in wrt and not depends_on(
        lambda z: problem.residual(inputs.y0, inputs._replace(z=z)), inputs.z
    ):
        raise ValueError(
            "hypergrad needs an inner function whose solution depends on z, got one on which z "
            "has no effect: its derivative is that of outer alone."
        )
