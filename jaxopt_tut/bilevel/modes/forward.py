"""Exact, in memory that does not depend on the number of steps: tangents pushed along."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import optax
from jaxtyping import Array

from jaxopt_tut.bilevel.modes.loops import checkpointed_loop
from jaxopt_tut.bilevel.modes.mode import Hypergradient, LinearInfo, Mode, value_of
from jaxopt_tut.bilevel.modes.refusal import forward_only, require_differentiable, undefined
from jaxopt_tut.bilevel.problem import Inputs, Problem, Run
from jaxopt_tut.vectors import ravel


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

    def hypergrad(
        self,
        outer: Callable[..., Any],
        problem: Problem,
        inputs: Inputs,
        wrt: Sequence[str],
        certify: bool,
    ) -> Hypergradient:
        """Push one tangent for each number in `wrt`."""
        del certify  # nothing to estimate: the derivative is exact
        flat, unravel = ravel({name: getattr(inputs, name) for name in wrt})

        def value(flat: Array) -> tuple[Array, tuple[Array, Run]]:
            replaced = inputs._replace(**unravel(flat))
            run = self.run(problem, replaced)
            result = value_of(outer, run.y, replaced.z)
            return result, (result, run)

        gradient, (result, run) = jax.jacfwd(value, has_aux=True)(flat)
        # as `jax.grad` has it for complex numbers
        grads = optax.tree.conj(unravel(gradient))
        return Hypergradient(result, grads, run, LinearInfo())
