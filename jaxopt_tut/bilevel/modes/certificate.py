"""How far an implicit hypergradient may be off, wrong on the safe side only."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxopt_tut.bilevel.problem import Inputs, Problem
from jaxopt_tut.linalg import largest_eigenvalue
from jaxopt_tut.types import Params, PyTree
from jaxopt_tut.vectors import norm, ravel


class Adjoint(NamedTuple):
    r"""The adjoint system $K^T u = b$ at a point, and the derivative that its solution gives.

    Attributes:
      value: $E$.
      grads: $\partial_z E - R^T u$.
      x: $u$.
      right: $b = \partial_y E$.
      product: Multiplies by $K^T$.
      pull: Multiplies by $R^T$.
    """

    value: Float[Array, ""]
    grads: PyTree
    x: Float[Array, "dim"]
    right: Float[Array, "dim"]
    product: Callable[[Array], Array]
    pull: Callable[[Array], PyTree]


@runtime_checkable
class Exact(Protocol):
    """An implicit mode that solves as well as rounding allows."""

    def adjoint_at(
        self, outer: Callable[..., Any], problem: Problem, inputs: Inputs, y: Params
    ) -> Adjoint:
        """Return the adjoint at a point."""
        ...

    def polished(self, problem: Problem, inputs: Inputs, y: Params) -> Params:
        """Return the point one Newton step further."""
        ...

    def solution(self, problem: Problem, product: Callable, right: Array) -> Array:
        """Solve one system."""
        ...


def error_estimate(
    exact: Exact,
    outer: Callable[..., Any],
    problem: Problem,
    inputs: Inputs,
    y: Params,
    grads: PyTree,
) -> Float[Array, ""]:
    r"""Estimate the error of an implicit hypergradient at a point that is nearly a solution.

    $$\lVert g_1 - g \rVert + \lVert R^T K^+ \rho \rVert
    + \frac{\lVert \rho' \rVert}{\lVert b \rVert} \lVert R^T u \rVert, \qquad
    \rho = b - K u, \quad \rho' = \rho - K K^+ \rho$$

    $g_1$ is the hypergradient after one Newton step, without damping and solved to rounding: the
    first term tells what the point, the damping and an inexact solve do. The second is rounding, as
    the system amplifies it. $\rho'$ is the part of $b$ that no $u$ explains: where it is more than
    rounding the derivative depends on how the solution moves within the null space, of which
    nothing is known, and the estimate is infinite; else that part is taken to move as the rest.
    Where $K$ is singular to rounding the point itself is not determined along its null space, so
    that the change after a step of the point's own length there is added.
    """
    # the derivative at a better point, to which that at hand is compared
    polished = exact.polished(problem, inputs, y)
    better = exact.adjoint_at(outer, problem, inputs, polished)
    # and once more at a point as far along the null space as the point is from the origin
    flat, unravel = ravel(polished)
    move = _null_vector(exact, problem, better, flat)
    moved = exact.adjoint_at(outer, problem, inputs, unravel(flat + move))
    apart = jnp.where(jnp.any(move != 0), _error_at(exact, problem, moved, better.grads), 0)
    return _error_at(exact, problem, better, grads) + apart


def _null_vector(exact: Exact, problem: Problem, adjoint: Adjoint, flat: Array) -> Array:
    """Return a vector of about the length of the point that the matrix maps to 0, or 0."""
    # what projecting a vector onto the range leaves of it; the vector is like no structure of users
    probe = jnp.cos(1 + jnp.arange(flat.size, dtype=flat.dtype) ** 2)
    product, size = adjoint.product, norm(probe)
    null = probe - exact.solution(problem, product, product(probe))
    scale = jnp.where(is_solved(norm(null) / size), 0, norm(flat) / size)
    return scale * null


def _error_at(exact: Exact, problem: Problem, better: Adjoint, grads: PyTree) -> Float[Array, ""]:
    change = _size(jax.tree.map(jnp.subtract, better.grads, grads))
    # rho, and of it rho' that a second solve does not explain
    left = better.right - better.product(better.x)
    again = exact.solution(problem, better.product, left)
    unexplained = norm(left - better.product(again))
    through = _size(better.pull(better.x))
    share = unexplained / jnp.where(jnp.any(better.right != 0), norm(better.right), 1)
    estimate = change + _size(better.pull(again)) + share * through
    # what rounding the products of the solve leaves of b, with the norm of K
    largest = largest_eigenvalue(better.product, left, num_steps=_POWER_STEPS)
    eps = jnp.finfo(left.dtype).eps
    rounding = 4 * eps * left.size**0.5 * largest * norm(better.x)
    is_explained = is_solved(share) | (unexplained <= rounding)
    return jnp.where(is_explained & jnp.isfinite(estimate), estimate, jnp.inf)


_POWER_STEPS = 10


def is_solved(relative: Float[Array | np.ndarray, ""]) -> Any:
    r"""Tell whether a relative residual is small enough for its solution to mean something.

    $$\frac{\lVert b - K u \rVert}{\lVert b \rVert} \le \epsilon^{1/3}$$

    0.005 in float32, 6e-6 in float64: more than rounding leaves, and less than what is left where
    a singular matrix has no solution.
    """
    return relative <= jnp.finfo(relative.dtype).eps ** (1 / 3)


def _size(tree: PyTree) -> Float[Array, ""]:
    return norm(ravel(tree)[0])
