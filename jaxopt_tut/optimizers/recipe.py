"""Optimizers that compare by how they were built, so that equal ones share a compiled program."""

import functools
import types
from typing import Any

import numpy as np
import optax


class Recipe:
    """An optimizer as a static argument of `jax.jit`.

    Two are equal if their functions have the same code and close over equal values: then `bfgs()`
    and another `bfgs()` are the same recipe. Arrays and other mutable values are equal only to
    themselves.

    Example:
      >>> import optax
      >>> Recipe(optax.adam(0.1)) == Recipe(optax.adam(0.1))
      True
      >>> Recipe(optax.adam(0.1)) == Recipe(optax.adam(0.2))
      False
    """

    def __init__(self, optimizer: optax.GradientTransformation):
        """Take the optimizer apart once."""
        self.optimizer = optimizer
        self._ingredients = _ingredients(optimizer)
        self._hash = hash(self._ingredients)

    def __eq__(self, other: object) -> bool:
        """Compare what the optimizers are made of."""
        return isinstance(other, Recipe) and self._ingredients == other._ingredients

    def __hash__(self) -> int:
        """Agree with `__eq__`."""
        return self._hash


class _Same:
    """Equal only to itself; keeps the object alive, so that its address is not used again."""

    def __init__(self, thing: Any):
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)


def _ingredients(thing: Any, outer: tuple = ()) -> Any:
    """Return a hashable value that is equal for things built alike."""
    if any(thing is other for other in outer):
        return "recursion", len(outer)  # a function that closes over itself
    inner = functools.partial(_ingredients, outer=(*outer, thing))
    if isinstance(thing, types.FunctionType):
        cells = [inner(cell.cell_contents) for cell in thing.__closure__ or () if _is_filled(cell)]
        defaults = inner(thing.__defaults__), inner(thing.__kwdefaults__)
        return thing.__code__, thing.__module__, defaults, tuple(cells)
    if isinstance(thing, functools.partial):
        return functools.partial, inner(thing.func), inner(thing.args), inner(thing.keywords)
    if isinstance(thing, tuple | list):
        return type(thing), tuple(inner(item) for item in thing)
    if isinstance(thing, dict):
        return dict, tuple((key, inner(value)) for key, value in thing.items())
    if isinstance(thing, bool | int | float | complex | str | bytes | np.generic | None):
        return type(thing), repr(thing)  # 1, 1.0 and True, or 0.0 and -0.0, are equal, not alike
    try:
        hash(thing)
    except TypeError:
        return _Same(thing)
    return type(thing), thing


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents
    except ValueError:
        return False
    return True
