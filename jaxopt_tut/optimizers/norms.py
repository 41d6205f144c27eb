"""Norms of one array: what "steepest" means, leaf by leaf.

Each norm is a value with three methods: `norm`, `dual_norm` and `steepest`, the direction of unit
norm along which a linear function falls fastest. Scale and trainability are set by the choice:
`L2` is gradient descent, `LInf` sign descent, `L1` coordinate descent, `Spectral` Muon's step.
What is not a number in an array makes its norms not a number, and shows in its direction.
"""

import dataclasses
from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact

from jaxopt_tut.linalg import newton_schulz, polar_factor
from jaxopt_tut.trees import at_least_single
from jaxopt_tut.vectors import safe_root

__all__ = ["L1", "L2", "LInf", "Norm", "Spectral"]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


@runtime_checkable
class Norm(Protocol):
    r"""What `steepest_descent` needs to know of a norm.

    $$\langle g, -d(g) \rangle = -\lVert g \rVert_*, \qquad \lVert d(g) \rVert \le 1$$
    """

    def norm(self, x: Inexact[Array, "..."]) -> Float[Array, ""]:
        """Return the norm of an array."""
        ...

    def dual_norm(self, g: Inexact[Array, "..."]) -> Float[Array, ""]:
        """Return the largest inner product with an array of unit norm."""
        ...

    def steepest(self, g: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return an array of unit norm with that inner product; 0 for 0."""
        ...


def modulus(x: Inexact[Array, "..."]) -> Float[Array, "..."]:
    """Return the modulus of each entry; if complex, with derivative 0 at 0; no overflow."""
    if not jnp.iscomplexobj(x):
        return jnp.abs(x)
    largest = jax.lax.stop_gradient(jnp.maximum(jnp.abs(x.real), jnp.abs(x.imag)))
    scale = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)  # no square overflows
    squared = (x.real / scale) ** 2 + (x.imag / scale) ** 2
    return scale * safe_root(squared)


def _or_one(size: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return a divisor: 1 for 0, so that 0 stays 0; what is not a number stays so."""
    return jnp.where(size == 0, 1, size)


def _sign(x: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
    size = modulus(x)
    return x / _or_one(size).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class L1:
    r"""The sum of moduli: coordinate descent along the largest partial derivative.

    $$\lVert x \rVert = \sum_i |x_i|, \qquad \lVert g \rVert_* = \max_i |g_i|, \qquad
    d = \mathrm{sign}(g_k)\, e_k, \quad k = \arg\max_i |g_i|$$

    Example:
      >>> import jax.numpy as jnp
      >>> print(L1().steepest(jnp.array([1.0, -3.0, 2.0])))
      [ 0. -1.  0.]

    References:
      Boyd and Vandenberghe (2004), Convex optimization, section 9.4.2.
    """

    def norm(self, x: Inexact[Array, "..."]) -> Float[Array, ""]:
        """Return the sum of moduli, of half precision in single: it may be beyond the half."""
        return jnp.sum(at_least_single(modulus(x)))

    def dual_norm(self, g: Inexact[Array, "..."]) -> Float[Array, ""]:
        """Return the largest modulus."""
        return jnp.max(modulus(g), initial=0.0)

    def steepest(self, g: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return the sign of the largest entry, in its place; the first of equals."""
        if not g.size:
            return g
        sizes = modulus(g).ravel()
        is_largest = jnp.arange(sizes.size) == jnp.argmax(sizes)
        return jnp.where(is_largest.reshape(g.shape), _sign(g), 0)


@dataclasses.dataclass(frozen=True)
class L2:
    r"""The Euclidean norm: gradient descent.

    $$\lVert x \rVert = \lVert x \rVert_* = \Big(\sum_i |x_i|^2\Big)^{1/2}, \qquad
    d = g / \lVert g \rVert$$

    Example:
      >>> import jax.numpy as jnp
      >>> print(L2().steepest(jnp.array([3.0, -4.0])).round(3))
      [ 0.6 -0.8]
    """

    def norm(self, x: Inexact[Array, "..."]) -> Float[Array, ""]:
        """Return the root of the sum of squares, scaled so that no square overflows."""
        sizes = at_least_single(modulus(x))
        largest = jax.lax.stop_gradient(jnp.max(sizes, initial=0.0))
        scale = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1)
        squared = jnp.sum((sizes / scale) ** 2)
        return scale * safe_root(squared)

    def dual_norm(self, g: Inexact[Array, "..."]) -> Float[Array, ""]:
        """Return the same norm."""
        return self.norm(g)

    def steepest(self, g: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return the array, made of length 1."""
        norm = _or_one(self.norm(g))
        wide = g if jnp.iscomplexobj(g) else g.astype(norm.dtype)
        return (wide / norm.astype(wide.dtype)).astype(g.dtype)


@dataclasses.dataclass(frozen=True)
class LInf:
    r"""The largest modulus: sign descent.

    $$\lVert x \rVert = \max_i |x_i|, \qquad \lVert g \rVert_* = \sum_i |g_i|, \qquad
    d = \mathrm{sign}(g)$$

    Example:
      >>> import jax.numpy as jnp
      >>> print(LInf().steepest(jnp.array([3.0, 0.0, -4.0])))
      [ 1.  0. -1.]

    References:
      Balles et al. (2020), The geometry of sign gradient descent, eq. (4).
      https://arxiv.org/abs/2002.08056
    """

    def norm(self, x: Inexact[Array, "..."]) -> Float[Array, ""]:
        """Return the largest modulus."""
        return jnp.max(modulus(x), initial=0.0)

    def dual_norm(self, g: Inexact[Array, "..."]) -> Float[Array, ""]:
        """Return the sum of moduli, of half precision in single."""
        return jnp.sum(at_least_single(modulus(g)))

    def steepest(self, g: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return the signs (phases, where complex)."""
        return _sign(g)


@dataclasses.dataclass(frozen=True)
class Spectral:
    r"""The largest singular value: the orthogonalised update of Muon.

    $$\lVert X \rVert = \sigma_1(X), \qquad \lVert G \rVert_* = \sum_i \sigma_i(G), \qquad
    D = U V^T, \quad G = U \Sigma V^T$$

    A kernel of a convolution, `(*window, in, out)`, is the matrix `(prod(window) * in, out)` that
    multiplies a patch; a vector is one column, so that its norm is `L2`. By default exact, by a
    singular value decomposition a leaf; directions without gradient stay 0 (singular values below
    $n\, \epsilon\, \sigma_1$). With `num_steps` by that many Newton-Schulz steps, three matrix
    products each, faster on accelerators: with 8 of them singular values of at least
    $10^{-3} \lVert G \rVert_F$ end within $10^{-4}$ of 1, smaller ones remain smaller than 1. The
    dual norm is then that of the direction found, $\langle G, D \rangle$.

    Attributes:
      num_steps: Newton-Schulz steps, at least 4; `None` means the decomposition.

    Example:
      >>> import jax.numpy as jnp
      >>> print(Spectral().steepest(jnp.array([[0.0, 5.0], [0.1, 0.0]])).round(4) + 0)
      [[0. 1.]
       [1. 0.]]
      >>> print(Spectral(num_steps=8).steepest(jnp.array([[0.0, 5.0], [0.1, 0.0]])).round(4) + 0)
      [[0. 1.]
       [1. 0.]]

    References:
      Bernstein and Newhouse (2024), Old optimizer, new norm, proposition 5.
      https://arxiv.org/abs/2409.20325
    """

    num_steps: int | None = None

    def __post_init__(self) -> None:
        """Refuse too few steps."""
        if self.num_steps is not None and not self.num_steps >= 4:
            raise ValueError(f"Spectral needs num_steps >= 4, got num_steps={self.num_steps}.")

    def norm(self, x: Inexact[Array, "..."]) -> Float[Array, ""]:
        """Return the largest singular value."""
        return jnp.max(_singular_values(x), initial=0.0)

    def dual_norm(self, g: Inexact[Array, "..."]) -> Float[Array, ""]:
        """Return the sum of the singular values."""
        # by the polar factor, whose derivative is finite where singular values coincide
        matrix = _as_matrix(g)
        return jnp.real(jnp.sum(jnp.conj(self._orthogonalise(matrix)) * matrix))

    def steepest(self, g: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return the array with all its singular values made 1."""
        return self._orthogonalise(_as_matrix(g)).reshape(g.shape)

    def _orthogonalise(self, matrix: Inexact[Array, "n m"]) -> Inexact[Array, "n m"]:
        if self.num_steps is None:
            return polar_factor(matrix)
        return newton_schulz(matrix, self.num_steps)


def _as_matrix(x: Inexact[Array, "..."]) -> Inexact[Array, "rows columns"]:
    columns = x.shape[-1] if x.ndim > 1 else 1
    return x.reshape(x.size // columns if columns else 0, columns)


def _singular_values(x: Inexact[Array, "..."]) -> Float[Array, "rank"]:
    matrix = _as_matrix(x)
    if not matrix.size:
        return jnp.zeros(0, jnp.finfo(x.dtype).dtype)
    wide = jnp.float32 if jnp.finfo(x.dtype).bits < 32 else x.dtype
    values = jnp.linalg.svd(matrix.astype(wide), compute_uv=False)
    return values.astype(jnp.finfo(x.dtype).dtype)
