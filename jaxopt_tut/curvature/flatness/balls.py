"""The steepest direction of a whole tree under a norm of one array."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut.optimizers.norms import L1, L2, Norm
from jaxopt_tut.types import Params
from jaxopt_tut.vectors import Vector, ravel


def steepest(norm: Norm, gradient: Vector, like: Params) -> Float[Array, "dim"]:
    """Return the vector of the unit ball with the largest inner product with a gradient.

    `L1` and `L2` are norms of all leaves together; of others the largest over the leaves counts,
    which for `LInf` is the same.
    """
    if isinstance(norm, L2):
        return norm.steepest(gradient)
    # the gradient in its own precision: leaves may have less
    tree = jax.tree.map(lambda leaf: leaf, ravel(like)[1](gradient))
    leaves, structure = jax.tree.flatten(tree)
    directions = [norm.steepest(leaf) for leaf in leaves]
    if isinstance(norm, L1) and leaves:
        largest = jnp.argmax(jnp.stack([norm.dual_norm(leaf) for leaf in leaves]))
        directions = [jnp.where(largest == i, leaf, 0) for i, leaf in enumerate(directions)]
    return ravel(structure.unflatten(directions))[0].astype(gradient.dtype)
