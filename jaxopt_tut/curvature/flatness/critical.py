"""Two over the smallest learning rate that raises the loss."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_tut.counts import whole_number
from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.flatness.around import LossAround
from jaxopt_tut.hyperparameters import require_positive
from jaxopt_tut.types import Count, Flag, PRNGKey, Scalar
from jaxopt_tut.vectors import Vector, dot, safe_ratio


@dataclass(frozen=True)
class Critical:
    r"""Two over the smallest learning rate at which a step along the gradient raises the loss.

    $$\lambda_c = 2 / \eta_c, \qquad
    \eta_c = \min \{\eta > 0 : L(w - \eta\, T^2 \nabla L) > L(w)\}$$

    with T the identity or, adaptive, $\mathrm{diag}\,|w|$. On a quadratic that is the Rayleigh
    quotient $g^\top T H T g / g^\top g$ with $g = T \nabla L$, so at most the largest eigenvalue,
    and equal to it where the gradient lies in its eigenvector, as it nearly does at the edge of
    stability. The rate is doubled or halved from $|L| / \lVert g \rVert^2$ until the loss rises at
    one end alone; then that interval is halved, and in the last of them the rise over the rate,
    which on a quadratic is linear, is interpolated. Rises that lie between two rates of which the
    larger does not raise the loss are not seen.

    The result is 0 where no rate raises the loss, infinite where all that are tried do, and not a
    number where there is no gradient, the loss is not finite, or what a step gains is lost in its
    rounding.

    The cheapest of all: one gradient and some ten values, over all data.

    Attributes:
      tol: The last interval over its lower end, above 0.
      max_values: How often the loss is evaluated at most before the interpolation.
      adaptive: Whether steps stretch with the squares of the weights, which makes the rate
        invariant where ReLU layers are rescaled.

    Example:
      >>> from jaxopt_tut.curvature import sharpness
      >>> loss_fn = lambda w, batch: 0.5 * jnp.sum(jnp.array([1.0, 9.0]) * w**2)
      >>> # the gradient at (9, 1) is (9, 9), and its Rayleigh quotient (1 + 9) / 2
      >>> print(f"{sharpness(loss_fn, jnp.array([9.0, 1.0]), kind=Critical()).mean:.3f}")
      5.000

    References:
      Kalra and Barkeshli (2024), Why warmup the learning rate?, section 2.
      https://arxiv.org/abs/2406.09405
    """

    tol: float = 1e-2
    max_values: int = 100
    adaptive: bool = False

    def __post_init__(self) -> None:
        """Refuse what would never end."""
        require_positive("Critical", finite=True, tol=self.tol)
        count = whole_number(self.max_values)
        if count is None:
            raise TypeError(
                f"Critical needs a whole max_values, got max_values={self.max_values!r}."
            )
        if count < 1:
            raise ValueError(f"Critical needs max_values >= 1, got max_values={self.max_values}.")

    @property
    def needs_key(self) -> bool:
        """Whether it draws."""
        return False

    def measure(self, around: LossAround, key: PRNGKey | None) -> Estimate:
        """Return two over the rate."""
        del key  # nothing is drawn
        start = around.start()
        scale = around.sizes() if self.adaptive else jnp.ones_like(start)
        base, gradient = around.value_and_gradient(start)
        squared = dot(scale * gradient, scale * gradient)
        direction = scale**2 * gradient
        # derivatives come from the interpolation alone: the ends are numbers
        bracket = self._bracket(*jax.lax.stop_gradient((around, base, squared, direction)))
        low, high = bracket.low, bracket.high
        is_closed = (low > 0) & (high < jnp.inf)

        def slope(rate: Scalar) -> Scalar:
            rate = jnp.where(is_closed, rate, 1)
            return (around.value(-rate * direction) - base) / rate.astype(base.dtype)

        falls, rises = slope(low), slope(high)
        can_divide = is_closed & jnp.isfinite(rises) & (rises > falls)
        middle = jnp.where(is_closed, (low + high) / 2, 1)
        root = safe_ratio(
            low.astype(base.dtype) * rises - high.astype(base.dtype) * falls,
            rises - falls,
            where=can_divide,
            otherwise=middle.astype(base.dtype),
        )
        at_an_end = jnp.where(low > 0, 0, jnp.inf)  # never raised, always raised
        value = jnp.where(is_closed, 2 / root, at_an_end.astype(root.dtype))
        # half way to the rate the loss has fallen by a quarter of the first product
        gained = (jnp.where(is_closed, root, jnp.inf) * squared.astype(base.dtype)) / 4
        is_seen = gained > 2 * jnp.finfo(base.dtype).eps * jnp.abs(base)
        value = jnp.where(_has_slope(base, squared) & is_seen, value, jnp.nan)
        return Estimate(value, jnp.zeros_like(value))

    def _bracket(
        self, around: LossAround, base: Scalar, squared: Scalar, direction: Vector
    ) -> "_Bracket":
        first = safe_ratio(jnp.abs(base).astype(squared.dtype), squared)
        first = jnp.where((first > 0) & jnp.isfinite(first), first, 1)

        def proposed(state: _Bracket) -> Scalar:
            low, high = state.low, state.high
            upwards = jnp.where(low > 0, 2 * low, first)
            return jnp.where(high == jnp.inf, upwards, (low + high) / 2)

        def is_open(state: _Bracket) -> Flag:
            rate = proposed(state)
            return (
                _has_slope(base, squared)
                & (state.high > (1 + self.tol) * state.low)
                & (state.count < self.max_values)
                & (rate > 0)
                & (rate < jnp.inf)
            )

        def look(state: _Bracket) -> _Bracket:
            rate = proposed(state)
            rises = ~(around.value(-rate * direction) <= base)  # NaN does
            return _Bracket(
                jnp.where(rises, state.low, rate),
                jnp.where(rises, rate, state.high),
                state.count + 1,
            )

        zero = jnp.zeros_like(squared)
        start = _Bracket(zero, zero + jnp.inf, jnp.zeros((), int))
        return around.while_loop(is_open, look, start)


class _Bracket(NamedTuple):
    """Between which rates the smallest one that raises the loss lies."""

    low: Scalar  # the largest known that does not; 0 if there is none
    high: Scalar  # the smallest known that does; infinite if there is none
    count: Count


def _has_slope(base: Scalar, squared: Scalar) -> Flag:
    return jnp.isfinite(base) & jnp.isfinite(squared) & (squared > 0)
