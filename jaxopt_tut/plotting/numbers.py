"""What can be drawn: real numbers in the shape of a figure, and axes that have a place for them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes


def require_named(caller: str, values: Any) -> None:
    """Refuse what does not name its curves.

    Args:
      caller: The function that asks; it opens the messages.
      values: What is to be drawn.

    Raises:
      TypeError: If it is no mapping.
      ValueError: If it is empty.

    Example:
      >>> require_named("plot_lines", [1.0, 2.0])
      Traceback (most recent call last):
      ...
      TypeError: plot_lines needs a mapping from names to numbers, got list.
    """
    if not isinstance(values, Mapping):
        raise TypeError(
            f"{caller} needs a mapping from names to numbers, got {type(values).__name__}."
        )
    if not values:
        raise ValueError(f"{caller} needs something to draw, got an empty mapping.")


def real_numbers(
    caller: str, name: str, value: Any, shape: str = "", ndims: Sequence[int] | None = None
) -> np.ndarray:
    """Convert to double precision what is an array of real numbers, and refuse the rest.

    Args:
      caller: The function that asks; it opens the messages.
      name: Of what is to be drawn.
      value: The numbers.
      shape: How the axes are called, for the message.
      ndims: The numbers of axes there may be; any by default.

    Returns:
      The array.

    Raises:
      TypeError: If there are no real numbers in it, or it is a record with named fields.
      ValueError: If it has another number of axes.

    Example:
      >>> real_numbers("plot_lines", "f", 1j)
      Traceback (most recent call last):
      ...
      TypeError: plot_lines needs arrays of real numbers, got complex for 'f'.
    """
    is_record = hasattr(value, "_fields") or hasattr(value, "__dataclass_fields__")
    array = None
    if not is_record and not isinstance(value, Mapping | str):
        try:
            array = np.asarray(value)
            array = None if np.iscomplexobj(array) else array.astype(np.float64)
        except (TypeError, ValueError):  # ragged, or no numbers
            array = None
    if array is None:
        found = getattr(value, "dtype", type(value).__name__)
        raise TypeError(f"{caller} needs arrays of real numbers, got {found} for {name!r}.")
    if ndims is not None and array.ndim not in ndims:
        raise ValueError(
            f"{caller} needs numbers of shape {shape}, got shape {array.shape} for {name!r}."
        )
    return array


def scale_for(scale: str, *values: np.ndarray) -> str:
    """Choose an axis for some numbers: a logarithmic one only where it can show any of them.

    Args:
      scale: What is asked for.
      *values: All that is to be shown along the axis.

    Returns:
      `"linear"` in place of `"log"` where no number is positive and finite.

    Example:
      >>> scale_for("log", np.array([0.0, 2.0])), scale_for("log", np.array([0.0, -2.0]))
      ('log', 'linear')
    """
    return scale if scale != "log" or any(map(_has_positive, values)) else "linear"


def set_scale(ax: Axes, axis: Literal["x", "y"], scale: str) -> None:
    """Scale an axis, a logarithmic one only where something drawn has a place on it.

    Args:
      ax: The axes, everything drawn.
      axis: Which.
      scale: What is asked for.
    """
    smallest = getattr(ax.dataLim, f"minpos{axis}")  # of the positive numbers; infinite without any
    scale = "linear" if scale == "log" and not np.isfinite(smallest) else scale
    getattr(ax, f"set_{axis}scale")(scale)


def label_for(name: str, values: np.ndarray, scale: str) -> str:
    """Name a curve in the legend, saying so if a logarithmic axis shows nothing of it."""
    return name if scale != "log" or _has_positive(values) else f"{name} (nothing positive)"


def _has_positive(values: np.ndarray) -> bool:
    return bool(np.any((values > 0) & np.isfinite(values)))
