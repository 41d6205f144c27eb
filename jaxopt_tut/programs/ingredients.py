"""What a program is made of, apart from its operands: how to compare it and how to hand it on."""

import dataclasses
import enum
import functools
import inspect
import operator
import types
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.programs.identity import (
    Identity,
    content,
    is_library,
    is_library_function,
    plain,
)
from jaxopt_tut.tracing import is_traced


class Ingredients:
    """A tree of functions, transformations, modes and numbers, taken apart.

    Attributes:
      key: Equal for trees that make the same program; `None` if nothing equals this one.
      arrays: The floating arrays met, in order: operands of the program.
      functions: The functions of the user, by identity.
    """

    def __init__(self, tree: Any):
        """Take the tree apart."""
        self.arrays: list[Any] = []
        self.functions: list[Any] = []
        self._seen: dict[int, int] = {}
        try:
            self.key = self._describe(tree)
        except _OpaqueError:
            self.key = None

    def _describe(self, thing: Any) -> Any:
        if (described := plain(thing)) is not None:
            return described
        kind = type(thing)
        if isinstance(thing, jax.Array):
            if _is_operand(thing):
                self.arrays.append(thing)
                return "array"
            return "constant", content(np.asarray(thing))
        if kind is np.ndarray and thing.dtype != object:
            return kind, content(thing)
        if _is_sequence(thing):
            return Identity(kind), tuple(map(self._describe, thing))
        if kind is dict:
            items = thing.items()
            return kind, tuple((self._describe(k), self._describe(v)) for k, v in items)
        if kind in _BY_VALUE or isinstance(thing, enum.Enum | jax.sharding.Sharding):
            return kind, thing
        if kind is inspect.Signature:
            return kind, str(thing)
        if isinstance(thing, type | types.BuiltinFunctionType):
            if is_library(thing.__module__):
                return Identity(thing)
            raise _OpaqueError
        if id(thing) in self._seen:  # a function that closes over itself, or is met twice
            return "again", self._seen[id(thing)]
        self._seen[id(thing)] = len(self._seen)
        if (parts := _parts(thing)) is not None:
            return kind, tuple(self._describe(part) for part in parts)
        is_tree = not callable(thing) and not jax.tree_util.all_leaves([thing])
        if is_tree or _weak(thing) is None:
            raise _OpaqueError
        self.functions.append(thing)
        if kind is types.MethodType:
            return kind, Identity(thing.__self__), Identity(thing.__func__)
        return Identity(thing)


def handed_on(tree: Any, arrays: list[Any]) -> Any:
    """Rebuild a tree with other arrays, and with functions that the program does not keep alive."""
    return _Rebuilder(arrays).rebuild(tree)


class _Rebuilder:
    def __init__(self, arrays: list[Any]):
        self._arrays = iter(arrays)
        self._made: dict[int, Any] = {}

    def rebuild(self, thing: Any) -> Any:
        if plain(thing) is not None:
            return thing
        kind = type(thing)
        if isinstance(thing, jax.Array):
            return next(self._arrays) if _is_operand(thing) else thing
        if _is_sequence(thing):
            return getattr(kind, "_make", kind)(self.rebuild(item) for item in thing)
        if kind is dict:
            return {self.rebuild(k): self.rebuild(v) for k, v in thing.items()}
        if kind in _AS_IT_IS or isinstance(thing, _IMMUTABLE):
            return thing
        if id(thing) in self._made:
            return self._made[id(thing)]
        parts = _parts(thing)
        if kind is types.FunctionType and parts is not None:
            return self._function(thing, parts)
        if parts is None:
            made = _weakened(thing)
        elif isinstance(thing, functools.partial):
            made = kind(*self.rebuild((thing.func, *thing.args)), **self.rebuild(thing.keywords))
        elif kind is types.MethodType:
            made = types.MethodType(*map(self.rebuild, parts))
        else:
            made = object.__new__(kind)
            for field, part in zip(dataclasses.fields(thing), parts, strict=True):
                object.__setattr__(made, field.name, self.rebuild(part))
        self._made[id(thing)] = made
        return made

    def _function(self, old: types.FunctionType, parts: tuple) -> types.FunctionType:
        """Return a function with the same code in new cells."""
        cells = tuple(types.CellType() for _ in old.__closure__ or ())
        new = types.FunctionType(old.__code__, old.__globals__, old.__name__, None, cells)
        self._made[id(old)] = new  # it may close over itself
        closed, defaults, keywords, attributes = self.rebuild(parts[1:])
        for cell, contents in zip(cells, closed, strict=True):
            if contents is not _Cell.UNBOUND:
                cell.cell_contents = contents
        new.__defaults__, new.__kwdefaults__ = defaults, keywords
        new.__qualname__, new.__module__, new.__doc__ = (
            old.__qualname__,
            old.__module__,
            old.__doc__,
        )
        new.__dict__.update(attributes)
        return new


def _parts(thing: Any) -> tuple | None:
    """Return what a thing that the library or optax built consists of; `None` if a user did."""
    if isinstance(thing, types.FunctionType):
        if not is_library_function(thing):
            return None
        cells = tuple(_contents(cell) for cell in thing.__closure__ or ())
        return (
            thing.__code__,
            cells,
            thing.__defaults__,
            thing.__kwdefaults__,
            dict(thing.__dict__),
        )
    if isinstance(thing, functools.partial):
        function = thing.func
        is_ours = isinstance(function, types.FunctionType) and is_library_function(function)
        return (function, thing.args, dict(thing.keywords)) if is_ours else None
    if isinstance(thing, types.MethodType):
        owner = _parts(thing.__self__)
        return None if owner is None else (thing.__func__, thing.__self__)
    if not (dataclasses.is_dataclass(thing) and is_library(type(thing).__module__)):
        return None
    is_frozen = thing.__dataclass_params__.frozen  # type: ignore[attr-defined]
    values = tuple(getattr(thing, field.name) for field in dataclasses.fields(thing))
    return values if is_frozen else None


def _is_sequence(thing: Any) -> bool:
    return type(thing) in (tuple, list) or (isinstance(thing, tuple) and hasattr(thing, "_fields"))


def _contents(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that is not bound yet
        return _Cell.UNBOUND


def _is_operand(array: jax.Array) -> bool:
    """Tell whether an array may become a tracer: counts and masks may have to be known."""
    is_number = jnp.issubdtype(array.dtype, jnp.inexact)
    return is_number or jnp.issubdtype(array.dtype, jax.dtypes.extended) or is_traced(array)


def _weak(function: Any) -> Any | None:
    """Return a reference to a function, or `None` if there can be none."""
    try:
        return (weakref.WeakMethod if type(function) is types.MethodType else weakref.ref)(function)
    except TypeError:
        return None


class _Weak:
    """A function of the user, called without being kept alive."""

    def __init__(self, function: Any):
        self._ref = _weak(function)

    @property
    def _function(self) -> Any:
        function = self._ref()  # type: ignore[misc]
        if function is None:
            raise ReferenceError("A program was traced again after its function had been deleted.")
        return function

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(self._function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._function(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)

    def __repr__(self) -> str:
        return repr(self._function)


def _weakened(thing: Any) -> _Weak:
    """Wrap a function; an object with its public names, so that it passes for one of its kind."""
    kind = type(thing)
    if isinstance(thing, types.FunctionType | types.MethodType):
        return _Weak(thing)
    names = [name for name in dir(kind) if not name.startswith("__")]
    delegates = {name: property(operator.attrgetter(f"_function.{name}")) for name in names}
    return type(kind.__name__, (_Weak,), delegates)(thing)


class _OpaqueError(Exception):
    """Something that cannot be compared, or not be referred to weakly."""


class _Cell(enum.Enum):
    UNBOUND = 0


_BY_VALUE = {types.CodeType, jax.tree_util.PyTreeDef, jax.sharding.Mesh}
_AS_IT_IS = {*_BY_VALUE, inspect.Signature}
_IMMUTABLE = (enum.Enum, jax.sharding.Sharding, type, types.BuiltinFunctionType, np.ndarray)
