"""Exact within a memory: the fastest unrolling that fits."""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut import jaxprs
from jaxopt_tut.bilevel.modes.loops import num_rounds
from jaxopt_tut.bilevel.modes.mode import Mode
from jaxopt_tut.bilevel.modes.unroll import Unroll
from jaxopt_tut.bilevel.problem import Inputs, Problem, Run


@dataclass(frozen=True)
class Plan(Mode):
    """Choose how much of the steps `Unroll` keeps, from the memory of compiled programs.

    It compiles the derivative with more and more levels of recomputation, from the fastest on,
    until the temporary memory that the compiler states fits: the first that does is used, and
    named in `Info.mode`. A second or so for each program tried, each time the caller is traced.

    Attributes:
      memory: Bytes of temporary memory at most, for the inner steps and their derivative.
      zero_safe: Whether an optax transformation is made `optimizers.differentiable`: in the
        derivative of its updates zero times infinity is zero.

    Raises:
      TypeError: If `memory` is no number.
      ValueError: If `memory` is not positive; from the solve, if no unrolling fits.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut.bilevel import hypergrad
      >>> from jaxopt_tut.optimizers import adam
      >>> f = lambda y, z: jnp.sum((y - z) ** 4)
      >>> solve = lambda memory: hypergrad(
      ...     lambda y, z: jnp.sum(y), f, jnp.zeros(1000), jnp.ones(1000), solver=adam(0.1),
      ...     steps=64, diff=Plan(memory))[2].mode
      >>> solve(10**9), solve(300_000)
      ("Unroll(remat='none')", 'Unroll(remat=2)')

    References:
      Griewank and Walther (2008), Evaluating derivatives, chapter 12.
    """

    memory: int | float | np.integer | np.floating
    zero_safe: bool = field(default=True, kw_only=True, repr=False)
    derivatives: ClassVar[frozenset[str]] = Unroll.derivatives
    wrt: ClassVar[frozenset[str]] = Unroll.wrt
    is_exact: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Refuse no memory at all."""
        is_number = isinstance(self.memory, int | float | np.integer | np.floating)
        if not is_number or isinstance(self.memory, bool):
            raise TypeError(f"Plan needs memory as a number of bytes, got memory={self.memory!r}.")
        if not self.memory > 0:
            raise ValueError(f"Plan needs memory > 0 bytes, got memory={self.memory}.")

    def chosen(self, problem: Problem, inputs: Inputs) -> Unroll:
        """Return the first unrolling that fits."""
        most = len(num_rounds(problem.num_steps, problem.num_steps or 1))
        sizes = {}
        for remat in ("none", *range(1, most + 1)):
            mode = Unroll(remat, zero_safe=self.zero_safe)
            sizes[mode] = _compiled_bytes(mode, problem, inputs)
            if sizes[mode] <= self.memory:
                return mode
        best = min(sizes, key=lambda mode: sizes[mode])
        raise ValueError(
            f"Plan needs a memory of {sizes[best]} bytes at least, which {best!r} takes, "
            f"got memory={self.memory}; Forward() takes least for few numbers, Implicit() keeps "
            "no step."
        )

    def run(self, problem: Problem, inputs: Inputs) -> Run:
        """Solve in the mode that fits."""
        return self.chosen(problem, inputs).run(problem, inputs)

    def num_bytes(self, problem: Problem, inputs: Inputs) -> int:
        """Return what the mode that fits keeps."""
        return self.chosen(problem, inputs).num_bytes(problem, inputs)


def _compiled_bytes(mode: Unroll, problem: Problem, inputs: Inputs) -> int:
    """Return the temporary memory of a run and its derivative in reverse mode."""
    run, closed = jaxprs.closure_convert(lambda inputs: mode.run(problem, inputs).y, inputs)

    def gradient(inputs: Inputs, closed: list[Any]) -> list[Any]:
        y, pull = jax.vjp(lambda inputs: run(inputs, *closed), inputs)
        cotangents = jax.tree.leaves(pull(jax.tree.map(jnp.ones_like, y)))
        return [leaf for leaf in cotangents if leaf.dtype != jax.dtypes.float0]

    shapes = jax.eval_shape(lambda *trees: trees, inputs, closed)
    analysis = jax.jit(gradient).lower(*shapes).compile().memory_analysis()
    if analysis is None:
        raise ValueError("Plan needs a platform whose compiler states its programs' memory.")
    return analysis.temp_size_in_bytes
