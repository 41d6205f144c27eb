"""Soft thresholding, which keeps the phase of complex numbers."""

import jax.numpy as jnp
from jaxtyping import Array, Inexact

from jaxopt_tut.bilevel.layers.arguments import promote, weight
from jaxopt_tut.optimizers.inner import modulus
from jaxopt_tut.types import Number


def soft_threshold(x: Number, lam: Number) -> Inexact[Array, "..."]:
    r"""Shrink towards zero: the proximal operator of the L1 norm.

    $$\arg\min_u \tfrac12 \lVert u - x \rVert^2 + \lambda \lVert u \rVert_1
    = \frac{x}{|x|} \max(|x| - \lambda, 0)$$

    A complex number keeps its phase.

    Args:
      x: Any shape; integers count as floating.
      lam: $\lambda \ge 0$, a number or an array that fits `x`.

    Returns:
      The shrunk array; its derivative in $\lambda$ is minus the sign, and 0 where it is 0 (at
      $|x| = \lambda > 0$ too). Not a number where `x` or $\lambda$ is not, or a traced
      $\lambda$ is negative.

    Raises:
      TypeError: If `x` holds no numbers, or `lam` is complex.
      ValueError: If a static `lam` is negative.

    Example:
      >>> import jax.numpy as jnp
      >>> print(soft_threshold(jnp.array([3.0, -0.5, -2.0]), 1.0))
      [ 2.  0. -1.]
      >>> print(soft_threshold(jnp.array(3.0 + 4.0j), 1.0))
      (2.4+3.2j)

    References:
      Donoho (1995), eq. (3). https://doi.org/10.1109/18.382009
    """
    (x,) = promote("soft_threshold", x, allow_complex=True)
    lam = weight("soft_threshold", lam, jnp.finfo(x.dtype).dtype)
    size = modulus(x)
    # a comparison that what is not a number fails, so that it stays; lambda = 0 is the identity
    is_small = (size <= lam) & (lam > 0) & (size < jnp.inf)
    sign = x / jnp.where(size == 0, 1, size).astype(x.dtype) if jnp.iscomplexobj(x) else jnp.sign(x)
    return jnp.where(is_small, 0, x - lam.astype(x.dtype) * sign)
