"""Derivatives that a mode does not define: they raise, or are no number, but never 0 in silence."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_tut.bilevel.problem import Inputs, Problem
from jaxopt_tut.jaxprs import open_jaxpr, sub_jaxprs
from jaxopt_tut.types import PyTree

ALTERNATIVES = {
    "hp": "Unroll(), Forward(), Truncate(k)",
    "y0": "Unroll(), Forward()",
    "second": "Unroll(), Forward(), Truncate(k), Implicit()",
    "vjp": "Unroll(), Truncate(k), Implicit(), OneStep()",
}
"""Which modes define what others do not."""


def undefined(problem: Problem, mode: Any, wanted: str) -> str:
    """Return the sentence that says what a mode does not define, and which modes do.

    Args:
      problem: The problem, which names the caller.
      mode: The mode that was asked.
      wanted: A key of `ALTERNATIVES`.

    Returns:
      The sentence.
    """
    what = {
        "hp": "with respect to hp",
        "y0": "with respect to y0",
        "second": "of second order",
        "vjp": "in reverse mode",
    }[wanted]
    hint = ""
    if wanted in ("hp", "y0"):
        hint = f" Pass {wanted} through jax.lax.stop_gradient if it is to count as constant."
    return (
        f"{problem.caller} has no derivative {what} under {type(mode).__name__}; "
        f"modes that define it: {ALTERNATIVES[wanted]}.{hint}"
    )


def forbid(tree: PyTree, message: str) -> PyTree:
    """Return the tree itself; whoever differentiates through it gets an error while tracing.

    Args:
      tree: Any tree.
      message: What the error says.

    Returns:
      The same values.

    Example:
      >>> import jax
      >>> try:
      ...     jax.grad(lambda x: 2 * forbid(x, "x has no derivative."))(1.0)
      ... except ValueError as error:
      ...     print(error)
      x has no derivative.
    """

    @jax.custom_jvp
    def identity(tree: PyTree) -> PyTree:
        return tree

    def rule(primals, tangents):
        if not all(map(is_zero, jax.tree.leaves(tangents))):
            raise ValueError(message)
        (tree,) = primals
        return identity(tree), zero_tangents(tree)

    identity.defjvp(rule, symbolic_zeros=True)
    return identity(tree)


def refuse_tangents(problem: Problem, mode: Any, d_inputs: Inputs, d_closed: PyTree) -> None:
    """Refuse the tangents that a mode with a rule of its own has no derivative for.

    Args:
      problem: The problem; under `strict` those of `hp` and `y0` raise too.
      mode: The mode that was asked.
      d_inputs: Tangents of the inputs, symbolic zeros where there are none.
      d_closed: Tangents of what `f` and `solver` close over.

    Raises:
      ValueError: If one of them is not zero.
    """
    felt = lambda tree: not all(map(is_zero, jax.tree.leaves(tree)))
    if felt(d_closed):
        raise ValueError(
            f"{problem.caller} under {type(mode).__name__} needs what is differentiated as an "
            "argument, got a differentiated value that f or solver closes over: hand it to f "
            "through z, or to solver through hp."
        )
    for name in ("hp", "y0"):
        if problem.strict and felt(getattr(d_inputs, name)):
            raise ValueError(undefined(problem, mode, name))


def is_zero(tangent: Any) -> bool:
    """Tell whether a tangent is zero for a reason known while tracing."""
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def zero_tangents(tree: PyTree) -> PyTree:
    """Return the tangents of constants, as symbolic zeros."""
    zero = jax.custom_derivatives.zero_from_primal
    return jax.tree.map(lambda leaf: zero(leaf, symbolic_zeros=True), tree)


def instantiate(primals: PyTree, tangents: PyTree) -> PyTree:
    """Return tangents that `jax.jvp` takes: arrays in place of symbolic zeros."""
    dense = lambda p, t: jax.custom_derivatives.zero_from_primal(p) if is_zero(t) else t
    return jax.tree.map(dense, primals, tangents)


def undefined_tangents(tree: PyTree, tangents: PyTree) -> PyTree:
    """Return tangents that are not a number wherever one of `tangents` is felt.

    They are linear in `tangents`, so that whoever uses them sees it and all others do not.

    Args:
      tree: What the tangents are of.
      tangents: Those of the arguments; symbolic zeros do not count.

    Returns:
      A tree like `tree`.
    """
    felt = [
        jnp.sum(jnp.real(t)).astype(jnp.float32)
        for t in jax.tree.leaves(tangents)
        if not is_zero(t)
    ]
    if not felt:
        return zero_tangents(tree)
    nan = jnp.nan * sum(felt)

    def tangent(leaf: Any) -> Any:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact):
            return jax.custom_derivatives.zero_from_primal(leaf)
        return jnp.broadcast_to(nan, jnp.shape(leaf)).astype(jnp.result_type(leaf))

    return jax.tree.map(tangent, tree)


def require_differentiable(problem: Problem, mode: Any) -> None:
    """Refuse a solver whose steps cannot be differentiated.

    Args:
      problem: The problem, with its solver.
      mode: The mode that wants to differentiate them.

    Raises:
      ValueError: If they cannot.
    """
    if not problem.solver.is_differentiable:
        raise ValueError(
            f"{type(mode).__name__} needs a solver whose steps can be differentiated, got "
            f"{type(problem.solver).__name__}; Implicit() takes any solver."
        )


def forward_only(fun: Callable[..., Any], message: str) -> Callable[..., Any]:
    """Return a function that forward mode differentiates and reverse mode does not.

    Args:
      fun: A function of trees.
      message: What the error in reverse mode says.

    Returns:
      The same function.

    Example:
      >>> square = forward_only(lambda x: x**2, "square goes forwards.")
      >>> print(jax.jvp(square, (3.0,), (1.0,))[1])
      6.0
      >>> try:
      ...     jax.grad(square)(3.0)
      ... except ValueError as error:
      ...     print(error)
      square goes forwards.
    """

    def refuse(*_args, **_params):
        raise ValueError(message)

    # a policy is asked what to keep for reverse mode, and only then
    return jax.checkpoint(fun, policy=refuse)


def is_reversible(problem: Problem, inputs: Inputs) -> bool:
    """Tell whether reverse mode goes through a step: not where a `while_loop` feels `y`.

    Args:
      problem: The problem, with its solver.
      inputs: What it depends on.

    Returns:
      Whether it does, as found by tracing one step.
    """
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
    """Return the sentence that says why a mode does not go through the steps, and what does.

    Args:
      problem: The problem, which names the caller.
      mode: The mode that was asked.

    Returns:
      The sentence.
    """
    return (
        f"{problem.caller} under {type(mode).__name__} needs steps without a while_loop, got a "
        "solver or an inner function with one inside (a line search), which has no derivative in "
        "reverse mode: take Implicit(), with Minimize(...) as the solver at best, or Forward()."
    )


def in_reach_of_reverse_mode(
    problem: Problem, mode: Any, inputs: Inputs, loop: Callable[..., Any]
) -> Callable[..., Any]:
    """Return a loop of steps that, where reverse mode cannot go, says what can.

    Args:
      problem: The problem.
      mode: The mode that takes the steps.
      inputs: What it depends on.
      loop: A function of trees.

    Returns:
      The loop, or one that raises in reverse mode.
    """
    if not _may_loop(problem, inputs):
        return loop

    def keep(*_args, **_params) -> bool:
        # asked in reverse mode only, which goes through loops that do not feel `y`
        if not goes():
            raise ValueError(irreversible(problem, mode))
        return True

    goes = functools.cache(lambda: is_reversible(problem, inputs))
    return jax.checkpoint(loop, policy=keep)
