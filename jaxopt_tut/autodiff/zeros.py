"""Zeros written out: within the engine a derivative that is zero is None."""

from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
from jax import lax

from jaxopt_tut.autodiff.program import is_inexact


def zeros(like: Any) -> Any:
    """Return the zero derivative of a value, or of one of that type; `float0` for an integer."""
    if not is_inexact(like):
        return np.zeros(np.shape(like), jax.dtypes.float0)
    if isinstance(like, _VALUES):
        return lax.full_like(like, 0)  # varies over the mesh axes over which the value does
    return lax.full(like.shape, 0, like.dtype)


_VALUES = (jax.Array, np.ndarray, np.generic, float, complex)


def filled(
    derivatives: Iterable[Any], likes: Iterable[Any], wanted: Iterable[bool] | None = None
) -> list[Any]:
    """Write out the zeros of some derivatives; None for those that are not wanted."""
    pairs = zip(derivatives, likes, strict=True)
    if wanted is None:
        return [zeros(like) if d is None else d for d, like in pairs]
    triples = zip(pairs, wanted, strict=True)
    return [(zeros(like) if d is None else d) if want else None for (d, like), want in triples]
