"""The outer function, and its derivative in reverse mode."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxopt_tut.bilevel.mode import Hypergradient, LinearInfo, Mode
from jaxopt_tut.bilevel.problem import Inputs, Problem, Run
from jaxopt_tut.types import PyTree


def value_of(outer: Callable, y: PyTree, z: PyTree) -> Array:
    """Evaluate the outer function and refuse what is no real scalar."""
    value = outer(y, z)
    if jnp.shape(value) != () or not jnp.issubdtype(jnp.result_type(value), jnp.floating):
        raise ValueError(f"hypergrad needs outer to return a real scalar, got {jax.typeof(value)}.")
    return value


def reverse_hypergrad(
    mode: Mode, outer: Callable, problem: Problem, inputs: Inputs, wrt: Sequence[str]
) -> Hypergradient:
    """Differentiate the outer function through `mode.run` in reverse mode.

    Args:
      mode: A mode that defines vjp.
      outer: `outer(y, z)`.
      problem: The inner problem.
      inputs: What it depends on.
      wrt: Names of the inputs to differentiate.

    Returns:
      Value, gradients and run.
    """

    def value(chosen: dict[str, PyTree]) -> tuple[Array, Run]:
        replaced = inputs._replace(**chosen)
        run = mode.run(problem, replaced)
        return value_of(outer, run.y, replaced.z), run

    chosen = {name: getattr(inputs, name) for name in wrt}
    (result, run), grads = jax.value_and_grad(value, has_aux=True)(chosen)
    return Hypergradient(result, grads, run, LinearInfo())
