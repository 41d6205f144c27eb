"""Where a cubic or a parabola through two points has its minimum."""

from typing import Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Float


@runtime_checkable
class Sample(Protocol):
    """A point on a line: where, how high, how steep."""

    @property
    def step(self) -> Float[Array, ""]: ...  # noqa: D102

    @property
    def value(self) -> Float[Array, ""]: ...  # noqa: D102

    @property
    def slope(self) -> Float[Array, ""]: ...  # noqa: D102


def cubic_minimizer(a: Sample, b: Sample) -> Float[Array, ""]:
    r"""Return the minimiser of the cubic with the values and the slopes of two points.

    $$t = t_b - (t_b - t_a)\, \frac{\phi'_b + d_2 - d_1}{\phi'_b - \phi'_a + 2 d_2}, \qquad
    d_1 = \phi'_a + \phi'_b - 3\, \frac{\phi_a - \phi_b}{t_a - t_b}, \quad
    d_2 = \mathrm{sign}(t_b - t_a) \sqrt{d_1^2 - \phi'_a \phi'_b}$$

    It is not finite where there is none (Nocedal and Wright, eq. 3.59).
    """
    width = b.step - a.step
    d1 = a.slope + b.slope - 3 * (b.value - a.value) / width
    # scaled, or squares of large slopes would overflow
    scale = jnp.maximum(jnp.abs(d1), jnp.maximum(jnp.abs(a.slope), jnp.abs(b.slope)))
    radicand = (d1 / scale) ** 2 - (a.slope / scale) * (b.slope / scale)
    d2 = jnp.sign(width) * scale * jnp.sqrt(radicand)
    return b.step - width * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2)


def secant_root(a: Sample, b: Sample) -> Float[Array, ""]:
    r"""Return where the straight line through two slopes crosses zero.

    $$t = t_a - \phi'_a\, \frac{t_b - t_a}{\phi'_b - \phi'_a}$$

    It is not finite where the slopes are equal.
    """
    return a.step - a.slope * (b.step - a.step) / (b.slope - a.slope)
