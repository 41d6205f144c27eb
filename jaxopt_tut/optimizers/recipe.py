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


@functools.lru_cache(maxsize=64)
def recipe(optimizer: optax.GradientTransformation) -> Recipe:
    """Return the recipe of an optimizer, at once if the same object comes again.

    Args:
      optimizer: Any optax transformation.

    Returns:
      Its recipe.

    Example:
      >>> import optax
      >>> sgd = optax.sgd(0.1)
      >>> recipe(sgd) is recipe(sgd)
      True
    """
    return Recipe(optimizer)


class _Same:
    """Equal only to itself; keeps the object alive, so that its address is not used again."""

    def __init__(self, thing: Any):
        self.thing = thing

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.thing is other.thing

    def __hash__(self) -> int:
        return id(self.thing)


def _ingredients(thing: Any, outer: tuple[int, ...] = ()) -> Any:
    """Return a hashable value that is equal for things built alike."""
    kind = type(thing)
    if kind is types.FunctionType:
        if id(thing) in outer:
            return "recursion", outer.index(id(thing))  # a function that closes over itself
        outer = (*outer, id(thing))
        cells = tuple(_ingredients(_contents(cell), outer) for cell in thing.__closure__ or ())
        defaults = _ingredients((thing.__defaults__, thing.__kwdefaults__), outer)
        return thing.__code__, thing.__module__, defaults, cells
    if kind in _PLAIN or isinstance(thing, np.generic):
        return kind, repr(thing)  # 1, 1.0 and True, or 0.0 and -0.0, are equal, not alike
    if isinstance(thing, tuple | list):
        return kind, tuple(_ingredients(item, outer) for item in thing)
    if isinstance(thing, dict):
        return kind, tuple((key, _ingredients(value, outer)) for key, value in thing.items())
    if isinstance(thing, functools.partial):
        return kind, _ingredients((thing.func, thing.args, thing.keywords), outer)
    try:
        hash(thing)
    except TypeError:
        return _Same(thing)
    return kind, thing


_PLAIN = {bool, int, float, complex, str, bytes, type(None)}


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return None
