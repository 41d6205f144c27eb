"""Which configurations there are: all of a grid, or draws from ranges."""

import dataclasses
import math
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Shaped
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import shown
from jaxopt_tut.hyperparameters import require_finite, require_positive
from jaxopt_tut.keys import require_key
from jaxopt_tut.training.data import AnyKey, on_device
from jaxopt_tut.training.scalars import Count, as_count

__all__ = ["Choice", "LogUniform", "Range", "Uniform", "grid", "sample"]


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Numbers between two, all alike.

    Attributes:
      low: The smallest.
      high: The largest.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse what is no interval."""
        require_finite("Uniform", low=self.low, high=self.high)
        _require_order("Uniform", self.low, self.high)

    def __call__(self, key: AnyKey, num: int) -> Shaped[Array, "num"]:
        """Draw so many."""
        return jax.random.uniform(key, (num,), minval=self.low, maxval=self.high)


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """Positive numbers whose logarithm is uniform: as many from .01 to .1 as from .1 to 1.

    Attributes:
      low: The smallest.
      high: The largest.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        """Refuse what has no logarithm."""
        require_positive("LogUniform", low=self.low, high=self.high)
        _require_order("LogUniform", self.low, self.high)

    def __call__(self, key: AnyKey, num: int) -> Shaped[Array, "num"]:
        """Draw so many; rounding leads out of no range."""
        draws = Uniform(math.log(self.low), math.log(self.high))(key, num)
        return jnp.clip(jnp.exp(draws), self.low, self.high)


@shown
@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several values, all alike.

    Attributes:
      values: Numbers, or arrays of one shape.
    """

    values: Sequence[Any]

    def __post_init__(self) -> None:
        """Refuse to choose from nothing."""
        try:
            num = len(self.values)
        except TypeError:
            raise TypeError(f"Choice needs values in a sequence, got {self.values!r}.") from None
        if not num:
            raise ValueError("Choice needs at least one value, got none.")

    def __call__(self, key: AnyKey, num: int) -> Shaped[Array, "num ..."]:
        """Draw so many."""
        values = _as_axis("Choice", "values", self.values)
        return values[jax.random.randint(key, (num,), 0, len(values))]


Range = TypeAliasType("Range", Callable[[AnyKey, int], Array])
"""Draws so many values of a hyper-parameter: `LogUniform(1e-4, 1.0)`, or any `(key, num)`."""


def grid(**axes: Any) -> dict[str, Shaped[Array, "configurations ..."]]:
    """Return every combination of the values of each axis, the last axis fastest.

    Args:
      **axes: Values by name: numbers, or an array whose first axis is counted.

    Returns:
      Arrays of one length by name, as `sweep` takes them.

    Raises:
      TypeError: If values are no numbers.
      ValueError: If an axis is empty.

    Example:
      >>> {name: values.tolist() for name, values in grid(depth=[1, 2], width=[4, 8, 16]).items()}
      {'depth': [1, 1, 1, 2, 2, 2], 'width': [4, 8, 16, 4, 8, 16]}
    """
    if not axes:
        raise ValueError("grid needs at least one axis, got none.")
    arrays = {name: _as_axis("grid", name, values) for name, values in axes.items()}
    places = np.indices([len(values) for values in arrays.values()]).reshape(len(arrays), -1)
    return {name: values[at] for (name, values), at in zip(arrays.items(), places, strict=True)}


def sample(
    key: AnyKey, n: Count, **ranges: Range
) -> dict[str, Shaped[Array, "configurations ..."]]:
    """Draw configurations at random, each hyper-parameter by itself.

    With the same number of runs it looks at more values of each than a grid does (Bergstra and
    Bengio 2012). What is drawn for a name depends on the key and the name alone: another range
    beside it changes nothing, and neither does the order.

    Args:
      key: One key.
      n: Configurations.
      **ranges: `LogUniform`, `Uniform`, `Choice` or a function `(key, n) -> array` by name.

    Returns:
      Arrays of length `n` by name, as `sweep` takes them.

    Raises:
      TypeError: If a range cannot be called, `n` is no integer, or the key is none.
      ValueError: If there is no range, `n` is not positive, or a function draws another number.

    Example:
      >>> drawn = sample(jax.random.key(0), 1000, rate=LogUniform(1e-4, 1.0), depth=Choice([2, 3]))
      >>> round(float(jnp.mean(drawn["rate"] < 1e-2)), 1), jnp.unique(drawn["depth"]).tolist()
      (0.5, [2, 3])

    References:
      Bergstra, Bengio (2012), Random search for hyper-parameter optimization, JMLR 13.
    """
    require_key("sample", key)
    num = as_count("sample", "n", n)
    if num < 1:
        raise ValueError(f"sample needs n >= 1, got n={num}.")
    if not ranges:
        raise ValueError("sample needs at least one range, got none.")
    drawn = {}
    for name, draw in ranges.items():
        if not callable(draw):
            raise TypeError(
                f"sample needs a range for {name!r}, LogUniform(low, high) or a function "
                f"(key, n) -> array, got {draw!r}."
            )
        values = jnp.asarray(draw(jax.random.fold_in(key, zlib.crc32(name.encode())), num))
        if values.shape[:1] != (num,):
            raise ValueError(
                f"sample needs {num} values of {name!r}, got an array of shape {values.shape}."
            )
        drawn[name] = values
    return drawn


def _as_axis(caller: str, name: str, values: Any) -> Array:
    """Make an array with a first axis of what stands for an axis."""
    try:
        is_numbers = np.asarray(values).dtype.kind in "biufcV"
    except ValueError:  # of ragged lists
        is_numbers = False
    if not is_numbers:
        raise TypeError(f"{caller} needs numbers, or arrays of one shape, as {name}, got {values}.")
    array = on_device(caller, name, values if hasattr(values, "dtype") else np.asarray(values))
    if not array.ndim or not len(array):
        raise ValueError(
            f"{caller} needs at least one value of {name} along an axis, got {values}."
        )
    return array


def _require_order(caller: str, low: float, high: float) -> None:
    if low > high:
        raise ValueError(f"{caller} needs low <= high, got low={low}, high={high}.")
