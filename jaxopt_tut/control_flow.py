"""Loops and branches of `jax.lax` that run inside `jax.shard_map` as they do outside.

Under `jax.shard_map` the type of an array says over which axes of the mesh its values differ, and
`jax.lax` wants the types of a carry to stay, and those of all branches to agree. A counter that
starts at a constant 0 and stops where the data say so breaks that rule. The functions here raise
types to the smallest ones that agree; outside of `jax.shard_map` they are those of `jax.lax`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jaxtyping import Array, Bool

from jaxopt_tut import jaxprs
from jaxopt_tut.types import PyTree

__all__ = [
    "agree",
    "cond",
    "like",
    "scan",
    "spread",
    "sums_over_devices",
    "switch",
    "unless",
    "vary",
    "varying_axes",
    "while_loop",
]

_NOWHERE: frozenset[str] = frozenset()


def while_loop(cond: Callable[[Any], Any], body: Callable[[Any], Any], init: PyTree) -> Any:
    """Loop as `jax.lax.while_loop` does.

    Example:
      >>> print(while_loop(lambda n: n < 10, lambda n: 2 * n, 3))
      12
    """
    if not _in_shard_map():
        return jax.lax.while_loop(cond, body, init)
    # devices that stop at different times differ in all that the loop carries
    stops = lambda carry: varying_axes(jax.eval_shape(cond, carry))
    init = _settled(body, init, stops)
    return jax.lax.while_loop(cond, lambda carry: like(body(carry), carry), init)


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]],
    init: PyTree,
    xs: PyTree = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Loop as `jax.lax.scan` does.

    Returns:
      The last carry and the outputs.

    Example:
      >>> import jax.numpy as jnp
      >>> print(scan(lambda total, x: (total + x, None), 0, jnp.arange(5))[0])
      10
    """
    if not _in_shard_map():
        return jax.lax.scan(body, init, xs, length=length, reverse=reverse)
    first = jax.tree.map(_row, xs)
    init = _settled(lambda carry: body(carry, first)[0], init)

    def step(carry: Any, x: Any) -> tuple[Any, Any]:
        moved, out = body(carry, x)
        return like(moved, carry), out

    return jax.lax.scan(step, init, xs, length=length, reverse=reverse)


def cond(predicate: Any, if_true: Callable, if_false: Callable, *operands: Any) -> Any:
    """Branch as `jax.lax.cond` does.

    Example:
      >>> print(cond(True, lambda x: x + 1, lambda x: x, 1))
      2
    """
    return _choose(jax.lax.cond, predicate, [if_true, if_false], operands)


def unless(is_good: Bool[Array, ""], value: Any, otherwise: Callable[[Any], Any]) -> Any:
    """Return a value where it is good, else what is made of it.

    A loop of one turn or none: under `jax.vmap` a branch would always be taken, and this one only
    where a member of the batch needs it.

    Example:
      >>> print(unless(jax.numpy.array(False), 3.0, lambda x: 2 * x))
      6.0
    """
    remade, closed = jaxprs.closure_convert(otherwise, value)

    def step(carry: tuple[Bool[Array, ""], Any]) -> tuple[Bool[Array, ""], Any]:
        # a turn depends on little that the loop changes: without the barrier XLA computes all else
        # before the loop, whether or not there is a turn
        operands, _ = jax.lax.optimization_barrier((closed, carry[0]))
        return jax.numpy.ones((), bool), remade(carry[1], *operands)

    return while_loop(lambda carry: ~carry[0], step, (is_good, value))[1]


def switch(index: Any, branches: Sequence[Callable], *operands: Any) -> Any:
    """Branch as `jax.lax.switch` does.

    Example:
      >>> print(switch(1, [lambda x: x, lambda x: -x], 5))
      -5
    """
    choose = lambda index, *rest: jax.lax.switch(index, rest[: len(branches)], *operands)
    return _choose(lambda i, *rest: choose(i, *rest), index, list(branches), operands)


def _choose(choose: Callable, which: Any, branches: list[Callable], operands: tuple) -> Any:
    if not _in_shard_map():
        return choose(which, *branches, *operands)
    outputs = [jax.eval_shape(branch, *operands) for branch in branches]
    shapes = {jax.tree.structure(out) for out in outputs}
    if len(shapes) > 1:
        return choose(which, *branches, *operands)  # refused there, in full
    axes = jax.tree.map(lambda *leaves: varying_axes([which, *leaves]), *outputs)
    raised = [
        lambda *args, branch=branch: jax.tree.map(vary, branch(*args), axes) for branch in branches
    ]
    return choose(which, *raised, *operands)


def like(tree: PyTree, other: PyTree) -> PyTree:
    """Let a tree vary over the axes of a mesh over which another one does.

    Example:
      >>> import jax.numpy as jnp
      >>> print(like({"a": jnp.ones(2)}, {"a": jnp.zeros(2)})["a"])
      [1. 1.]
    """
    if not _in_shard_map() or jax.tree.structure(tree) != jax.tree.structure(other):
        return tree  # the loop refuses it, and says where
    return jax.tree.map(lambda leaf, model: vary(leaf, varying_axes(model)), tree, other)


def spread(tree: PyTree, function: Callable[[Any], Any]) -> PyTree:
    """Let a tree vary over the axes of a mesh over which a function of it does.

    Parameters that are equal on all devices, and a loss of the data of one: each device solves a
    problem of its own. Where the loss is a mean over devices, the parameters stay equal.

    Example:
      >>> print(spread(1.0, lambda w: w**2))
      1.0
    """
    if not _in_shard_map():
        return tree
    axes = varying_axes(jax.eval_shape(function, tree))
    return jax.tree.map(lambda leaf: vary(leaf, axes), tree)


def sums_over_devices(function: Callable[[Any], Any], argument: PyTree) -> bool:
    """Tell whether a function closes over what differs between devices, but returns what does not.

    Returns:
      False outside of `jax.shard_map`.

    Example:
      >>> sums_over_devices(lambda v: 2 * v, 1.0)
      False
    """
    if not _in_shard_map():
        return False
    closed = jax.make_jaxpr(function)(argument).consts
    return not varying_axes(closed) <= varying_axes(jax.eval_shape(function, argument))


def vary(leaf: Any, axes: frozenset[str]) -> Any:
    """Let an array vary over some axes of a mesh, if it does not yet.

    Example:
      >>> vary(1.0, frozenset())
      1.0
    """
    missing = tuple(sorted(axes - varying_axes(leaf), key=str))
    return jax.lax.pcast(leaf, missing, to="varying") if missing else leaf


def agree(*values: Any) -> tuple[Any, ...]:
    """Let the operands of one primitive vary over the same axes of a mesh, as it asks.

    Example:
      >>> agree(1.0, 2.0)
      (1.0, 2.0)
    """
    if not _in_shard_map():
        return values
    axes = varying_axes(values)
    return tuple(vary(value, axes) for value in values)


def _in_shard_map() -> bool:
    return bool(jax.sharding.get_abstract_mesh().manual_axes)


def varying_axes(tree: PyTree) -> frozenset[str]:
    """Return the axes of a mesh over which any leaf of a tree varies.

    Example:
      >>> varying_axes({"a": 1.0})
      frozenset()
    """
    found = _NOWHERE
    for leaf in jax.tree.leaves(tree):
        aval = leaf if isinstance(leaf, jax.ShapeDtypeStruct) else jax.typeof(leaf)
        kind = aval.manual_axis_type
        found |= _NOWHERE if kind is None else kind.varying
    return found


def _settled(body: Callable, carry: PyTree, stops: Callable = lambda _: _NOWHERE) -> PyTree:
    """Raise the types of a carry until a step keeps them; there are finitely many to raise."""
    while True:
        before = [varying_axes(leaf) for leaf in jax.tree.leaves(carry)]
        carry = like(carry, jax.eval_shape(body, carry))
        everywhere = stops(carry)
        carry = jax.tree.map(lambda leaf, axes=everywhere: vary(leaf, axes), carry)
        if [varying_axes(leaf) for leaf in jax.tree.leaves(carry)] == before:
            return carry


def _row(leaf: Any) -> Any:
    """Return the first row, or zeros where there is none: only its type is asked for."""
    if len(leaf):
        return leaf[0]
    return vary(jax.numpy.zeros(leaf.shape[1:], leaf.dtype), varying_axes(leaf))
