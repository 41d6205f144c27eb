"""What the functions of a user read besides their arguments: globals, closures, attributes."""

import collections
import dataclasses
import functools
import inspect
import types
from typing import Any

import jax
import numpy as np

from jaxopt_tut.programs.identity import (
    Identity,
    content,
    is_concrete,
    is_library,
    is_library_function,
    is_library_global,
    plain,
)

_MAX_OBJECTS = 5000
"""Objects to look at before a function counts as one of which not everything is known."""


class Readings:
    """All that some functions can read, by where they find it, as it is now.

    Numbers are known by value, containers, NumPy arrays and instances by what is in them, JAX's
    arrays, which never change, by identity.

    Attributes:
      values: What is read: where it stands -> what stands there, to be compared.
      has_tracer: Whether a tracer is among them.
      is_complete: Whether nothing was met that may change unseen.
    """

    def __init__(self, functions: list[Any]):
        """Look at everything once."""
        self.values: dict[Any, Any] = {}
        self.has_tracer = False
        self.is_complete = True
        self._seen: set[int] = set()
        self._alive: list[Any] = []  # no address is used twice while this looks around
        for index, function in enumerate(functions):
            self.values["function", index] = self._see(function)

    def _see(self, thing: Any) -> Any:
        """Describe a thing, and note all that can be read through it."""
        if (described := plain(thing)) is not None:
            return described
        if isinstance(thing, jax.Array):
            self.has_tracer |= not is_concrete(thing)
            return Identity(thing)
        if isinstance(thing, np.ndarray) and thing.dtype != object:
            return content(thing)
        if id(thing) in self._seen or is_library_global(thing):
            return Identity(thing)
        if len(self._seen) >= _MAX_OBJECTS:
            self.is_complete = False
            return Identity(thing)
        self._seen.add(id(thing))
        self._alive.append(thing)
        if isinstance(thing, tuple | list | set | frozenset | collections.deque):
            return type(thing).__name__, tuple(map(self._see, thing))
        if isinstance(thing, dict):
            return "dict", tuple((self._see(k), self._see(v)) for k, v in thing.items())
        if isinstance(thing, functools.partial):
            return "partial", self._see((thing.func, thing.args, thing.keywords))
        if isinstance(thing, types.FunctionType):
            self._function(thing)
        elif isinstance(thing, types.MethodType):
            return self._see(thing.__func__), self._see(thing.__self__)
        elif isinstance(thing, types.ModuleType | types.BuiltinFunctionType | np.ufunc):
            pass  # of a module the names that are read are noted where they are read
        elif isinstance(thing, type):
            if not is_library(thing.__module__):
                self._attributes(thing, dict(vars(thing)))
        else:
            self._instance(thing)
        return Identity(thing)

    def _note(self, owner: Any, kind: str, name: Any, value: Any) -> None:
        self.values[id(owner), kind, name] = self._see(value)

    def _function(self, function: types.FunctionType) -> None:
        for name, cell in zip(
            function.__code__.co_freevars, function.__closure__ or (), strict=True
        ):
            try:
                self._note(function, "closure", name, cell.cell_contents)
            except ValueError:  # a name that is not bound yet
                self._note(function, "closure", name, None)
        self._note(function, "default", "", (function.__defaults__, function.__kwdefaults__))
        self.values[id(function), "code", ""] = Identity(function.__code__)
        for name, value in function.__dict__.items():
            self._note(function, "attribute", name, value)
        if is_library_function(function):
            return  # what these read stays
        names = _names(function.__code__)
        for name in names:
            if name not in function.__globals__:
                continue
            value = function.__globals__[name]
            self._note(function, "global", name, value)
            if isinstance(value, types.ModuleType) and not is_library(value.__name__):
                self._module(value, names)

    def _module(self, module: types.ModuleType, names: list[str]) -> None:
        for name in names:
            if name in module.__dict__:
                value = module.__dict__[name]
                is_new = isinstance(value, types.ModuleType) and id(value) not in self._seen
                self._note(module, "global", name, value)
                if is_new and not is_library(value.__name__):
                    self._module(value, names)

    def _instance(self, thing: Any) -> None:
        kind = type(thing)
        if is_library(kind.__module__) and not (callable(thing) or dataclasses.is_dataclass(thing)):
            return
        attributes = dict(getattr(thing, "__dict__", {}))
        for base in kind.__mro__:
            slots = base.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name not in ("__dict__", "__weakref__") and hasattr(thing, name):
                    attributes[name] = getattr(thing, name)
        is_known = attributes or hasattr(thing, "__dict__") or is_library(kind.__module__)
        self.is_complete &= bool(is_known)
        self._attributes(thing, attributes)
        if not is_library(kind.__module__):
            self._see(kind)

    def _attributes(self, thing: Any, attributes: dict[str, Any]) -> None:
        for name, value in attributes.items():
            if not (isinstance(thing, type) and name in _OF_EVERY_CLASS):
                self._note(thing, "attribute", name, value)


_OF_EVERY_CLASS = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__"}


def _names(code: types.CodeType) -> list[str]:
    """List the names that code reads, with that of the functions within it."""
    nested = [const for const in code.co_consts if inspect.iscode(const)]
    return [*code.co_names, *(name for inner in nested for name in _names(inner))]
