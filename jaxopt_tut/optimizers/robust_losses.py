r"""Losses that hold outliers back: what becomes of squared residuals before they are summed."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Inexact
from typing_extensions import TypeAliasType

from jaxopt_tut.hyperparameters import cast, require_positive, require_real
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import PyTree, Scalar
from jaxopt_tut.vectors import ravel, safe_root

RobustLoss = TypeAliasType("RobustLoss", str | Callable[[Array], Array])
"""`"linear"`, `"huber"`, `"soft_l1"`, `"cauchy"`, `"arctan"`, or an elementwise `rho(z)`."""


def _linear(z: Float[Array, "..."]) -> Float[Array, "..."]:
    return z


def _huber(z: Float[Array, "..."]) -> Float[Array, "..."]:
    return jnp.where(z <= 1, z, 2 * jnp.sqrt(jnp.where(z <= 1, 1, z)) - 1)


def _soft_l1(z: Float[Array, "..."]) -> Float[Array, "..."]:
    return 2 * z / (jnp.sqrt(1 + z) + 1)  # 2 (sqrt(1 + z) - 1), without its cancellation


LOSSES: dict[str, Callable[[Array], Array]] = {
    "linear": _linear,
    "huber": _huber,
    "soft_l1": _soft_l1,
    "cauchy": jnp.log1p,
    "arctan": jnp.arctan,
}
"""SciPy's, by name: rho(0) = 0, rho'(0) = 1, concave."""


def require_loss_name(caller: str, loss: Any, loss_scale: Any) -> None:
    """Refuse what is no robust loss, and scales that are not above 0."""
    if not callable(loss) and not (isinstance(loss, str) and loss in LOSSES):
        names = ", ".join(map(repr, LOSSES))
        raise ValueError(f"{caller} needs loss to be one of {names} or rho(z), got loss={loss!r}.")
    require_real(caller, loss_scale=loss_scale)
    require_positive(caller, finite=True, loss_scale=loss_scale)


@dataclass(frozen=True)
class RobustSquares:
    """The objective of a fit and its residuals, equal where they are made of equal things.

    Attributes:
      caller: The public function, for messages.
      residual_fn: `residual_fn(params, *args)` returns a tree.
      loss: A name in `LOSSES`, or rho.
      loss_scale: From which size on residuals are outliers.
    """

    caller: str
    residual_fn: Callable[..., Any]
    loss: Any = "linear"
    loss_scale: Any = 1.0

    def __call__(self, params: PyTree, *args: Any) -> Scalar:
        """Return half the sum of the losses."""
        sizes = jax.tree.map(self._size, self._raw(params, *args))
        return jnp.sum(ravel(sizes)[0]) / 2

    def residuals(self, params: PyTree, *args: Any) -> PyTree:
        """Return residuals whose squares sum to twice the objective, and J^T J = sum w r' r'^T.

        With the weights w = rho'(z) of iteratively reweighted least squares: as rho is concave, a
        step by them overshoots no residual, however far out it is.
        """
        raw = self._raw(params, *args)
        if self.loss == "linear":
            return raw
        # r sqrt(rho / z) alone is so flat far out that its Gauss-Newton steps leave the basin
        return jax.tree.map(self._shrunk, raw), jax.tree.map(self._rest, raw)

    def weighted(self, params: PyTree, *args: Any) -> PyTree:
        """Return the residuals times constants, such that J^T J is near the objective's Hessian."""
        raw = self._raw(params, *args)
        return raw if self.loss == "linear" else jax.tree.map(self._weighted, raw)

    def _raw(self, params: PyTree, *args: Any) -> PyTree:
        residuals = self.residual_fn(params, *args)
        leaves = named_leaves(residuals)
        for name, leaf in leaves:
            dtype = getattr(leaf, "dtype", type(leaf))
            if not (isinstance(leaf, float | complex) or _is_inexact(leaf)):
                place = f" at {name!r}" if name else ""
                raise TypeError(
                    f"{self.caller} needs floating or complex residuals, got {dtype}{place}."
                )
        if not sum(jnp.size(leaf) for _, leaf in leaves):
            got = "None" if residuals is None else "an empty tree"
            raise ValueError(f"{self.caller} needs residual_fn to return residuals, got {got}.")
        return jax.tree.map(jnp.asarray, residuals)

    @property
    def _rho(self) -> Callable[[Array], Array]:
        return LOSSES[self.loss] if isinstance(self.loss, str) else self.loss

    def _squared(self, r: Inexact[Array, "..."]) -> tuple[Array, Array]:
        """Return z and the scale, in the precision of the residuals, and at least single."""
        dtype = jnp.finfo(r.dtype).dtype
        wide = jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype
        scale = cast(self.loss_scale, wide)
        return jnp.square(r.real.astype(wide) / scale) + (
            jnp.square(r.imag.astype(wide) / scale) if jnp.iscomplexobj(r) else 0
        ), scale

    def _mean_slope(self, z: Float[Array, "..."]) -> Float[Array, "..."]:
        """Return rho(z) / z."""
        is_large = z > jnp.finfo(z.dtype).eps
        safe = jnp.where(is_large, z, 1)
        return jnp.where(is_large, self._rho(safe) / safe, 1)

    def _size(self, r: Inexact[Array, "..."]) -> Float[Array, "..."]:
        z, scale = self._squared(r)
        return scale**2 * self._rho(z)

    def _shrunk(self, r: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return r sqrt(rho(z) / z), smooth at 0: there the ratio is 1, up to rounding."""
        z, _ = self._squared(r)
        return r * safe_root(self._mean_slope(z)).astype(jnp.finfo(r.dtype).dtype)

    def _rest(self, r: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return 0, whose derivative adds to the squared one of the shrunk residual up to rho'."""
        _, scale = self._squared(r)
        # the scale is an operand, as a rule may not look into what is traced around it
        return _zero(replace(self, loss_scale=1.0)._rest_of_slope, r, scale)

    def _rest_of_slope(self, r: Inexact[Array, "..."], scale: Scalar) -> Float[Array, "..."]:
        """Return (rho' - (d/dr shrunk)^2)^(1/2), where the latter is rho' (z / rho)^(1/2)."""
        z, _ = replace(self, loss_scale=scale)._squared(r)
        slope = jax.jvp(self._rho, (z,), (jnp.ones_like(z),))[1]
        left = slope * (1 - slope / self._mean_slope(z))
        return safe_root(left).astype(jnp.finfo(r.dtype).dtype)

    def _weighted(self, r: Inexact[Array, "..."]) -> Inexact[Array, "..."]:
        """Return r sqrt(rho' + 2 z rho''), the weight as Triggs et al. have it, and no less than 0.

        The floor of the weight squared is that of SciPy.
        """
        z, _ = self._squared(r)
        slope = lambda z: jax.jvp(self._rho, (z,), (jnp.ones_like(z),))[1]
        first, second = jax.jvp(slope, (z,), (jnp.ones_like(z),))
        weight = jnp.maximum(first + 2 * z * second, jnp.finfo(z.dtype).eps)
        return r * jax.lax.stop_gradient(jnp.sqrt(weight)).astype(jnp.finfo(r.dtype).dtype)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _zero(
    factor: Callable[..., Array], r: Inexact[Array, "..."], scale: Scalar
) -> Inexact[Array, "..."]:
    """Return 0, with the derivative `factor(r, scale)` in r."""
    del factor, scale
    return jnp.zeros_like(r)


@_zero.defjvp
def _zero_jvp(
    factor: Callable[..., Array], primals: tuple[Array, Array], tangents: tuple[Array, Any]
) -> tuple[Array, Array]:
    """Give the factor derivatives of its own."""
    return _zero(factor, *primals), factor(*primals) * tangents[0]


def _is_inexact(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)
