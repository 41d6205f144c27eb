"""Numbers with their standard errors."""

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxopt_tut.blocks import Block, brief, number
from jaxopt_tut.quantiles import student_quantile


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False, repr=False)
class Estimate(Block):
    """Numbers that were estimated, with their standard errors.

    Attributes:
      mean: The estimates.
      sem: Their standard errors, of the same shape; 0 for a number that is exact.
      degrees: Degrees of freedom of the errors: one less than the number of independent samples.
    """

    mean: Float[Array, "*shape"]
    sem: Float[Array, "*shape"]
    degrees: int = field(default=0, metadata={"static": True})

    def interval(
        self, level: float = 0.95
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        r"""Return the intervals that cover the true values with a probability.

        $$\bar x \pm t\, s, \qquad P(|T_\nu| \le t) = p$$

        with Student's $T_\nu$, as the error itself is estimated from a few samples.

        Args:
          level: The probability p, in (0, 1).

        Returns:
          The lower and the upper ends; of exact numbers they are equal, and of a single sample,
          whose error nobody knows, infinite.

        Raises:
          ValueError: If `level` is not in (0, 1).

        Example:
          >>> low, high = Estimate(jnp.array(5.0), jnp.array(1.0), degrees=4).interval(0.95)
          >>> print(f"{low:.3f} {high:.3f}")
          2.224 7.776
        """
        if not 0 < level < 1:
            raise ValueError(f"Estimate.interval needs 0 < level < 1, got level={level}.")
        if self.degrees:
            half = student_quantile(level, self.degrees) * self.sem
        else:  # a single sample tells nothing of its error
            half = jnp.where(self.sem == 0, 0 * self.sem, jnp.inf * self.sem)
        return self.mean - half, self.mean + half

    def _block(self) -> tuple[str, list[tuple[str, str]]]:
        rows = [("mean", brief(self.mean)), ("sem", brief(self.sem))]
        return "Estimate", [*rows, ("degrees", number(self.degrees))]
