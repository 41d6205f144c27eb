"""Exact, in memory that does not depend on the number of steps: tangents pushed along."""

from dataclasses import dataclass, field
from typing import ClassVar

from jaxopt_tut.bilevel.modes.loops import checkpointed_loop
from jaxopt_tut.bilevel.modes.mode import Mode
from jaxopt_tut.bilevel.modes.refusal import forward_only, require_differentiable, undefined
from jaxopt_tut.bilevel.problem import Inputs, Problem, Run


@dataclass(frozen=True)
class Forward(Mode):
    r"""Push tangents along with the steps, forwards.

    $$\dot y_t = \partial_y \Phi_t\, \dot y_{t-1} + \partial_z \Phi_t\, \dot z$$

    As exact as `Unroll`, in the memory of a few copies of the variables and the solver's state for
    any number of steps; but one tangent for each number that is differentiated. For a few
    hyper-parameters and many steps. Reverse mode raises: use `jax.jvp`, `jax.jacfwd` or
    `hypergrad`.

    Attributes:
      zero_safe: Whether an optax transformation is made `optimizers.differentiable`: in the
        derivative of its updates zero times infinity is zero.

    Example:
      >>> import jax
      >>> from jaxopt_tut.bilevel import argmin
      >>> from jaxopt_tut.optimizers import sgd
      >>> f = lambda y, z: 0.5 * (y - z) ** 2
      >>> solve = lambda z: argmin(f, 0.0, z, solver=sgd(0.5), steps=3, diff=Forward()).y
      >>> print(jax.jacfwd(solve)(7.0))
      0.875

    References:
      Franceschi et al. (2017), eq. (15). https://arxiv.org/abs/1703.01785
    """

    zero_safe: bool = field(default=True, kw_only=True, repr=False)
    derivatives: ClassVar[frozenset[str]] = frozenset({"jvp", "second"})
    wrt: ClassVar[frozenset[str]] = frozenset({"z", "hp", "y0"})
    is_exact: ClassVar[bool] = True

    def run(self, problem: Problem, inputs: Inputs) -> Run:
        """Take the steps in a loop that refuses reverse mode."""
        require_differentiable(problem, self)

        def loop(inputs: Inputs) -> Run:
            step = lambda run, index: problem.advance(inputs, run, index)
            return checkpointed_loop(step, problem.start(inputs), problem.num_steps, levels=0)

        return forward_only(loop, undefined(problem, self, "vjp"))(inputs)
