"""A network of endless depth whose layers share their weights: a fixed point as a layer."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from typing_extensions import TypeAliasType

from jaxopt_tut.bilevel.equations.fixed_points import Anderson, Picard
from jaxopt_tut.bilevel.equations.root import MaybeMode, PointSolver, fixed_point
from jaxopt_tut.bilevel.modes import OneStep
from jaxopt_tut.types import Number, Params, PyTree

LayerFn = TypeAliasType("LayerFn", Callable[[Any, Any, Any], Any])
"""`layer(params, y, x)`: a tree like `y`."""

MaybeNumber = TypeAliasType("MaybeNumber", Number | None)
"""A number, or none."""

_ANDERSON = Anderson()


def deq(
    layer: LayerFn,
    params: Params,
    x: PyTree,
    *,
    y0: Params = None,
    solver: PointSolver = _ANDERSON,
    steps: int,
    tol: MaybeNumber = None,
    diff: MaybeMode = None,
    has_info: bool = False,
) -> PyTree:
    r"""Apply a layer to its own output until nothing changes.

    $$y^* = T(\theta, y^*, x), \qquad
    \frac{dy^*}{d(\theta, x)} = (I - \partial_y T)^{-1}\, \partial_{(\theta, x)} T$$

    The limit of a network whose layers share the weights `params` and each see the input `x`. No
    step is kept for the derivative: it costs the memory of one layer whatever `steps` is, and one
    linear system. Two modes do with less and are biased: `Implicit(Neumann(k, step_size=1.0))`
    backpropagates through the last `k` applications, `OneStep()` through one at the point found,
    whatever the solver; both want a layer that contracts. All that `layer` depends on and that is
    to be differentiated has to come in by `params` or `x`.

    A batch in `x` is one system. Under `jax.vmap` over `x` each member has its own, with weights of
    `Anderson` of its own, and waits once it has arrived (with `tol`).

    Args:
      layer: `layer(params, y, x)` returns a tree like `y`.
      params: Any tree.
      x: Any tree.
      y0: Where to start; `None` means zeros like `x`.
      solver: What finds the fixed point.
      steps: Applications of the layer at most.
      tol: Stop after the step that begins with a residual of at most this; `None` takes all steps.
      diff: The mode of differentiation; `None` means `Implicit()`.
      has_info: Whether to return the `Info` of `fixed_point` too.

    Returns:
      $y^*$ or, if the steps did not suffice, the last point; with `has_info` a pair of it and how
      good it is: `info.converged`, `info.inner_residual`, `info.steps`.

    Raises:
      TypeError: If `layer` is no function, `solver` finds no fixed points, `diff` is no mode, or
        the start has a leaf of integers, as zeros like `x` may.
      ValueError: If `steps` is negative, or `layer` returns another structure than that of `y`; if
        a derivative is not defined.

    Example:
      $y = \tfrac12 w y + x$ has the solution $x / (1 - w / 2)$, whose derivative in $w$ is 2 here.

      >>> import jax
      >>> layer = lambda w, y, x: 0.5 * w * y + x
      >>> value = lambda w: deq(layer, w, 1.0, steps=10)
      >>> print(f"{value(1.0):.3f} {jax.grad(value)(1.0):.3f}")
      2.000 2.000

    References:
      Bai, Kolter and Koltun (2019), theorem 1. https://arxiv.org/abs/1909.01377
      Fung et al. (2022), JFB, eq. (9), for `OneStep()`. https://arxiv.org/abs/2103.12803
    """
    if not callable(layer):
        raise TypeError(f"deq needs a function layer(params, y, x), got layer={layer!r}.")
    start = y0
    if y0 is None:
        if not all(
            jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in jax.tree.leaves(x)
        ):
            raise TypeError(
                "deq needs y0=... where x has leaves that are not floating or complex, "
                f"got x={jax.tree.map(jax.typeof, x)}."
            )
        start = jax.tree.map(jnp.zeros_like, x)
    apply = lambda y, z: layer(z[0], y, z[1])
    options: dict[str, Any] = {"solver": solver, "steps": steps, "tol": tol, "diff": diff}
    if not isinstance(diff, OneStep):
        found = fixed_point(apply, start, (params, x), **options)
        return (found.y, found.info) if has_info else found.y
    # a step of a solver depends on the ones before; an application at the point found does not
    constant = jax.lax.stop_gradient((params, x))
    before = fixed_point(apply, start, constant, **{**options, "diff": None})
    last = {"solver": Picard(), "steps": 1, "tol": tol, "diff": diff}
    found = fixed_point(apply, jax.lax.stop_gradient(before.y), (params, x), **last)
    info = dataclasses.replace(found.info, steps=before.info.steps + 1)
    return (found.y, info) if has_info else found.y
