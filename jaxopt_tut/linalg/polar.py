"""The orthogonal factor of a matrix: by a decomposition, or by matrix products alone."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact, Num

from jaxopt_tut.linalg.solution import floating
from jaxopt_tut.types import Shape
from jaxopt_tut.vectors import matmul, safe_ratio


@jax.custom_jvp
def polar_factor(
    matrix: Num[Array | np.ndarray, "rows columns"],
) -> Inexact[Array, "rows columns"]:
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
      $Q$, in the dtype of `matrix`; not a number if an entry of $A$ is not finite.

    Example:
      >>> import jax.numpy as jnp
      >>> print(polar_factor(jnp.array([[0.0, -2.0], [3.0, 0.0]])).round(3) + 0)
      [[ 0. -1.]
       [ 1.  0.]]

    References:
      Higham (2008), Functions of matrices, chapter 8. https://doi.org/10.1137/1.9780898717778
    """
    matrix = floating(matrix)
    if not matrix.size:
        return matrix
    u, s, vh = _decompose(matrix)
    kept = _is_kept(s, matrix.shape)
    return matmul(u * kept.astype(u.dtype), vh).astype(matrix.dtype)


def _decompose(
    matrix: Inexact[Array | np.ndarray, "rows columns"],
) -> tuple[Inexact[Array, "rows rank"], Float[Array, "rank"], Inexact[Array, "rank columns"]]:
    """Decompose into singular vectors and values, in single precision at least."""
    wide = jnp.float32 if jnp.finfo(matrix.dtype).bits < 32 else matrix.dtype
    # LAPACK answers an infinity with finite vectors
    finite = jnp.where(jnp.all(jnp.isfinite(matrix)), matrix, jnp.nan)
    u, s, vh = jnp.linalg.svd(finite.astype(wide), full_matrices=False)
    return u, s, vh


def _is_kept(s: Float[Array, "rank"], shape: Shape) -> Bool[Array, "rank"]:
    return s > max(shape) * jnp.finfo(s.dtype).eps * jnp.max(s)


@polar_factor.defjvp
def _polar_factor_jvp(
    primals: tuple[Inexact[Array | np.ndarray, "rows columns"]],
    tangents: tuple[Inexact[Array | np.ndarray, "rows columns"]],
) -> tuple[Inexact[Array, "rows columns"], Inexact[Array, "rows columns"]]:
    (matrix,), (change,) = primals, tangents
    if not matrix.size:
        return jnp.asarray(matrix), jnp.asarray(change)
    product = lambda *factors: jnp.linalg.multi_dot(factors, precision=jax.lax.Precision.HIGHEST)
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
    inverse = safe_ratio(1, s, where=kept).astype(u.dtype)
    beyond_left = product(da, v) - product(u, inner)
    beyond_right = product(uh, da) - product(inner, vh)
    tangent = (
        product(u, rotation, vh)
        + product(beyond_left * inverse, vh)
        + product(u * inverse, beyond_right)
    )
    factor = matmul(u, vh)
    return factor.astype(matrix.dtype), tangent.astype(matrix.dtype)


_FAST = (3.4445, -4.7750, 2.0315)
_LAST = (15 / 8, -10 / 8, 3 / 8)
_NUM_LAST = 3


def newton_schulz(
    matrix: Num[Array | np.ndarray, "rows columns"], num_steps: int = 8
) -> Inexact[Array, "rows columns"]:
    r"""Bring all singular values near 1 by matrix products alone.

    $$X_0 = A / \lVert A \rVert_F, \qquad
    X_{k+1} = a X_k + b\, (X_k X_k^H) X_k + c\, (X_k X_k^H)^2 X_k$$

    so that each singular value goes to $p(\sigma) = a \sigma + b \sigma^3 + c \sigma^5$. The last
    three steps have $p(1) = 1$ and $p'(1) = p''(1) = 0$, which makes
    $(a, b, c) = (15, -10, 3)/8$: an error $e$ becomes $5 e^3 / 2$. The steps before have Muon's
    coefficients $(3.4445, -4.7750, 2.0315)$, which are steep at 0 and end in [0.68, 1.21]. With
    the eight steps of the default, singular values of at least $10^{-3} \lVert A \rVert_F$ end
    within $10^{-4}$ of 1 (those of $10^{-2}$ within rounding); smaller ones are multiplied by up to
    3200.
    Three products a step: for accelerators, where a singular value decomposition is slow.

    Args:
      matrix: $A$; halves are computed in float32.
      num_steps: The number of steps, at least 4; one more lets through singular values 3.4 times
        smaller.

    Returns:
      $X$, in the dtype of `matrix`; 0 for 0.

    Raises:
      ValueError: If `num_steps` is below 4.

    Example:
      >>> import jax.numpy as jnp
      >>> print(newton_schulz(jnp.array([[0.0, -2.0], [3.0, 0.0]])).round(3) + 0)
      [[ 0. -1.]
       [ 1.  0.]]

    References:
      Bjorck and Bowie (1971), the iteration of order three, for the last steps. https://doi.org/10.1137/0708036
      Jordan et al. (2024), Muon, for the coefficients of the first.
      https://kellerjordan.github.io/posts/muon/
    """
    if num_steps <= _NUM_LAST:
        raise ValueError(f"newton_schulz needs num_steps >= 4, got num_steps={num_steps}.")
    matrix = floating(matrix)
    if not matrix.size:
        return matrix
    wide = jnp.float32 if jnp.finfo(matrix.dtype).bits < 32 else matrix.dtype
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = _to_unit_norm((matrix.conj().T if is_tall else matrix).astype(wide))
    for k in range(num_steps):
        a, b, c = _FAST if k < num_steps - _NUM_LAST else _LAST
        gram = matmul(x, x.conj().T)
        weights = b * gram + c * matmul(gram, gram)
        x = a * x + matmul(weights, x)
    return (x.conj().T if is_tall else x).astype(matrix.dtype)


def _to_unit_norm(x: Inexact[Array, "rows columns"]) -> Inexact[Array, "rows columns"]:
    # scaled first, so that no square overflows or vanishes
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x)))
    x = x / jnp.where((largest > 0) & (largest < jnp.inf), largest, 1).astype(x.dtype)
    squared = jnp.sum(jnp.real(x * x.conj()))
    norm = jnp.sqrt(jnp.where(squared > 0, squared, 1))
    return x / norm.astype(x.dtype)
