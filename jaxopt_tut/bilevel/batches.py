"""Data of the inner steps: rows of arrays, or drawn anew from a key in every step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key
from typing_extensions import TypeAliasType

from jaxopt_tut import control_flow
from jaxopt_tut.blocks import shown
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import Batch, PyTree


@shown
@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Stream:
    """Batches drawn from a key, the same ones whenever a step is computed again.

    Step $t$ sees `draw(key, t)`: nothing is stored, and a mode that recomputes the step sees the
    same batch.

    Attributes:
      draw: `draw(key, step) -> batch`; fold the step into the key.
      key: A typed key.

    Example:
      >>> import jax
      >>> def draw(key, step):
      ...     return jax.random.normal(jax.random.fold_in(key, step), (8,))
      >>> stream = Stream(draw, jax.random.key(0))
      >>> batch_at(stream, 3).shape
      (8,)
    """

    draw: Callable[[Key[Array, ""], Int[Array, ""]], Batch] = field(metadata={"static": True})
    key: Any  # beside a key also what JAX puts in its place, as a tangent or a sentinel


Batches = TypeAliasType("Batches", PyTree | Stream)
"""Rows of arrays, one a step; a `Stream`; or `None`."""


def require_batches(batches: Batches, num_steps: int, caller: str) -> None:
    """Refuse batches that don't give each step its own row."""
    if isinstance(batches, Stream):
        return
    if callable(batches):
        raise TypeError(
            f"{caller} needs batches as arrays or as Stream(draw, key), got the function "
            f"{getattr(batches, '__name__', batches)}."
        )
    for name, leaf in named_leaves(batches):
        if jnp.shape(leaf)[:1] != (num_steps,):
            raise ValueError(
                f"{caller} needs batches with a leading axis of steps={num_steps}, "
                f"got shape {jnp.shape(leaf)} at {name!r}."
            )


def batch_at(batches: Batches, step: Any) -> Batch:
    """Return the batch of one step."""
    if isinstance(batches, Stream):
        return batches.draw(batches.key, jnp.asarray(step, jnp.int32))
    pick = lambda rows: jax.lax.dynamic_index_in_dim(rows, step, keepdims=False)
    return jax.tree.map(pick, batches)


def mean_over_batches(f: Callable[..., Any], num_steps: int) -> Callable[..., Any]:
    r"""Return the mean of a function over the batches of all steps.

    $$\bar f(y, z) = \frac1T \sum_{t=1}^T f(y, z, b_t)$$
    """

    def mean(y: PyTree, z: PyTree, batches: Batches) -> Any:
        value_of = jax.checkpoint(lambda step: f(y, z, batch_at(batches, step)))
        zero = jnp.zeros((), jax.eval_shape(value_of, 0).dtype)
        total = lambda total, step: (total + value_of(step), None)
        return control_flow.scan(total, zero, jnp.arange(num_steps))[0] / num_steps

    return mean
