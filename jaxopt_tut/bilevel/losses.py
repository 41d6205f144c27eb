"""Losses that return a number, or a number and auxiliary values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def value_part(output: Any) -> Any:
    """Return the loss in what a loss function returns.

    Args:
      output: A loss, or a pair of a loss and auxiliary values.

    Returns:
      The loss.

    Example:
      >>> value_part(3.0), value_part((3.0, {"accuracy": 0.5}))
      (3.0, 3.0)
    """
    return output[0] if isinstance(output, tuple) and len(output) == 2 else output


@dataclass(frozen=True)
class WithoutAux:
    """A loss function without its auxiliary values; equal where the function is the same.

    Attributes:
      fun: Returns a loss, or a pair of a loss and auxiliary values.

    Example:
      >>> WithoutAux(lambda y: (2 * y, "metrics"))(3.0)
      6.0
    """

    fun: Callable[..., Any]

    def __call__(self, *args: Any) -> Any:
        """Return the loss."""
        return value_part(self.fun(*args))
