"""Objects that are equal to themselves alone, known without being kept alive."""

import builtins
import functools
import hashlib
import pathlib
import sys
import weakref
from typing import Any

import numpy as np

_LIBRARIES = {"jax", "jaxlib", "jaxopt_tut", "ml_dtypes", "numpy", "optax"}
_PLAIN = {bool, int, float, complex, str, bytes, type(None), type(Ellipsis)}


class Identity:
    """Equal only to the same object, while that is alive."""

    __slots__ = ("_hash", "_ref")

    def __init__(self, thing: Any):
        """Take a reference that does not keep `thing` alive, if there can be one."""
        try:
            self._ref = weakref.ref(thing)
        except TypeError:
            self._ref = lambda: thing
        self._hash = id(thing)

    def __eq__(self, other: object) -> bool:
        """Compare what is referred to; nothing equals what is gone."""
        if self is other:
            return True
        mine = self._ref()
        return isinstance(other, Identity) and mine is not None and mine is other._ref()

    def __hash__(self) -> int:
        """Agree with `__eq__`."""
        return self._hash


def plain(thing: Any) -> Any | None:
    """Describe an immutable value by its type and text, or return `None` for anything else.

    Equal numbers of different types are different: 1, 1.0 and True, or 0.0 and -0.0.
    """
    if type(thing) in _PLAIN or isinstance(thing, np.generic | np.dtype):
        return type(thing), repr(thing)
    return None


def content(array: np.ndarray) -> Any:
    """Describe an array by what is in it now."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return array.dtype.str, array.shape, hashlib.blake2b(flat.data, digest_size=16).digest()


def is_library(module: str | None) -> bool:
    """Tell whether a module is one whose globals never change."""
    return (module or "").split(".")[0] in _LIBRARIES


def is_installed(module: str | None) -> bool:
    """Tell whether a module came with Python or with a package, so that users don't change it.

    Scripts, notebooks and packages that are worked on did not.
    """
    if not module or module == "__main__":
        return False
    if is_library(module) or module.split(".")[0] in sys.stdlib_module_names:
        return True
    return _is_in_packages(getattr(sys.modules.get(module), "__file__", None) or "")


@functools.cache
def _is_in_packages(path: str) -> bool:
    return not {"site-packages", "dist-packages"}.isdisjoint(pathlib.Path(path).parts)


def is_installed_class(kind: type) -> bool:
    """Tell whether a class came with Python or with a package.

    Classes of code without a module did not, though they say that they are built in.
    """
    if kind.__module__ == "builtins":
        return getattr(builtins, kind.__name__, None) is kind or not kind.__flags__ & _ON_HEAP
    return is_installed(kind.__module__)


_ON_HEAP = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: made by a class statement."""


def is_library_function(function: Any) -> bool:
    """Tell whether a function was defined in such a module; decorators only claim to be."""
    name = function.__globals__.get("__name__")
    module = sys.modules.get(name)
    return is_library(name) and getattr(module, "__dict__", None) is function.__globals__


def is_library_global(thing: Any) -> bool:
    """Tell whether a thing stands in such a module, under its own name."""
    try:
        module, name = getattr(thing, "__module__", None), getattr(thing, "__name__", None)
    except Exception:  # a user's object, which may answer as it likes
        return False
    if not (isinstance(module, str) and isinstance(name, str) and is_library(module)):
        return False
    return getattr(sys.modules.get(module), name, None) is thing
