"""Ridge regression by a singular value decomposition, which does not square the condition."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Inexact, Num

from jaxopt_tut.bilevel.layers.arguments import at_least_float32, promote, weight
from jaxopt_tut.types import Number
from jaxopt_tut.vectors import magnitude, matmul, safe_ratio


def ridge(
    X: Num[Array | np.ndarray, "rows dim"],
    y: Num[Array | np.ndarray, "rows *outputs"],
    lam: Number,
) -> Inexact[Array, "dim *outputs"]:
    r"""Solve ridge regression.

    $$\arg\min_w \lVert X w - y \rVert^2 + \lambda \lVert w \rVert^2
    = (X^H X + \lambda I)^{-1} X^H y = V \,\mathrm{diag}\Big(\frac{s_i}{s_i^2 + \lambda}\Big)\,
    U^H y, \qquad X = U\, \mathrm{diag}(s)\, V^H$$

    The relative error is that of a decomposition, some $\epsilon\, \kappa$ with the condition
    $\kappa = s_1 / s_n$ (normal equations lose $\epsilon\, \kappa^2$). Differentiable in all
    arguments, to any order, by the equations of the minimum. One decomposition.

    Where $\lambda = 0$ and columns (or, with more columns than rows, rows) depend on each other,
    $w$ is the minimiser of least norm, the limit of $\lambda \to 0$: singular values below
    $10 \sqrt{\min(m, n)}\, \epsilon\, s_1$ count as 0. It jumps with the rank of $X$, so that its
    derivative in $X$ is not a number there; those in `y` and $\lambda$ are right.

    Args:
      X: One example a row; complex numbers are allowed, integers count as floating, halves are
        computed in float32.
      y: One target, or several, a row.
      lam: $\lambda \ge 0$; at infinity $w$ is 0.

    Returns:
      $w$; not a number if `X` or the targets are not finite, or a traced $\lambda$ is negative or
      not a number.

    Raises:
      TypeError: If `lam` is complex.
      ValueError: If `X` and `y` have not the same number of rows, `lam` is no scalar, or a static
        `lam` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> print(ridge(jnp.array([[1.0], [2.0]]), jnp.array([2.0, 4.0]), 5.0).round(3))
      [1.]

    References:
      Hoerl and Kennard (1970), eq. (2.1). https://doi.org/10.1080/00401706.1970.10488634
      Golub and Van Loan (2013), section 6.1.4.
    """
    if jnp.ndim(X) != 2 or jnp.shape(y)[:1] != jnp.shape(X)[:1]:
        raise ValueError(
            "ridge needs X (rows, dim) and y (rows, ...), "
            f"got shapes {jnp.shape(X)} and {jnp.shape(y)}."
        )
    if jnp.ndim(lam) != 0:
        raise ValueError(f"ridge needs a scalar lam, got shape {jnp.shape(lam)}.")
    X, y = promote("ridge", X, y, allow_complex=True)
    given, dtype = X.dtype, at_least_float32(X.dtype)
    X, y = X.astype(dtype), y.astype(dtype)
    real = jnp.finfo(dtype).dtype
    lam = weight("ridge", lam, real)
    if not X.size or not y.size:
        return jnp.zeros((X.shape[1], *y.shape[1:]), given)
    columns = y.reshape(len(y), -1)
    # in units of X, of which lambda has the square
    unit = magnitude(jnp.real(X), jnp.imag(X))
    w = _solve(X / unit.astype(dtype), columns, lam / unit / unit) / unit.astype(dtype)
    is_valid = jnp.all(jnp.isfinite(X)) & (lam >= 0) & jnp.all(jnp.isfinite(columns), axis=0)
    w = w * jnp.where(is_valid, 1, jnp.nan).astype(dtype)
    return w.reshape(-1, *y.shape[1:]).astype(given)


def _solve(
    X: Inexact[Array, "rows dim"], y: Inexact[Array, "rows outputs"], lam: Float[Array, ""]
) -> Inexact[Array, "dim outputs"]:
    """Solve the equations of the minimum as one Hermitian system.

    Its first unknown is the residual y - X w or, in the wide form, that over lambda: the one that
    stays finite at lambda = 0, so that derivatives there are right.
    """
    rows, dim = X.shape
    fixed, shift = jax.lax.stop_gradient(lam), lam.astype(X.dtype)
    constant = jax.lax.stop_gradient(X)
    U, s, Vh = jnp.linalg.svd(constant, full_matrices=False)
    # what random roundings make of a 0; bounds that grow with the size would drop a rank that is
    is_kept = s > 10 * min(X.shape) ** 0.5 * jnp.finfo(s.dtype).eps * jnp.max(s)
    s = jnp.where(is_kept, s, 0)
    X = _guarded(X, ~jnp.all(is_kept) & (fixed == 0))
    squares = s**2 + fixed
    inverse = safe_ratio(1, squares, where=squares > 0)
    s, inverse = s.astype(X.dtype)[:, None], inverse.astype(X.dtype)[:, None]
    Uh, V = U.conj().T, Vh.conj().T

    def tall(unknown):
        residual, w = split(unknown)
        return join(residual + matmul(X, w), matmul(X.conj().T, residual) - shift * w)

    def solve_tall(right):
        top, low = split(right)
        w = matmul(V, inverse * (s * matmul(Uh, top) - matmul(Vh, low)))
        return join(top - matmul(constant, w), w)

    def wide(unknown):
        dual, w = split(unknown)
        return join(shift * dual + matmul(X, w), matmul(X.conj().T, dual) - w)

    def solve_wide(right):
        top, low = split(right)
        part = inverse * (matmul(Uh, top) + s * matmul(Vh, low))
        return join(matmul(U, part), matmul(V, s * part) - low)

    # in one array: of a pair of which one part is constant, JAX finds no transpose
    split, join = lambda a: (a[:rows], a[rows:]), lambda *parts: jnp.concatenate(parts)
    matvec, solve = (tall, solve_tall) if dim <= rows else (wide, solve_wide)
    both = jax.lax.custom_linear_solve(
        matvec,
        join(y, jnp.zeros((dim, y.shape[1]), y.dtype)),
        lambda _, right: solve(right),
        # the transpose of a Hermitian matrix is its conjugate
        lambda _, right: solve(right.conj()).conj(),
    )
    return split(both)[1]


@jax.custom_jvp
def _guarded(X: Inexact[Array, "rows dim"], jumps: Bool[Array, ""]) -> Inexact[Array, "rows dim"]:
    """Return `X`, whose derivative is no number where the solution jumps with it."""
    del jumps
    return X


@_guarded.defjvp
def _guarded_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    (X, jumps), (dX, _) = primals, tangents
    return X, dX * jnp.where(jumps, jnp.nan, 1).astype(dX.dtype)
