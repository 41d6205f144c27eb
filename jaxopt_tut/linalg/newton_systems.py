"""Newton systems whose matrix may be indefinite or singular: solved so that the step descends."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxopt_tut import control_flow
from jaxopt_tut.linalg.solution import MatrixLike, VectorLike, floating
from jaxopt_tut.types import Scalar
from jaxopt_tut.vectors import matmul

_MAX_TRIALS = 60


def modified_cholesky_solve(hessian: MatrixLike, gradient: VectorLike) -> Float[Array, "dim"]:
    r"""Solve with the Hessian plus the multiple of the identity that makes it definite.

    $$(H + \tau I)\, u = g, \qquad \tau \in \{\tau_0, \max(2 \tau_0, \beta), \dots\}, \qquad
    \tau_0 = \max(0, \beta - \min_i H_{ii}), \qquad \beta = 10^{-3} \lVert H \rVert_F$$

    with $\tau_0 = 0$ if all $H_{ii} > 0$: the first $\tau$ for which Cholesky's factorization
    exists, with no pivot lost in rounding. Then $g^T u > 0$. Two factorizations where $H$ is
    definite, some more where it is not. Derivatives take $\tau$ for a constant.

    Args:
      hessian: $H$, symmetric.
      gradient: $g$.

    Returns:
      $u$; not a number if `hessian` is not finite.

    Example:
      At a saddle the Newton step would ascend along the second coordinate.

      >>> import jax.numpy as jnp
      >>> u = modified_cholesky_solve(jnp.diag(jnp.array([2.0, -1.0])), jnp.array([2.0, 1.0]))
      >>> print(u > 0)
      [ True  True]

    References:
      Nocedal and Wright (2006), algorithm 3.3. https://doi.org/10.1007/978-0-387-40065-5
    """
    hessian, gradient = floating(hessian), floating(gradient)
    identity = jnp.eye(len(gradient), dtype=gradient.dtype)
    tau = _smallest_shift(jax.lax.stop_gradient(hessian), identity)
    # apart from the search for tau, which no reverse mode passes
    factor = jnp.linalg.cholesky(hessian + tau * identity)
    solution = jax.scipy.linalg.cho_solve((factor, True), gradient)
    is_finite = jnp.all(jnp.isfinite(hessian))
    return jnp.where(is_finite, solution, jnp.nan)  # infinity would look like a 0


def _smallest_shift(hessian: Float[Array, "dim dim"], identity: Float[Array, "dim dim"]) -> Scalar:
    """Find the first multiple of the identity that makes the Hessian definite."""
    norm = jnp.sqrt(jnp.sum(hessian**2))
    beta = jnp.where(norm > 0, 1e-3 * norm, 1)
    lowest = jnp.min(jnp.diag(hessian), initial=jnp.inf)

    def attempt(tau, count) -> _Trial:
        return _Trial(tau, _is_definite(jnp.linalg.cholesky(hessian + tau * identity)), count)

    return control_flow.while_loop(
        lambda trial: ~trial.is_definite & (trial.count < _MAX_TRIALS),
        lambda trial: attempt(jnp.maximum(2 * trial.tau, beta), trial.count + 1),
        attempt(jnp.where(lowest > 0, 0, beta - lowest), jnp.zeros([], jnp.int32)),
    ).tau


def _is_definite(factor: Float[Array, "dim dim"]) -> Bool[Array, ""]:
    """Tell whether the factorization exists and is no rounded one of a singular matrix."""
    pivots = jnp.diag(factor) ** 2
    dim, eps = len(pivots), jnp.finfo(pivots.dtype).eps
    smallest, largest = jnp.min(pivots, initial=jnp.inf), jnp.max(pivots, initial=0.0)
    return jnp.all(jnp.isfinite(factor)) & (smallest > dim * eps * largest)


class _Trial(NamedTuple):
    tau: Scalar
    is_definite: Bool[Array, ""]
    count: Int[Array, ""]


@jax.custom_jvp
def saddle_free_solve(hessian: MatrixLike, gradient: VectorLike) -> Float[Array, "dim"]:
    r"""Solve with the absolute values of the Hessian's eigenvalues.

    $$u = Q\, \max(|\Lambda|, \delta)^{-1} Q^T g, \qquad H = Q \Lambda Q^T, \qquad
    \delta = n\, \epsilon\, \max_i |\lambda_i|$$

    Newton's step where $H$ is positive definite; elsewhere it leaves saddles at Newton's pace.
    Parts of $g$ lost in its rounding count as none: where $H$ is singular they would be all there
    is. An eigendecomposition: some ten times a Cholesky factorization. Its derivative is finite
    also where eigenvalues coincide.

    Args:
      hessian: $H$, symmetric.
      gradient: $g$.

    Returns:
      $u$, with $g^T u > 0$.

    Example:
      >>> import jax.numpy as jnp
      >>> u = saddle_free_solve(jnp.diag(jnp.array([2.0, -1.0])), jnp.array([2.0, 1.0]))
      >>> print(u.round(4))
      [1. 1.]

    References:
      Dauphin et al. (2014), algorithm 1. https://arxiv.org/abs/1406.2572
    """
    _, sizes, vectors, along = _spectrum(floating(hessian), floating(gradient))
    return matmul(vectors, along / sizes)


@saddle_free_solve.defjvp
def _saddle_free_jvp(
    primals: tuple[Float[Array | np.ndarray, "dim dim"], Float[Array | np.ndarray, "dim"]],
    tangents: tuple[Float[Array | np.ndarray, "dim dim"], Float[Array | np.ndarray, "dim"]],
) -> tuple[Float[Array, "dim"], Float[Array, "dim"]]:
    hessian, gradient = map(jnp.asarray, primals)
    d_hessian, d_gradient = map(jnp.asarray, tangents)
    eigenvalues, sizes, vectors, along = _spectrum(hessian, gradient)
    # the divided differences of 1 / |x| without a difference; Higham (2008), theorem 3.11
    signs = (eigenvalues[:, None] + eigenvalues) / (sizes[:, None] + sizes)
    differences = -signs / (sizes[:, None] * sizes)
    turned = matmul(vectors.T, matmul(0.5 * (d_hessian + d_hessian.T), vectors))
    d_along = matmul(d_gradient, vectors) / sizes + matmul(differences * turned, along)
    return matmul(vectors, along / sizes), matmul(vectors, d_along)


def _spectrum(
    hessian: Float[Array, "dim dim"], gradient: Float[Array, "dim"]
) -> tuple[Float[Array, "dim"], Float[Array, "dim"], Float[Array, "dim dim"], Float[Array, "dim"]]:
    """Return eigenvalues, their sizes, eigenvectors, and the gradient's parts along them."""
    eigenvalues, vectors = jnp.linalg.eigh(hessian)
    sizes = jnp.abs(eigenvalues)
    largest = jnp.max(sizes, initial=0.0)
    rounding = len(gradient) * jnp.finfo(sizes.dtype).eps
    along = matmul(gradient, vectors)
    longest = jnp.max(jnp.abs(along), initial=0.0)
    lost = (jnp.abs(along) <= rounding * longest) & jnp.isfinite(longest)
    floor = rounding * jnp.where(largest > 0, largest, 1)
    return eigenvalues, jnp.maximum(sizes, floor), vectors, jnp.where(lost, 0, along)
