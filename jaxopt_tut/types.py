"""Aliases and protocols shared by every room.

A *parameter tree* is any pytree whose leaves are floating or complex arrays; a *loss* maps
parameters and a batch to a scalar, or to a scalar and auxiliary values.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import optax
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Key

PyTree = Any
"""Any nesting of containers that JAX knows; used where no single leaf type fits."""

Params = PyTree
"""A tree of floating or complex arrays."""

Batch = PyTree
"""Whatever the loss takes as data."""

Shape = tuple[int, ...]

Activation = Callable[[Array], Array]
"""An elementwise function of an array."""

LossFn = Callable[..., Any]
"""`loss_fn(params, batch) -> scalar` or `-> (scalar, aux)`."""

ScalarOrSchedule = ArrayLike | optax.Schedule
"""A number, a tracer, or a function from the step count to a number."""


@runtime_checkable
class Initializer(Protocol):
    """The signature of `jax.nn.initializers`: what flax takes as `kernel_init`."""

    def __call__(self, key: Key[Array, ""], shape: Shape, dtype: DTypeLike = ...) -> Array:
        """Draw one array of the given shape and dtype."""
        ...
