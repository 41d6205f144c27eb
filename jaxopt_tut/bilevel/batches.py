"""Data of the inner steps: rows of arrays, or drawn anew from a key in every step."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from jaxopt_tut import control_flow
from jaxopt_tut.trees import named_leaves
from jaxopt_tut.types import Batch, PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
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
    key: Key[Array, ""]


def require_batches(batches: PyTree | Stream, num_steps: int, caller: str) -> None:
    """Refuse batches that don't give each step its own row.

    Args:
      batches: Trees of arrays with a leading axis of steps, a `Stream`, or `None`.
      num_steps: Number of steps.
      caller: The function that asks; it opens the message.

    Raises:
      TypeError: If a function stands where a `Stream` should.
      ValueError: If a leaf has not `num_steps` rows.

    Example:
      >>> import numpy as np
      >>> require_batches({"x": np.zeros((8, 2))}, 10, "argmin")
      Traceback (most recent call last):
      ...
      ValueError: argmin needs batches with a leading axis of steps=10, got shape (8, 2) at 'x'.
    """
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


def split_batches(batches: PyTree | Stream) -> tuple[Stream | None, PyTree]:
    """Tell a stream, which has a function in it, from arrays.

    Args:
      batches: What is passed as `batches`.

    Returns:
      The stream or `None`, and the arrays or `None`.

    Example:
      >>> split_batches([1.0, 2.0])
      (None, [1.0, 2.0])
    """
    return (batches, None) if isinstance(batches, Stream) else (None, batches)


def batch_at(batches: PyTree | Stream, step: Any) -> Batch:
    """Return the batch of one step.

    Args:
      batches: Trees of arrays with a leading axis of steps, or a `Stream`.
      step: Which; an integer array or number.

    Returns:
      Its batch.

    Example:
      >>> import jax.numpy as jnp
      >>> print(batch_at({"x": jnp.array([[1.0, 2.0], [3.0, 4.0]])}, 1)["x"])
      [3. 4.]
    """
    if isinstance(batches, Stream):
        return batches.draw(batches.key, jnp.asarray(step, jnp.int32))
    pick = lambda rows: jax.lax.dynamic_index_in_dim(rows, step, keepdims=False)
    return jax.tree.map(pick, batches)


def mean_over_batches(f: Callable[..., Any], num_steps: int) -> Callable[..., Any]:
    r"""Return the mean of a function over the batches of all steps.

    $$\bar f(y, z) = \frac1T \sum_{t=1}^T f(y, z, b_t)$$

    Args:
      f: `f(y, z, batch)`.
      num_steps: $T$.

    Returns:
      A function of `(y, z, batches)`; it sees one batch at a time, also in its derivatives.

    Example:
      >>> import jax.numpy as jnp
      >>> mean = mean_over_batches(lambda y, z, batch: z * (y - batch) ** 2, 2)
      >>> print(mean(0.0, 1.0, jnp.array([1.0, 3.0])))
      5.0
    """

    def mean(y: PyTree, z: PyTree, batches: PyTree | Stream) -> Any:
        value_of = jax.checkpoint(lambda step: f(y, z, batch_at(batches, step)))
        zero = jnp.zeros((), jax.eval_shape(value_of, 0).dtype)
        total = lambda total, step: (total + value_of(step), None)
        return control_flow.scan(total, zero, jnp.arange(num_steps))[0] / num_steps

    return mean
