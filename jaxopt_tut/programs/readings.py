"""What the functions of a user read besides their arguments: globals, closures, attributes."""

import collections.abc
import copyreg
import dataclasses
import functools
import inspect
import sys
import types
import weakref
from typing import Any

import jax
import numpy as np

from jaxopt_tut.programs.identity import (
    Identity,
    content,
    is_installed,
    is_installed_class,
    is_library,
    is_library_function,
    is_library_global,
    plain,
)
from jaxopt_tut.tracing import is_traced

_MAX_OBJECTS = 20000
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
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # no address is used twice while this looks around
        for index, function in enumerate(functions):
            self.values["function", index] = self._see(function)

    def _see(self, thing: Any) -> Any:
        """Describe a thing, and note all that can be read through it."""
        if (described := plain(thing)) is not None:
            return described
        if isinstance(thing, jax.Array):
            self.has_tracer |= is_traced(thing)
            return Identity(thing)
        if isinstance(thing, np.ndarray) and thing.dtype != object:
            return content(thing)
        if is_library_global(thing):
            return Identity(thing)
        if id(thing) in self._seen:
            return "again", self._seen[id(thing)]
        if len(self._seen) >= _MAX_OBJECTS:
            self.is_complete = False
            return "unseen"
        self._seen[id(thing)] = len(self._seen)
        self._alive.append(thing)
        return self._contents(thing), _identity(thing)

    def _contents(self, thing: Any) -> Any:
        if isinstance(thing, functools.partial):
            return self._see((thing.func, thing.args, thing.keywords))
        if isinstance(thing, types.FunctionType):
            return self._function(thing)
        if isinstance(thing, types.MethodType):
            return self._see(thing.__func__), self._see(thing.__self__)
        if isinstance(thing, types.ModuleType | types.BuiltinFunctionType | np.ufunc):
            return None  # of a module the names that are read are noted where they are read
        if isinstance(thing, type):
            for base in thing.__mro__:
                if not is_installed_class(base):
                    self._attributes(base, dict(vars(base)))
            return None
        if (items := _items(thing)) is None:
            return self._instance(thing)
        if type(thing) not in _CONTAINERS:
            self._instance(thing)
        return tuple(map(self._see, items))

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
        module = function.__globals__.get("__name__")
        if is_library_function(function) or is_installed(module):
            return  # what these read stays
        names = _names(function.__code__)
        self.is_complete &= _BLIND.isdisjoint(names)
        for name in names:
            if name in function.__globals__:
                value = function.__globals__[name]
            elif name in sys.modules and not is_installed(name):
                value = sys.modules[name]  # which the function may import by itself
            else:
                continue
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

    def _instance(self, thing: Any) -> Any:
        kind = type(thing)
        if is_library(kind.__module__) and not (callable(thing) or dataclasses.is_dataclass(thing)):
            return None
        if not is_installed_class(kind):
            self._note(thing, "class", "", kind)
        attributes = dict(getattr(thing, "__dict__", {}))
        for base in kind.__mro__:
            slots = base.__dict__.get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                slot = base.__dict__.get(name)
                if isinstance(slot, types.MemberDescriptorType):
                    attributes[name] = _value(slot, thing)
        self._attributes(thing, attributes)
        has_contents = attributes or hasattr(thing, "__dict__") or _items(thing) is not None
        return None if has_contents or is_library(kind.__module__) else self._state(thing)

    def _state(self, thing: Any) -> Any:
        """Describe what is not written in Python as it describes itself to `copy`."""
        try:
            reduce = copyreg.dispatch_table.get(type(thing), lambda x: x.__reduce_ex__(2))
            return self._see(reduce(thing))
        except Exception:  # a reference, a lock, a generator
            self.is_complete = False
            return None

    def _attributes(self, thing: Any, attributes: dict[str, Any]) -> None:
        for name, value in attributes.items():
            if not (isinstance(thing, type) and name in _OF_EVERY_CLASS):
                self._note(thing, "attribute", name, value)


_CONTAINERS = (tuple, list, set, frozenset, dict, collections.deque, np.ndarray)
"""What has nothing but its items."""

_OF_EVERY_CLASS = {"__dict__", "__weakref__", "__doc__", "__module__", "__annotations__"}

_BLIND = {"globals", "vars", "eval", "exec", "import_module"}
"""What can read anything."""


def _items(thing: Any) -> list[Any] | None:
    """List what a container holds, keys and values in turn; `None` for anything else."""
    if isinstance(thing, dict | types.MappingProxyType):
        return [part for item in thing.items() for part in item]
    if isinstance(thing, np.ndarray):
        return thing.ravel().tolist()
    if isinstance(thing, bytearray | memoryview):
        return [bytes(thing)]
    views = collections.abc.KeysView | collections.abc.ValuesView | collections.abc.ItemsView
    if isinstance(thing, tuple | list | set | frozenset | collections.deque | views):
        return list(thing)
    return None


def _value(slot: types.MemberDescriptorType, thing: Any) -> Any:
    try:
        return slot.__get__(thing)
    except AttributeError:  # not set yet
        return None


def _identity(thing: Any) -> Any:
    """Tell things apart, without keeping any alive; in what cannot be referred to, all is noted."""
    try:
        weakref.ref(thing)
    except TypeError:
        return type(thing).__name__
    return Identity(thing)


def _names(code: types.CodeType) -> list[str]:
    """List the names that code may read, with that of the functions within it.

    Names may also be written as texts, as in `getattr(settings, "rate")`.
    """
    texts = [const for const in code.co_consts if isinstance(const, str) and const.isidentifier()]
    nested = [const for const in code.co_consts if inspect.iscode(const)]
    return [*code.co_names, *texts, *(name for inner in nested for name in _names(inner))]
