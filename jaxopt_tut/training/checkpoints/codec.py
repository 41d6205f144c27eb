"""What is no array, as JSON: histories, scores and verdicts; no pickle is ever read."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxopt_tut.diagnostics import Verdict

_CLASSES = {"Verdict": Verdict}


def encode(value: Any, arrays: list[np.ndarray]) -> Any:
    """Make JSON of a value and append its arrays, which JSON refers to by their number.

    Dictionaries become lists of pairs, because JSON knows keys of text alone; NaN and infinities
    are numbers, as Python writes them, and floats keep all their bits.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, dict):
        return {"dict": [[encode(k, arrays), encode(v, arrays)] for k, v in value.items()]}
    if isinstance(value, list):
        return {"list": [encode(one, arrays) for one in value]}
    name = type(value).__name__
    if _CLASSES.get(name) is type(value):
        return {"class": name, "fields": [encode(one, arrays) for one in value]}
    if type(value) is tuple:
        return {"tuple": [encode(one, arrays) for one in value]}
    array = np.asarray(value)
    if array.dtype == object:
        raise TypeError(f"a checkpoint holds numbers, texts and arrays, got {name}.")
    arrays.append(array)
    return {"array": len(arrays) - 1}


_PLAIN = (type(None), bool, str, int, float)


def decode(code: Any, arrays: Sequence[np.ndarray]) -> Any:
    """Make the value of its JSON."""
    if not isinstance(code, dict):
        return code
    ((kind, content), *fields) = code.items()
    if kind == "array":
        return arrays[content]
    if kind == "dict":
        return {decode(k, arrays): decode(v, arrays) for k, v in content}
    if kind == "class":
        return _CLASSES[content](*(decode(one, arrays) for one in fields[0][1]))
    parts = [decode(one, arrays) for one in content]
    return tuple(parts) if kind == "tuple" else parts


def to_text(document: Any) -> str:
    """Write JSON in one way only, so that its digest means something."""
    return json.dumps(document, indent=1, ensure_ascii=True)
