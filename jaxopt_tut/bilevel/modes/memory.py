"""Memory that a derivative will need, from shapes alone."""

import jax
import jax.numpy as jnp

from jaxopt_tut.bilevel.problem import Inputs, Problem
from jaxopt_tut.types import PyTree


def bytes_of(tree: PyTree) -> int:
    """Return the size of a tree of arrays or shapes, without its keys."""
    leaves = [a for a in jax.tree.leaves(tree) if not jnp.issubdtype(a.dtype, jax.dtypes.extended)]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)


def bytes_of_run(problem: Problem, inputs: Inputs) -> int:
    """Return the size of the variables and the solver's state."""
    return bytes_of(jax.eval_shape(problem.start, inputs))


def bytes_of_step(problem: Problem, inputs: Inputs) -> int:
    """Return the size of what reverse mode keeps of one step: a bound, compilers keep less."""

    def residuals(inputs: Inputs) -> PyTree:
        start = problem.start(inputs)
        return jax.vjp(lambda run: problem.advance(inputs, run, 0), start)[1]

    try:
        return bytes_of(jax.eval_shape(residuals, inputs))
    except ValueError:  # a line search that has no derivative in reverse mode
        return bytes_of_run(problem, inputs)
