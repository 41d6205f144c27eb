"""Whether reverse mode goes through the steps of a solver: not through a loop of unknown length."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from jaxopt_tut.bilevel.problem import Inputs, Problem
from jaxopt_tut.jaxprs import open_jaxpr, sub_jaxprs
from jaxopt_tut.types import PyTree


def is_reversible(problem: Problem, inputs: Inputs) -> bool:
    """Tell whether reverse mode goes through a step: not where a `while_loop` feels `y`."""
    if not _may_loop(problem, inputs):
        return True

    def pulled(inputs: Inputs) -> PyTree:
        y, pull = jax.vjp(lambda y: _step(problem, y, inputs), inputs.y0)
        return pull(y)

    try:
        jax.eval_shape(pulled, inputs)
    except ValueError:  # of JAX, or of a line search that says so itself
        return False
    return True


def _may_loop(problem: Problem, inputs: Inputs) -> bool:
    if problem.num_steps == 0 or not problem.solver.is_differentiable:
        return False  # others say what is wrong
    step = lambda y, inputs: _step(problem, y, inputs)
    return _has_while(jax.make_jaxpr(step)(inputs.y0, inputs).jaxpr)


def _step(problem: Problem, y: PyTree, inputs: Inputs) -> PyTree:
    return problem.move(inputs, problem.start(inputs)._replace(y=y), 0).y


def _has_while(jaxpr: Any) -> bool:
    def is_or_has(eqn: Any) -> bool:
        bodies = (open_jaxpr(sub.jaxpr) for sub in sub_jaxprs(eqn))
        return eqn.primitive.name == "while" or any(map(_has_while, bodies))

    return any(map(is_or_has, jaxpr.eqns))


def irreversible(problem: Problem, mode: Any) -> str:
    """Return the sentence that says why a mode does not go through the steps, and what does."""
    return (
        f"{problem.caller} under {type(mode).__name__} needs steps without a while_loop, got a "
        "solver or an inner function with one inside (a line search), which has no derivative in "
        "reverse mode: take Implicit(), with Minimize(...) as the solver at best, or Forward()."
    )


def in_reach_of_reverse_mode(
    problem: Problem, mode: Any, inputs: Inputs, loop: Callable[..., Any]
) -> Callable[..., Any]:
    """Return a loop of steps that, where reverse mode cannot go, says what can."""
    if not _may_loop(problem, inputs):
        return loop

    def keep(*_args, **_params) -> bool:
        # asked in reverse mode only, which goes through loops that do not feel `y`
        if not goes():
            raise ValueError(irreversible(problem, mode))
        return True

    goes = functools.cache(lambda: is_reversible(problem, inputs))
    return jax.checkpoint(loop, policy=keep)
