"""Modes and linear solves whose numbers may be traced: checked if known, operands if not."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from typing_extensions import TypeAliasType

from jaxopt_tut.tracing import is_traced

Class = TypeVar("Class", bound=type)

NumberLeaf = TypeAliasType("NumberLeaf", Any)
"""A number or `None`, or what stands in its place while a tree is put together."""


def register(numbers: Sequence[str]) -> Callable[[Class], Class]:
    """Register a frozen dataclass as a pytree whose leaves are its numbers.

    So it may be an argument of compiled and batched functions, and its numbers may be told from
    its choices, wherever they are.
    """

    def decorate(cls: Class) -> Class:
        names = [field.name for field in dataclasses.fields(cls)]
        fixed = [name for name in names if name not in numbers]
        return jax.tree_util.register_dataclass(cls, data_fields=list(numbers), meta_fields=fixed)

    return decorate


def as_code(mode: Any) -> str:
    """Write a mode as its constructor is called; a traced number has no value to be written."""

    def shown(leaf: Any) -> Any:
        if is_traced(leaf):
            return _Text("traced")
        return leaf.tolist() if isinstance(leaf, jax.Array) else leaf

    return repr(jax.tree.map(shown, mode))


class _Text(str):
    def __repr__(self) -> str:
        return str(self)


def is_above(value: Any, bound: int | float) -> bool:
    """Tell whether a number is above a bound, or not known: an array, or nothing at all."""
    return not isinstance(value, int | float | np.number) or bool(value > bound)


def is_at_least(value: Any, bound: int | float) -> bool:
    """Tell whether a number is at or above a bound, or not known: an array, or nothing at all."""
    return not isinstance(value, int | float | np.number) or bool(value >= bound)
