"""Singular values of the Jacobian of a network's outputs with respect to its inputs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from jaxopt_tut import control_flow
from jaxopt_tut.linalg.inner import next_direction
from jaxopt_tut.trees import at_least_single
from jaxopt_tut.types import PRNGKey, PyTree


def jacobian_singular_values(
    fun: Callable[[PyTree], PyTree], inputs: PyTree, num_steps: int, *, key: PRNGKey
) -> Float[Array, "num_steps"]:
    r"""Approximate singular values of an input-output Jacobian without forming it.

    $$J V_k = U_k B_k, \qquad J^\top U_k = V_k B_k^\top + \beta_k v_{k+1} e_k^\top, \qquad
      \sigma(B_k) \approx \sigma(J), \qquad J = \frac{\partial f}{\partial x}$$

    by the Lanczos bidiagonalisation of Golub and Kahan, both bases kept orthogonal in full and
    begun again with a fresh direction where the space is used up, so that equal singular values
    are all seen: those of an orthogonal network are. The ends of the spectrum converge first; with
    as many steps as the smaller side of J all values are exact. Values spread around 1 tell of
    dynamical isometry. Each step costs a forward and a backward derivative and k products of
    vectors; memory holds 2k of them. Use `jax.vmap` over a batch.

    Args:
      fun: Maps inputs to outputs, for one example.
      inputs: Where to take the Jacobian; arrays of floats.
      num_steps: The number k of steps and of values.
      key: For the directions to begin with.

    Returns:
      The singular values of $B_k$, the largest first.

    Raises:
      ValueError: If `num_steps` is less than one or more than there are inputs or outputs.

    Example:
      >>> matrix = jnp.diag(jnp.array([3.0, 1.0, 1.0])) @ jnp.ones((3, 4)).at[0, 3].set(-1)
      >>> values = jacobian_singular_values(
      ...     lambda x: matrix @ x, jnp.zeros(4), 3, key=jax.random.key(0))
      >>> bool(jnp.allclose(values, jnp.linalg.svd(matrix, compute_uv=False), atol=1e-5))
      True

    References:
      Golub, Kahan (1965), section 2. https://doi.org/10.1137/0702016
      Saxe, McClelland, Ganguli (2014), section 3.3, for what they tell of training.
      https://arxiv.org/abs/1312.6120
    """
    flat, unravel = ravel_pytree(inputs)

    def flat_fun(x):
        return ravel_pytree(fun(unravel(x)))[0]

    outputs, product = jax.linearize(flat_fun, flat)
    transposed = jax.linear_transpose(product, flat)
    # of half precision only the products with J: bases of it would not be orthogonal
    wide = at_least_single(flat).dtype
    smaller, larger = sorted([flat.size, outputs.size])
    if not 1 <= num_steps <= smaller:
        raise ValueError(
            f"jacobian_singular_values needs 1 <= num_steps <= {smaller}, the smaller of the "
            f"numbers of inputs and outputs, got num_steps={num_steps}."
        )
    # The first basis lives on the smaller side: it is complete after as many steps, J or its
    # transpose then equal to U B V^T.

    def forward(v):
        return product(v.astype(flat.dtype)).astype(wide)

    def backward(v):
        return transposed(v.astype(outputs.dtype))[0].astype(wide)

    if flat.size > smaller:
        forward, backward = backward, forward
    right_key, left_key = jax.random.split(key)
    fresh_right = jax.random.normal(right_key, (num_steps + 1, smaller), wide)
    fresh_left = jax.random.normal(left_key, (num_steps, larger), wide)
    first = fresh_right[-1] / jnp.linalg.norm(fresh_right[-1])

    def step(state, k):
        lefts, rights, right, beta, scale = state
        rights = rights.at[k].set(right)
        left, alpha = next_direction(forward(right), lefts, fresh_left[k], scale)
        lefts = lefts.at[k].set(left)
        scale = jnp.maximum(scale, alpha)
        right, next_beta = next_direction(backward(left), rights, fresh_right[k], scale)
        return (lefts, rights, right, next_beta, scale), (alpha, beta)

    zero = jnp.zeros((), wide)
    bases = jnp.zeros_like(fresh_left), jnp.zeros_like(fresh_right[:-1])
    _, (alphas, betas) = control_flow.scan(step, (*bases, first, zero, zero), jnp.arange(num_steps))
    bidiagonal = jnp.diag(alphas) + jnp.diag(betas[1:], 1)
    return jnp.linalg.svd(bidiagonal, compute_uv=False)
