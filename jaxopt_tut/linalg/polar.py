"""The orthogonal factor of a matrix."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact

_EXACT = jax.lax.Precision.HIGHEST


@jax.custom_jvp
def polar_factor(matrix: Inexact[Array, "rows columns"]) -> Inexact[Array, "rows columns"]:
    r"""Replace all singular values by 1.

    $$Q = U V^H, \qquad A = U \Sigma V^H$$

    the nearest matrix with orthonormal columns (or rows); singular values below
    $\max(m, n)\, \epsilon\, \sigma_1$ become 0. The derivative is that of the factor, which is
    finite also where singular values coincide (that of the decomposition is not),

    $$dQ = U \left[ \frac{(U^H dA\, V - V^H dA^H U)_{ij}}{\sigma_i + \sigma_j} \right] V^H
    + (I - U U^H)\, dA\, V \Sigma^{-1} V^H + U \Sigma^{-1} U^H dA\, (I - V V^H).$$

    Args:
      matrix: $A$; halves are computed in float32.

    Returns:
      $Q$, in the dtype of `matrix`.

    Example:
      >>> import jax.numpy as jnp
      >>> print(polar_factor(jnp.array([[0.0, -2.0], [3.0, 0.0]])).round(3) + 0)
      [[ 0. -1.]
       [ 1.  0.]]

    References:
      Higham (2008), Functions of matrices, chapter 8. https://doi.org/10.1137/1.9780898717778
    """
    if not matrix.size:
        return matrix
    u, s, vh = _decompose(matrix)
    kept = _is_kept(s, matrix.shape)
    return jnp.matmul(u * kept.astype(u.dtype), vh, precision=_EXACT).astype(matrix.dtype)


def _decompose(matrix):
    wide = jnp.float32 if jnp.finfo(matrix.dtype).bits < 32 else matrix.dtype
    return jnp.linalg.svd(matrix.astype(wide), full_matrices=False)


def _is_kept(s, shape):
    return s > max(shape) * jnp.finfo(s.dtype).eps * jnp.max(s)


@polar_factor.defjvp
def _polar_factor_jvp(primals, tangents):
    (matrix,), (change,) = primals, tangents
    if not matrix.size:
        return matrix, change
    product = lambda *factors: jnp.linalg.multi_dot(factors, precision=_EXACT)
    u, s, vh = _decompose(matrix)
    kept = _is_kept(s, matrix.shape)
    u = u * kept.astype(u.dtype)
    vh = vh * kept[:, None].astype(vh.dtype)
    uh, v = u.conj().T, vh.conj().T
    da = change.astype(u.dtype)
    inner = product(uh, da, v)
    sums = s[:, None] + s
    both = kept[:, None] & kept
    rotation = jnp.where(
        both, (inner - inner.conj().T) / jnp.where(both, sums, 1).astype(u.dtype), 0
    )
    inverse = jnp.where(kept, 1 / jnp.where(kept, s, 1), 0).astype(u.dtype)
    beyond_left = product(da, v) - product(u, inner)
    beyond_right = product(uh, da) - product(inner, vh)
    tangent = (
        product(u, rotation, vh)
        + product(beyond_left * inverse, vh)
        + product(u * inverse, beyond_right)
    )
    factor = jnp.matmul(u, vh, precision=_EXACT)
    return factor.astype(matrix.dtype), tangent.astype(matrix.dtype)
