"""Derivatives that a mode does not define: they raise, or are no number, but never 0 in silence."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_tut.bilevel.problem import Inputs, Problem
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
