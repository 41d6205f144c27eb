"""Any inner problem as a layer: one problem for each member of a batch."""

from collections.abc import Callable
from typing import Any

import jax

from jaxopt_tut.bilevel.argmin import argmin
from jaxopt_tut.bilevel.modes import DiffMode, Implicit
from jaxopt_tut.bilevel.problem import InnerFn
from jaxopt_tut.bilevel.solvers import SolverLike
from jaxopt_tut.types import Params, PyTree

_IMPLICIT = Implicit()


def argmin_layer(
    f: InnerFn,
    y0: Params,
    *,
    solver: SolverLike,
    steps: int,
    diff: DiffMode = _IMPLICIT,
    **options: Any,
) -> Callable[[PyTree], PyTree]:
    r"""Make a layer that maps a batch of inputs to the solutions of their inner problems.

    $$z_i \mapsto \arg\min_y f(y, z_i)$$

    Each member of the batch is a problem of its own, all solved at once by `jax.vmap`.

    Args:
      f: `f(y, z)` of one member.
      y0: Where each of them starts.
      solver: An optax transformation or a `Solver`; with `hp` a function of it.
      steps: Inner steps at most.
      diff: The mode of differentiation.
      **options: Others of `argmin`: `hp`, `tol`.

    Returns:
      A function from trees with a leading axis to trees with a leading axis.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import sgd
      >>> layer = argmin_layer(lambda y, z: (y - 2 * z) ** 2, 0.0, solver=sgd(0.25), steps=40)
      >>> print(abs(layer(jnp.array([1.0, -3.0])) - jnp.array([2.0, -6.0])).max() < 1e-5)
      True
      >>> print(jax.grad(lambda z: layer(z).sum())(jnp.array([1.0, -3.0])).round(3))
      [2. 2.]

    References:
      Amos and Kolter (2017), section 3. https://arxiv.org/abs/1703.00443
    """
    solve = lambda z: argmin(f, y0, z, solver=solver, steps=steps, diff=diff, **options).y
    return jax.vmap(solve)
