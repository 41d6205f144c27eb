"""What a run writes down of its result: strict JSON, arrays summarised, and what it ran with."""

import dataclasses
import json
import math
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from experiments._files import write_text
from experiments._reports import LAST_COMPLETE, RESULT, read_json

MAX_ELEMENTS = 500
"""Arrays up to this size are written whole, larger ones as shape, range and mean."""


def to_json(value: Any) -> Any:
    """Turn a result into what strict JSON can hold: non-finite numbers become strings.

    Args:
      value: Nested tuples, dictionaries, dataclasses, arrays and plain values.

    Returns:
      The same made of dictionaries, lists, numbers, strings, booleans and None.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return value if math.isfinite(value) else str(float(value))
    if isinstance(value, Path):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: to_json(getattr(value, field.name)) for field in fields}
    if isinstance(value, tuple) and (names := getattr(value, "_fields", None)):
        return {name: to_json(item) for name, item in zip(names, value, strict=True)}
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if hasattr(value, "__array__"):
        return _array_to_json(np.asarray(value))
    return repr(value)


def _array_to_json(array: np.ndarray) -> Any:
    if array.size <= MAX_ELEMENTS:
        return to_json(array.tolist())
    finite = array[np.isfinite(array)]
    if finite.size:
        # the sum of a thousand large float32 is beyond float32
        span = {"min": finite.min(), "max": finite.max(), "mean": finite.mean(dtype=np.float64)}
    else:
        span = {}
    numbers = {name: to_json(float(number)) for name, number in span.items()}
    return {"shape": list(array.shape), "non_finite": int(array.size - finite.size), **numbers}


def versions() -> dict[str, str]:
    """Return the versions of everything the numbers depend on."""
    import jax

    packages = ("jaxopt_tut", "jax", "jaxlib", "optax", "flax", "numpy", "matplotlib")
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "backend": f"{device.platform} ({device.device_kind})",
    }


def write_json(report: dict[str, Any], folder: Path) -> None:
    """Write a report; the writer itself refuses NaN, so that nothing slips through."""
    text = json.dumps(to_json(report), indent=1, allow_nan=False, ensure_ascii=False)
    write_text(folder / RESULT, text + "\n")


def write_failure(report: dict[str, Any], folder: Path) -> None:
    """Write the report of a run that raised, and keep the figures and numbers of the one before.

    Args:
      report: What the run reports.
      folder: The experiment's folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before, _ = read_json(folder / RESULT)
    if before and not before.get("error"):
        (folder / RESULT).replace(folder / LAST_COMPLETE)
    write_json(report, folder)
