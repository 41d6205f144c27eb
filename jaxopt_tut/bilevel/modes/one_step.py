"""Cheapest: the derivative of the solver's last step."""

from dataclasses import dataclass, field
from typing import ClassVar

import jax

from jaxopt_tut import jaxprs
from jaxopt_tut.bilevel.modes.memory import bytes_of_step
from jaxopt_tut.bilevel.modes.mode import Mode
from jaxopt_tut.bilevel.modes.refusal import (
    forbid,
    refuse_tangents,
    require_differentiable,
    undefined,
)
from jaxopt_tut.bilevel.modes.reversible import in_reach_of_reverse_mode
from jaxopt_tut.bilevel.modes.tangents import (
    instantiate,
    is_zero,
    undefined_tangents,
    zero_tangents,
)
from jaxopt_tut.bilevel.problem import Inputs, Problem, Run


@dataclass(frozen=True)
class OneStep(Mode):
    r"""Differentiate the last step, as if the one before had not depended on anything.

    $$\frac{dy_T}{dz} \approx \partial_z \Phi_T(y_{T-1}, z)$$

    The cost of one more step. Its relative error is the solver's rate of contraction: none for
    Newton's method, $1 - \eta\mu$ for gradient descent, and close to 1 for momentum or Adam, whose
    last step hardly feels its own gradient. With respect to `z`, first order.

    Attributes:
      zero_safe: Whether an optax transformation is made `optimizers.differentiable`: in the
        derivative of its updates zero times infinity is zero.

    Example:
      Gradient descent on $\tfrac12 (y - z)^2$ with step 0.75: the derivative is 0.75, not 1.

      >>> import jax
      >>> from jaxopt_tut.bilevel import argmin
      >>> from jaxopt_tut.optimizers import sgd
      >>> f = lambda y, z: 0.5 * (y - z) ** 2
      >>> solve = lambda z: argmin(f, 0.0, z, solver=sgd(0.75), steps=20, diff=OneStep()).y
      >>> print(jax.grad(solve)(7.0))
      0.75

    References:
      Bolte, Pauwels and Vaiter (2023), algorithm 3. https://arxiv.org/abs/2305.13768
    """

    zero_safe: bool = field(default=True, kw_only=True, repr=False)
    derivatives: ClassVar[frozenset[str]] = frozenset({"jvp", "vjp"})
    wrt: ClassVar[frozenset[str]] = frozenset({"z"})
    is_exact: ClassVar[bool] = False
    needs_optimum: ClassVar[bool] = True

    def run(self, problem: Problem, inputs: Inputs) -> Run:
        """Take all steps; the derivative is that of one."""
        require_differentiable(problem, self)
        if problem.num_steps == 0:
            raise ValueError("OneStep needs at least one step, got steps=0.")
        before = lambda inputs: problem.run(inputs, problem.num_steps - 1)
        last = lambda inputs, run: problem.move(inputs, run, run.steps)
        before, closed_before = jaxprs.closure_convert(before, inputs)
        start = jax.eval_shape(before, inputs, *closed_before)
        last, closed_last = jaxprs.closure_convert(last, inputs, start)

        @jax.custom_jvp
        def solution(inputs: Inputs, closed: tuple) -> tuple[Run, Run]:
            previous = before(inputs, *closed[0])
            return previous, last(inputs, previous, *closed[1])

        def rule(primals, tangents):
            inputs, closed = primals
            d_inputs, d_closed = tangents
            refuse_tangents(problem, self, d_inputs, d_closed)
            felt = (d_inputs.z, d_inputs.batches)
            out = previous, run = solution(inputs, closed)
            if all(map(is_zero, jax.tree.leaves(felt))):
                return out, zero_tangents(out)
            # a derivative of this derivative would miss that the point moves
            inputs, closed = forbid((inputs, closed), undefined(problem, self, "second"))
            moved = lambda z, batches: (
                last(inputs._replace(z=z, batches=batches), previous, *closed[1]).y
            )
            operands = inputs.z, inputs.batches
            moved = in_reach_of_reverse_mode(problem, self, inputs, moved)
            _, d_y = jax.jvp(moved, operands, instantiate(operands, felt))
            d_run = undefined_tangents(run, felt)._replace(y=d_y)
            return out, (zero_tangents(previous), d_run)

        solution.defjvp(rule, symbolic_zeros=True)
        return solution(inputs, (closed_before, closed_last))[1]

    def num_bytes(self, problem: Problem, inputs: Inputs) -> int:
        """Return the residuals of one step."""
        return bytes_of_step(problem, inputs)
