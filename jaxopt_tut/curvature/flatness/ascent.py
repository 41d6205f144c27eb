"""The largest rise of the loss in a ball, by ascent."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_tut.counts import whole_number
from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.flatness.around import LossAround
from jaxopt_tut.curvature.flatness.balls import steepest
from jaxopt_tut.hyperparameters import cast, require_positive
from jaxopt_tut.optimizers.norms import L2, Norm
from jaxopt_tut.types import Number, PRNGKey, Scalar
from jaxopt_tut.vectors import Vector

_L2 = L2()


@dataclass(frozen=True)
class Ascent:
    r"""The largest rise of the loss in a ball, as sharpness-aware minimisation takes it.

    $$\max_{\lVert T^{-1} e \rVert \le \rho} L(w + e) - L(w), \qquad
    e_1 = \rho\, T\, d(T \nabla L(w)), \qquad
    e_{k+1} = e_k + \gamma_k \big(\rho\, T\, d(T \nabla L(w + e_k)) - e_k\big)$$

    with $d(g)$ the direction of unit norm that is steepest, and T the identity or, adaptive,
    $\mathrm{diag}\,|w|$. The first step is SAM's, or ASAM's without its $\eta$; the rise there is a
    lower bound of the maximum, exact to first order in $\rho$. More steps go to where the linear
    function that touches the loss is largest in the ball; $\gamma$ starts at 1, at which the loss
    cannot fall if it is convex, and is halved where it falls. The largest rise met is returned, so
    more steps never find less. It is a local maximum; and a rise within the rounding of the loss is
    noise.

    Cost: a gradient a step and one value, all over all data.

    Attributes:
      radius: $\rho > 0$, in units of the parameters, or if adaptive relative to them; may be
        traced.
      norm: Any of `optimizers.norms`: `L1()` and `L2()` of all parameters together; of `LInf()`,
        `Spectral()` and of norms of one's own the largest over the leaves.
      num_steps: At least 1. From 2 on a key is needed: at a minimum, which has no gradient, a
        random direction begins.
      adaptive: Whether the ball stretches with the weights, which makes the rise invariant where
        ReLU layers are rescaled; weights of 0 stay.

    Example:
      >>> from jaxopt_tut.curvature import sharpness
      >>> loss_fn = lambda w, batch: 0.5 * jnp.sum(jnp.array([1.0, 9.0]) * w**2)
      >>> # half the largest curvature times the radius squared, from the minimum
      >>> kind, start = Ascent(0.1, num_steps=30), jnp.zeros(2)
      >>> print(f"{sharpness(loss_fn, start, kind=kind, key=jax.random.key(0)).mean:.4f}")
      0.0450

    References:
      Foret et al. (2021), Sharpness-aware minimization, eq. (2). https://arxiv.org/abs/2010.01412
      Kwon et al. (2021), ASAM, eq. (7). https://arxiv.org/abs/2102.11600
      Journee et al. (2010), Generalized power method for sparse principal component analysis,
      algorithm 1, for more steps. https://arxiv.org/abs/0811.4724
    """

    radius: Number
    norm: Norm = _L2
    num_steps: int = 1
    adaptive: bool = False

    def __post_init__(self) -> None:
        """Refuse balls without an inside, what is no norm, and no steps."""
        require_positive("Ascent", finite=True, radius=self.radius)
        if not isinstance(self.norm, Norm) or isinstance(self.norm, type):
            raise TypeError(f"Ascent needs one of optimizers.norms, got norm={self.norm!r}.")
        count = whole_number(self.num_steps)
        if count is None:
            raise TypeError(f"Ascent needs a whole num_steps, got num_steps={self.num_steps!r}.")
        if count < 1:
            raise ValueError(f"Ascent needs num_steps >= 1, got num_steps={self.num_steps}.")

    @property
    def needs_key(self) -> bool:
        """Whether a random direction may be needed."""
        return self.num_steps > 1

    def measure(self, around: LossAround, key: PRNGKey | None) -> Estimate:
        """Return the largest rise met."""
        start = around.start()
        scale = around.sizes() if self.adaptive else jnp.ones_like(start)
        radius = cast(self.radius, start.dtype)

        def corner(gradient: Vector) -> Vector:
            """Return where in the ball a linear function is largest."""
            return radius * scale * steepest(self.norm, scale * gradient, around.params)

        base, gradient = around.value_and_gradient(start)
        if self.num_steps == 1:
            rise = around.value(corner(gradient)) - base
            return Estimate(rise, jnp.zeros_like(rise))
        assert key is not None
        drawn = jax.random.normal(key, start.shape, start.dtype)
        is_flat = jnp.all(scale * gradient == 0)
        gradient = jnp.where(is_flat, drawn, gradient)
        state = _Climb(start, base, corner(gradient), jnp.ones_like(base), -jnp.inf + 0 * base)

        def step(state: _Climb, _: Number) -> tuple[_Climb, None]:
            gamma = state.gamma.astype(start.dtype)
            tried = state.place + gamma * (state.corner - state.place)
            value, gradient = around.value_and_gradient(tried)
            rises = value > state.value
            choose = lambda new, old: jnp.where(rises, new, old)
            return _Climb(
                place=choose(tried, state.place),
                value=choose(value, state.value),
                corner=choose(corner(gradient), state.corner),
                gamma=choose(jnp.minimum(1, 2 * state.gamma), state.gamma / 2),
                best=jnp.maximum(state.best, value),  # of NaN too
            ), None

        state, _ = around.scan(step, state, self.num_steps - 1)
        last = state.place + state.gamma.astype(start.dtype) * (state.corner - state.place)
        rise = jnp.maximum(state.best, around.value(last)) - base
        return Estimate(rise, jnp.zeros_like(rise))


class _Climb(NamedTuple):
    """What the next step of ascent needs."""

    place: Vector
    value: Scalar
    corner: Vector  # where the touching linear function is largest
    gamma: Scalar
    best: Scalar
