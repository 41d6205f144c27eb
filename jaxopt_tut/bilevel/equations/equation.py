"""What all that solves an equation shares: its residual is the equation itself."""

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut.bilevel.solvers import Objective, Solver
from jaxopt_tut.types import Params, PyTree
from jaxopt_tut.vectors import dot, ravel

Vector = Float[Array, "dim"]


class EquationSolver(Solver):
    """The base of what solves $F(y, z) = 0$: a solver of one's own says how it steps.

    `objective(y)` is $F(y, z)$, a tree like `y`; all modes of differentiation follow from that.

    Attributes:
      wanders: Whether a step may end at a larger residual, so that `Implicit` keeps the best point.
    """

    wanders: ClassVar[bool] = False

    @property
    def is_symmetric(self) -> bool:
        """False: an equation need not be that of a minimum."""
        return False

    def residual(self, objective: Objective, y: Params, hp: PyTree) -> PyTree:
        """Return the equation's left-hand side."""
        del hp
        return objective(y)


class FixedPointSolver(EquationSolver):
    r"""The base of what solves $y = T(y, z)$: `objective(y)` is $T(y, z)$.

    The residual is $y - T(y, z)$, so that the matrix of implicit derivatives is $I - \partial_y T$.
    """

    def residual(self, objective: Objective, y: Params, hp: PyTree) -> PyTree:
        """Return by how much the map moves the point, taken back."""
        del hp
        return jax.tree.map(lambda a, b: a - jnp.asarray(b, a.dtype), y, objective(y))


def on_vectors(
    objective: Objective, y: Params
) -> tuple[Vector, Callable[[Vector], Params], Callable[[Vector], Vector]]:
    """Return the point laid end to end, its way back, and the equation in terms of such vectors."""
    flat, unravel = ravel(y)
    return flat, unravel, lambda v: ravel(objective(unravel(v)))[0].astype(flat.dtype)


def squared(v: Vector) -> Float[Array, ""]:
    """Return the sum of squares; infinite where it is not a number, so that it is never less."""
    total = dot(v, v)
    return jnp.where(jnp.isnan(total), jnp.inf, total)
