"""Optimizations as layers of a network: solved forwards, differentiated by their conditions.

Projections onto balls, boxes, simplices and affine sets are in `optimizers.projections`; they are
differentiable too.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Inexact

from jaxopt_tut.bilevel.argmin import argmin
from jaxopt_tut.bilevel.layers.arguments import promote, weight
from jaxopt_tut.bilevel.layers.qp import QPInfo, QPSolution, qp, qp_solution
from jaxopt_tut.bilevel.layers.ridge import ridge
from jaxopt_tut.bilevel.layers.total_variation import prox_tv1d
from jaxopt_tut.bilevel.modes import Implicit, Mode
from jaxopt_tut.optimizers.inner import modulus
from jaxopt_tut.types import Params, PyTree

__all__ = [
    "QPInfo",
    "QPSolution",
    "argmin_layer",
    "prox_tv1d",
    "qp",
    "qp_solution",
    "ridge",
    "soft_threshold",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)


_IMPLICIT = Implicit()


def argmin_layer(
    f: Callable[[Any, Any], Any],
    y0: Params,
    *,
    solver: Any,
    steps: int,
    diff: Mode = _IMPLICIT,
    **options: Any,
) -> Callable[[PyTree], PyTree]:
    r"""Make a layer that maps a batch of inputs to the solutions of their inner problems.

    $$z_i \mapsto \arg\min_y f(y, z_i)$$

    Each member of the batch is a problem of its own, all solved at once by `jax.vmap`.

    Args:
      f: `f(y, z)` of one member.
      y0: Where each of them starts.
      solver: As in `argmin`.
      steps: As in `argmin`.
      diff: The mode of differentiation.
      **options: Others of `argmin`: `hp`, `tol`.

    Returns:
      A function from trees with a leading axis to trees with a leading axis.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from jaxopt_tut.optimizers import sgd
      >>> layer = argmin_layer(lambda y, z: (y - 2 * z) ** 2, 0.0, solver=sgd(0.25), steps=40)
      >>> print(abs(layer(jnp.array([1.0, -3.0])) - jnp.array([2.0, -6.0])).max() < 1e-5)
      True
      >>> print(jax.grad(lambda z: layer(z).sum())(jnp.array([1.0, -3.0])).round(3))
      [2. 2.]

    References:
      Amos and Kolter (2017), section 3. https://arxiv.org/abs/1703.00443
    """
    solve = lambda z: argmin(f, y0, z, solver=solver, steps=steps, diff=diff, **options).y
    return jax.vmap(solve)


def soft_threshold(x: Inexact[Array, "..."], lam: ArrayLike) -> Inexact[Array, "..."]:
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
