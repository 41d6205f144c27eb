"""Quadratic forms at vectors that stay while the operator moves."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut.curvature.operator import Operator, Rows


@jax.custom_jvp
def moving(op: Operator, vectors: Rows, values: Float[Array, "k"]) -> Float[Array, "k"]:
    """Return quadratic forms that are known; their derivatives alone take products.

    Those of eigenvalues are as Hellmann and Feynman say.
    """
    del op, vectors  # whose derivative is another function of them
    return values


@moving.defjvp
def _moving_rule(primals: tuple, tangents: tuple) -> tuple[Float[Array, "k"], Float[Array, "k"]]:
    op, vectors, values = primals
    quotients = lambda op: jnp.sum(vectors * op.matmat(vectors), axis=1)
    return values, jax.jvp(quotients, (op,), (tangents[0],))[1]
