"""Exact: differentiate the inner loop itself, keeping as much of it as there is memory for."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from jaxopt_tut import counts
from jaxopt_tut.bilevel.modes.loops import checkpointed_loop, num_rounds
from jaxopt_tut.bilevel.modes.memory import bytes_of_run, bytes_of_step
from jaxopt_tut.bilevel.modes.mode import Mode
from jaxopt_tut.bilevel.modes.refusal import require_differentiable
from jaxopt_tut.bilevel.modes.reversible import in_reach_of_reverse_mode
from jaxopt_tut.bilevel.problem import Inputs, Problem, Run

_LEVELS = {"none": 0, "step": 1, "sqrt": 2}


@dataclass(frozen=True)
class Unroll(Mode):
    r"""Differentiate the very steps that were taken.

    $$\frac{dy_T}{dz} = \sum_{t=1}^T \Big( \prod_{s=t+1}^{T} \partial_y \Phi_s \Big)
    \partial_z \Phi_t, \qquad y_t = \Phi_t(y_{t-1}, z)$$

    Right at any number of steps, converged or not; with respect to `z`, `hp` and `y0`; forwards,
    backwards and of any order. Costs about twice the forward pass in time ("none"), one forward
    pass more for each level of `remat`, and in memory

    * `"none"`: the residuals of all $T$ steps;
    * an integer $L$: $L\, T^{1/L}$ copies of the variables and the solver's state, and the
      residuals of one step, in $L$ nested loops. `"step"` is 1, `"sqrt"` is 2; 5 suits $T = 1024$.

    Where what a step keeps outweighs its variables (a network on many examples), `"step"` saves
    memory by the factor between the two, and often time too: less has to be written and read.

    Attributes:
      remat: `"none"`, `"step"`, `"sqrt"` or the number of levels; more than $\log_2 T$ are cut.
      zero_safe: Whether an optax transformation is made `optimizers.differentiable`: in the
        derivative of its updates zero times infinity is zero.

    Raises:
      ValueError: If `remat` is none of these.

    Example:
      Gradient descent on $\tfrac12 (y - z)^2$ from 0 reaches $z\,(1 - (1 - \eta)^T)$.

      >>> import jax
      >>> from jaxopt_tut.bilevel import argmin
      >>> from jaxopt_tut.optimizers import sgd
      >>> f = lambda y, z: 0.5 * (y - z) ** 2
      >>> solve = lambda z: argmin(f, 0.0, z, solver=sgd(0.5), steps=3, diff=Unroll("sqrt")).y
      >>> print(jax.grad(solve)(7.0))
      0.875

    References:
      Franceschi et al. (2017), eq. (5). https://arxiv.org/abs/1703.01785
      Griewank and Walther (2008), Evaluating derivatives, chapter 12, for the loops.
    """

    remat: Literal["none", "step", "sqrt"] | int = "none"
    zero_safe: bool = field(default=True, kw_only=True, repr=False)
    derivatives: ClassVar[frozenset[str]] = frozenset({"jvp", "vjp", "second"})
    wrt: ClassVar[frozenset[str]] = frozenset({"z", "hp", "y0"})
    is_exact: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse an unknown `remat`."""
        levels = counts.whole_number(self.remat)
        is_name = isinstance(self.remat, str) and self.remat in _LEVELS
        if not is_name and (levels is None or levels < 1):
            raise ValueError(
                "Unroll needs remat to be 'none', 'step', 'sqrt' or a number of levels >= 1, "
                f"got remat={self.remat!r}."
            )
        if levels is not None:
            object.__setattr__(self, "remat", levels)

    @property
    def levels(self) -> int:
        """The number of nested checkpointed loops."""
        return _LEVELS[self.remat] if isinstance(self.remat, str) else self.remat

    def run(self, problem: Problem, inputs: Inputs) -> Run:
        """Take the steps in differentiable loops."""
        require_differentiable(problem, self)

        def loop(inputs: Inputs) -> Run:
            step = lambda run, index: problem.advance(inputs, run, index)
            return checkpointed_loop(step, problem.start(inputs), problem.num_steps, self.levels)

        return in_reach_of_reverse_mode(problem, self, inputs, loop)(inputs)

    def num_bytes(self, problem: Problem, inputs: Inputs) -> int:
        """Return the residuals of all steps, or the carries of the nested loops."""
        step = bytes_of_step(problem, inputs)
        if self.levels == 0:
            return problem.num_steps * step
        carries = sum(num_rounds(problem.num_steps, self.levels))
        return carries * bytes_of_run(problem, inputs) + step
