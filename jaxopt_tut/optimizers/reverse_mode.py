"""Loops of unknown length have no reverse mode: say so at once, and what there is instead."""

import jax
import jax.numpy as jnp

from jaxopt_tut.types import PyTree

ALTERNATIVES = (
    "differentiate the solution by bilevel.argmin with diff=Implicit() and solver=Minimize(...), "
    "or the steps forwards by jax.jvp, jax.jacfwd or Forward(); if no derivative is wanted, put "
    "jax.lax.stop_gradient around what goes in"
)


def refuse_reverse_mode(tree: PyTree, caller: str) -> PyTree:
    """Return the tree itself; whoever differentiates through it backwards gets an error at once.

    JAX itself complains when it comes to the loop from behind, after all has been traced, and
    compiled. Forward mode passes. (`jax.linearize` does not: it is the first half of reverse mode.)

    Example:
      >>> try:
      ...     jax.grad(lambda x: 2 * refuse_reverse_mode(x, "minimize"))(1.0)
      ... except ValueError as error:
      ...     print(str(error)[:40])
      minimize has no reverse-mode derivative:
    """

    def refuse(*_, **__):
        raise ValueError(f"{caller} has no reverse-mode derivative: {ALTERNATIVES}.")

    leaves, structure = jax.tree.flatten(tree)
    is_inexact = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in leaves]
    # what may be kept for the way back is asked only by those who will go it
    ask = jax.checkpoint(lambda leaf: leaf * jnp.ones_like(leaf), policy=refuse)
    asked = [ask(leaf) if yes else leaf for leaf, yes in zip(leaves, is_inexact, strict=True)]
    return jax.tree.unflatten(structure, asked)
