"""Aliases and protocols shared by every room.

A *parameter tree* is any pytree whose leaves are floating or complex arrays; a *loss* maps
parameters and a batch to a scalar, or to a scalar and auxiliary values. An alias made by
`TypeAliasType` prints as its name, so that signatures stay short in `help()`.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax.typing
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key
from typing_extensions import TypeAliasType

__all__ = [
    "Activation",
    "Batch",
    "Count",
    "DTypeLike",
    "Flag",
    "Initializer",
    "Limit",
    "LossFn",
    "Number",
    "Optimizer",
    "PRNGKey",
    "Params",
    "PyTree",
    "Scalar",
    "ScalarOrSchedule",
    "Shape",
    "Transformation",
]

PyTree = Any
"""Any nesting of containers that JAX knows; used where no single leaf type fits."""

Params = PyTree
"""A tree of floating or complex arrays."""

Batch = PyTree
"""Whatever the loss takes as data."""

Shape = tuple[int, ...]

PRNGKey = TypeAliasType("PRNGKey", Key[Array, ""])
"""One typed key: `jax.random.key(seed)`."""

Scalar = TypeAliasType("Scalar", Float[Array, ""])
"""A real array without axes."""

Count = TypeAliasType("Count", Int[Array, ""])
"""A whole number, as an array without axes."""

Limit = TypeAliasType("Limit", int | np.integer | Int[Array, ""])
"""A whole number, which may be traced."""

Flag = TypeAliasType("Flag", Bool[Array, ""])
"""A truth value, as an array without axes."""

Number = TypeAliasType("Number", jax.typing.ArrayLike)
"""A number of Python's or NumPy's, an array, or a tracer."""

DTypeLike = TypeAliasType("DTypeLike", jax.typing.DTypeLike)
"""Whatever `jnp.dtype` takes."""

Activation = TypeAliasType("Activation", Callable[[Array], Array])
"""An elementwise function of an array."""

LossFn = TypeAliasType("LossFn", Callable[..., Any])
"""`loss_fn(params, batch) -> scalar` or `-> (scalar, aux)`."""

ScalarOrSchedule = TypeAliasType("ScalarOrSchedule", jax.typing.ArrayLike | optax.Schedule)
"""A number, a tracer, or a function from the step count to a number."""

Transformation = TypeAliasType("Transformation", optax.GradientTransformation)
"""Any of optax's transformations, those that take extra arguments among them."""

Optimizer = TypeAliasType("Optimizer", optax.GradientTransformation | optax.MultiSteps)
"""Any of optax's transformations, or its accumulation of gradients, which is of no such class."""


@runtime_checkable
class Initializer(Protocol):
    """The signature of `jax.nn.initializers`: what flax takes as `kernel_init`."""

    def __call__(self, key: PRNGKey, shape: Shape, dtype: DTypeLike = ...) -> Array:
        """Draw one array of the given shape and dtype."""
        ...
