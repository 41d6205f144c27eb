"""What can be drawn: real numbers in the shape of a figure, and axes that have a place for them."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from typing_extensions import TypeAliasType

Numbers = TypeAliasType("Numbers", ArrayLike | float | int)
"""A real number, an array of them, or nested lists."""

Named = TypeAliasType("Named", Mapping[str, Numbers])
"""Numbers by the name that the legend gives them."""


def require_named(caller: str, values: Any, what: str = "") -> None:
    """Refuse what does not name its curves, and what has none."""
    if not isinstance(values, Mapping):
        place = f" as {what}" if what else ""
        raise TypeError(
            f"{caller} needs a mapping from names to numbers{place}, got {type(values).__name__}."
        )
    if not values and not what:
        raise ValueError(f"{caller} needs something to draw, got an empty mapping.")


def optional_named(caller: str, what: str, values: Any) -> Mapping[str, Any]:
    """Return what may be left out by its names, empty without any."""
    if values is None:
        return {}
    require_named(caller, values, what)
    return values


def real_numbers(
    caller: str, name: str, value: Any, shape: str = "", ndims: Sequence[int] | None = None
) -> np.ndarray:
    """Convert to double precision what is an array of real numbers, and refuse the rest.

    What the axes are called is for the message; they may be as many as `ndims` says, or any number.
    """
    is_record = hasattr(value, "_fields") or hasattr(value, "__dataclass_fields__")
    array = None
    if not is_record and value is not None and not isinstance(value, Mapping | str):
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
    """Choose an axis for some numbers: a logarithmic one only where it can show any of them."""
    return scale if scale != "log" or any(map(_has_positive, values)) else "linear"


def set_scale(ax: Axes, axis: Literal["x", "y"], scale: str) -> None:
    """Scale an axis, a logarithmic one only where something drawn has a place on it."""
    smallest = getattr(ax.dataLim, f"minpos{axis}")  # of the positive numbers; infinite without any
    scale = "linear" if scale == "log" and not np.isfinite(smallest) else scale
    getattr(ax, f"set_{axis}scale")(scale)


def label_for(name: str, values: np.ndarray, scale: str) -> str:
    """Name a curve in the legend, saying so if nothing of it is shown."""
    if not np.isfinite(values).any():
        return f"{name} (nothing finite)"
    return name if scale != "log" or _has_positive(values) else f"{name} (nothing positive)"


def _has_positive(values: np.ndarray) -> bool:
    return bool(np.any((values > 0) & np.isfinite(values)))
