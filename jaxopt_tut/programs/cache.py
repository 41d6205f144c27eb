"""Where programs are kept: by what they were made of, for as long as that is there."""

import functools
import threading
import types
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxopt_tut.programs.ingredients import Ingredients, handed_on
from jaxopt_tut.programs.readings import Readings
from jaxopt_tut.tracing import is_tracing

_MAX_PROGRAMS = 64
"""Programs kept at most; those not used for the longest time go first."""

_programs: OrderedDict[Any, "_Program"] = OrderedDict()
_lock = threading.RLock()


def run(body: Callable[..., Any], made_of: Any, *operands: Any) -> Any:
    """Run a function as a compiled program, compiled once for what it is made of.

    The result is that of `body(made_of, *operands)`. Within a trace of `jax.jit` it is just that:
    whoever compiles the caller keeps the program.

    Args:
      body: A function of this library, defined in a module.
      made_of: What it needs besides arrays: a tree of functions, transformations, modes, options.
      *operands: Trees of arrays.

    Returns:
      What `body` returns.

    Example:
      A new function never gets the program of an old one, though nothing tells the two apart.

      >>> def scaled(function, x):
      ...     return function(x)
      >>> for rate in (2.0, 3.0):
      ...     print(run(scaled, lambda x: rate * x, 1.0))
      2.0
      3.0
    """
    if is_tracing() or not all(map(_is_operand, jax.tree.leaves(operands))):
        return body(made_of, *operands)  # which can say what is wrong with an operand
    ingredients = Ingredients(made_of)
    readings = Readings(ingredients.functions)
    if ingredients.key is None or readings.has_tracer or not readings.is_complete:
        return jax.jit(functools.partial(body, made_of))(*operands)
    key = body, ingredients.key
    with _lock:
        program = _programs.get(key)
        if program is None or not program.is_up_to_date(readings):
            program = _programs[key] = _Program(body, key, ingredients.functions)
        _programs.move_to_end(key)
        while len(_programs) > _MAX_PROGRAMS:
            _programs.popitem(last=False)
    return program(made_of, ingredients, readings, operands)


def _is_operand(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | np.ndarray | np.generic | bool | int | float | complex)


class _Program:
    """A compiled function, and what it read when it was traced."""

    def __init__(self, body: Callable[..., Any], key: Any, functions: list[Any]):
        current = self._current = threading.local()

        def program(arrays: list[Any], operands: tuple) -> Any:
            # what the trace keeps must not keep the functions of the user alive
            current.is_traced = True
            return body(handed_on(current.made_of, arrays), *operands)

        program.__name__ = program.__qualname__ = body.__name__.strip("_")
        self._compiled = jax.jit(program)
        self._values: dict[Any, Any] | None = None
        self._written: set[Any] = set()
        # at the end of a process the names of modules are gone before its functions are
        forget = lambda _, programs=_programs: programs.pop(key, None)
        self._owners = [weakref.ref(_owner(function), forget) for function in functions]

    def is_up_to_date(self, readings: Readings) -> bool:
        """Tell whether all is as it was, but for what tracing itself changes, such as counters."""
        if self._values is None:
            return True
        old, new = self._values, readings.values
        return all(old.get(at) == new.get(at) for at in {*old, *new} - self._written)

    def __call__(
        self, made_of: Any, ingredients: Ingredients, readings: Readings, operands: tuple
    ) -> Any:
        current = self._current
        outer = getattr(current, "made_of", None), getattr(current, "is_traced", False)
        current.made_of, current.is_traced = made_of, False
        try:
            return self._compiled(ingredients.arrays, operands)
        finally:
            if current.is_traced:
                after = Readings(ingredients.functions).values
                before = readings.values
                self._written |= {at for at in after if before.get(at) != after[at]}
                self._values = after
            current.made_of, current.is_traced = outer


def _owner(function: Any) -> Any:
    return function.__self__ if type(function) is types.MethodType else function
