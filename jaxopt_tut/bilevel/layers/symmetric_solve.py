"""Symmetric systems of optimality conditions, which may be singular and far from scaled."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut import control_flow
from jaxopt_tut.vectors import matmul

_NUM_REFINEMENTS = 8


def factorized(
    matrix: Float[Array, "dim dim"], signs: Float[Array, "dim"]
) -> Callable[[Float[Array, "dim"]], Float[Array, "dim"]]:
    r"""Factorize a symmetric matrix once, for right-hand sides to come.

    $$x \leftarrow x + (T K T + \delta S)^{-1} T (\dots)$$

    Rows and columns are scaled to 1; the shift $\delta S$, away from singular in the inertia that
    optimality conditions have, is taken back by iterative refinement. A consistent singular system
    gets one of its solutions.
    """
    # Stellato et al. (2020), section 4. https://doi.org/10.1007/s12532-020-00179-2
    largest = jnp.max(jnp.abs(matrix), axis=1, initial=0.0)
    scale = jnp.where(largest > 0, largest, 1) ** -0.5
    scaled = scale[:, None] * matrix * scale
    shift = jnp.finfo(matrix.dtype).eps ** 0.75
    factor = jax.scipy.linalg.lu_factor(scaled + shift * jnp.diag(signs))

    def solve(right: Float[Array, "dim"]) -> Float[Array, "dim"]:
        right = scale * right
        x = jax.scipy.linalg.lu_solve(factor, right)

        def refine(x, _):
            return x + jax.scipy.linalg.lu_solve(factor, right - matmul(scaled, x)), None

        return scale * control_flow.scan(refine, x, length=_NUM_REFINEMENTS)[0]

    return solve
