"""Tangents of modes that have a rule of their own: known zeros, arrays, and what is no number."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_tut.types import PyTree


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
