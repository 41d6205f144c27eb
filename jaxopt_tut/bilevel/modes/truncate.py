"""Biased, and cheap in memory: differentiate the last steps only."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxopt_tut import control_flow, counts
from jaxopt_tut.bilevel.modes.memory import bytes_of_step
from jaxopt_tut.bilevel.modes.mode import Mode
from jaxopt_tut.bilevel.modes.refusal import (
    forbid,
    require_differentiable,
    undefined,
)
from jaxopt_tut.bilevel.modes.reversible import in_reach_of_reverse_mode
from jaxopt_tut.bilevel.problem import Inputs, Problem, Run


@dataclass(frozen=True)
class Truncate(Mode):
    r"""Differentiate the last $k$ steps, as if they had begun at a constant.

    $$\frac{dy_T}{dz} \approx \sum_{t=T-k+1}^T \Big( \prod_{s=t+1}^{T} \partial_y \Phi_s \Big)
    \partial_z \Phi_t$$

    The memory of $k$ steps. What is left out shrinks like $\rho^k$, $\rho$ being the rate at which
    the solver contracts: on a quadratic, gradient descent with step $\eta$ from its solution loses
    $(1 - \eta\lambda)^k$ of the derivative along an eigenvector. With respect to `z` and `hp`; a
    second derivative is that of the same $k$ steps.

    Attributes:
      k: Steps to differentiate, 1 or more; all of them if there are fewer.
      zero_safe: Whether an optax transformation is made `optimizers.differentiable`: in the
        derivative of its updates zero times infinity is zero.

    Raises:
      ValueError: If `k` is less than 1.

    Example:
      From the solution, 2 steps of rate 0.5 recover all but a quarter of the derivative 1.

      >>> import jax
      >>> from jaxopt_tut.bilevel import argmin
      >>> from jaxopt_tut.optimizers import sgd
      >>> f = lambda y, z: 0.5 * (y - z) ** 2
      >>> solve = lambda z: argmin(f, 0.0, z, solver=sgd(0.5), steps=40, diff=Truncate(2)).y
      >>> print(jax.grad(solve)(7.0))
      0.75

    References:
      Shaban et al. (2019), eq. (8) and theorem 3.4. https://arxiv.org/abs/1810.10667
    """

    k: int
    zero_safe: bool = field(default=True, kw_only=True, repr=False)
    derivatives: ClassVar[frozenset[str]] = frozenset({"jvp", "vjp", "second"})
    wrt: ClassVar[frozenset[str]] = frozenset({"z", "hp"})
    is_exact: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Refuse to differentiate no step."""
        if (k := counts.whole_number(self.k)) is None or k < 1:
            raise ValueError(f"Truncate needs a whole number k >= 1, got k={self.k!r}.")
        object.__setattr__(self, "k", k)

    def run(self, problem: Problem, inputs: Inputs) -> Run:
        """Take the first steps in a loop, the last `k` in a differentiable one."""
        require_differentiable(problem, self)
        message = undefined(problem, self, "y0")
        y0 = forbid(inputs.y0, message) if problem.strict else inputs.y0
        num_head = max(problem.num_steps - self.k, 0)
        constant = jax.lax.stop_gradient(inputs._replace(y0=y0))
        middle = jax.lax.stop_gradient(problem.run(constant, num_head))
        rows = jnp.arange(num_head, problem.num_steps)

        def tail(inputs: Inputs) -> Run:
            # taken also if the first steps have already met the tolerance
            step = lambda run, row: (problem.move(inputs, run, row)._replace(is_done=None), None)
            return control_flow.scan(step, middle._replace(is_done=None), rows)[0]

        return in_reach_of_reverse_mode(problem, self, inputs, tail)(inputs)

    def num_bytes(self, problem: Problem, inputs: Inputs) -> int:
        """Return the residuals of `k` steps."""
        return min(self.k, problem.num_steps) * bytes_of_step(problem, inputs)
