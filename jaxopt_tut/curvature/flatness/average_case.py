"""The mean rise of the loss under noise."""

from dataclasses import dataclass

import jax.numpy as jnp

from jaxopt_tut.counts import whole_number
from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.flatness.around import LossAround
from jaxopt_tut.hyperparameters import cast, require_positive
from jaxopt_tut.types import Number, PRNGKey, Scalar


@dataclass(frozen=True)
class AverageCase:
    r"""The mean rise of the loss under Gaussian noise on the parameters.

    $$\mathbb E\, L(w + \rho\, T z) - L(w) = \tfrac{\rho^2}{2} \operatorname{tr}(T H T) + O(\rho^4),
    \qquad z \sim N(0, 1)$$

    with T the identity or, adaptive, $\mathrm{diag}\,|w|$. The radius $\rho$ is the standard
    deviation of every parameter: the displacement of n of them is about $\rho \sqrt n$ long. Each
    sample is the mean over a draw and its opposite, in which the gradient cancels; samples are
    independent of one another, so that the standard error over them is honest.

    Cost: two values a sample, over all data, and no gradient.

    Attributes:
      radius: $\rho > 0$, in units of the parameters, or if adaptive relative to them; may be
        traced.
      num_samples: Pairs of opposite draws, at least 2.
      adaptive: Whether the noise stretches with the weights, which makes the rise invariant where
        ReLU layers are rescaled.

    Example:
      >>> import jax
      >>> from jaxopt_tut.curvature import sharpness
      >>> loss_fn = lambda w, batch: 0.5 * jnp.sum(jnp.array([1.0, 9.0]) * w**2)
      >>> kind = AverageCase(0.1, num_samples=1000)  # half the trace times .1 squared: .05
      >>> rise = sharpness(loss_fn, jnp.ones(2), kind=kind, key=jax.random.key(1))
      >>> print(f"{rise.mean:.3f} +- {rise.sem:.3f}")
      0.049 +- 0.002

    References:
      Andriushchenko et al. (2023), A modern look at the relationship between sharpness and
      generalization, eq. (1). https://arxiv.org/abs/2302.07011
    """

    radius: Number
    num_samples: int = 100
    adaptive: bool = False

    def __post_init__(self) -> None:
        """Refuse noise of no size, and too few samples for an error."""
        require_positive("AverageCase", finite=True, radius=self.radius)
        count = whole_number(self.num_samples)
        if count is None:
            raise TypeError(
                f"AverageCase needs a whole num_samples, got num_samples={self.num_samples!r}."
            )
        if count < 2:
            raise ValueError(
                f"AverageCase needs num_samples >= 2, got num_samples={self.num_samples}."
            )

    @property
    def needs_key(self) -> bool:
        """Whether it draws."""
        return True

    def measure(self, around: LossAround, key: PRNGKey | None) -> Estimate:
        """Return the mean over the draws, with its error."""
        start = around.start()
        assert key is not None
        scale = around.sizes() if self.adaptive else jnp.ones_like(start)
        scale = cast(self.radius, start.dtype) * scale

        def sample(_: None, count: Number) -> tuple[None, Scalar]:
            return None, around.value_under_noise(scale, key, count)

        _, values = around.scan(sample, None, self.num_samples)
        rises = values - around.value(start)
        sem = jnp.std(rises, ddof=1) / jnp.sqrt(jnp.asarray(self.num_samples, rises.dtype))
        return Estimate(jnp.mean(rises), sem, degrees=self.num_samples - 1)
