"""Hutchinson's estimator of a trace."""

from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxopt_tut.curvature.estimate import Estimate
from jaxopt_tut.curvature.operator import Operator
from jaxopt_tut.curvature.traces.probing import estimate, forms, no_basis, signs
from jaxopt_tut.types import PRNGKey


@dataclass(frozen=True)
class Hutchinson:
    r"""The mean of a quadratic form at random signs.

    $$\operatorname{tr} A \approx \frac1k \sum_i z_i^\top A z_i, \qquad z_{ij} = \pm 1$$

    Its variance is $2/k$ of the sum of squares off the diagonal, whatever the spectrum: it takes a
    hundred times the products for a tenth of the error. The standard error is the honest one of
    independent samples. No memory but a few vectors.

    References:
      Hutchinson (1990), A stochastic estimator of the trace of the influence matrix,
      https://doi.org/10.1080/03610919008812866
    """

    fewest: ClassVar[int] = 2

    def estimate(self, op: Operator, key: PRNGKey, num_products: int) -> Estimate:
        """Estimate the trace from that many products."""
        keys = jax.random.split(key, num_products)
        samples = forms(op, signs, keys, no_basis(op))
        return estimate(jnp.zeros(0, samples.dtype), samples)
