"""The outer function, and its derivative in reverse mode."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Self

import jax
from jaxtyping import Array

from jaxopt_tut.bilevel.modes.mode import Hypergradient, LinearInfo
from jaxopt_tut.bilevel.modes.refusal import irreversible, is_reversible
from jaxopt_tut.bilevel.problem import Inputs, Problem, Run
from jaxopt_tut.losses import is_real_scalar, value_part
from jaxopt_tut.types import PyTree


def value_of(outer: Callable, y: PyTree, z: PyTree) -> Array:
    """Evaluate the outer function and refuse what is no real scalar."""
    value = value_part(outer(y, z))
    if not is_real_scalar(value):
        raise ValueError(f"hypergrad needs outer to return a real scalar, got {jax.typeof(value)}.")
    return value


class ReverseMode(ABC):
    """What the modes that reverse mode goes through share: all but `run` and what they declare."""

    def chosen(self, problem: Problem, inputs: Inputs) -> Self:
        """Return the mode itself."""
        del problem, inputs
        return self

    @abstractmethod
    def run(self, problem: Problem, inputs: Inputs) -> Run:
        """Solve, differentiably."""

    def hypergrad(
        self,
        outer: Callable[..., Any],
        problem: Problem,
        inputs: Inputs,
        wrt: Sequence[str],
        certify: bool,
    ) -> Hypergradient:
        """Differentiate in reverse mode."""
        # there is nothing to estimate, or a Newton step says nothing about the error
        del certify
        if not is_reversible(problem, inputs):
            raise ValueError(irreversible(problem, self))

        def value(chosen: dict[str, PyTree]) -> tuple[Array, Run]:
            replaced = inputs._replace(**chosen)
            run = self.run(problem, replaced)
            return value_of(outer, run.y, replaced.z), run

        chosen = {name: getattr(inputs, name) for name in wrt}
        (result, run), grads = jax.value_and_grad(value, has_aux=True)(chosen)
        return Hypergradient(result, grads, run, LinearInfo())
