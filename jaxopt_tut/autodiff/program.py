"""A jaxpr laid out flat: numbered values, and steps that say which numbers they read and write.

The engine's loops index lists with these numbers. Calls to `jit` (and `remat` on request) are
replaced by their contents; everything is iterative but for the nesting of calls.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_tut import jaxprs
from jaxopt_tut.autodiff import bessel


class Step:
    """One equation of a program.

    Attributes:
      eqn: The equation.
      primitive: Its primitive.
      op: The primitive's name.
      kind: What `jaxprs.kind_of_call` says.
      scope: The named scopes it stands in.
      operands: For each input the number of a value; a negative one counts from the end of the
        environment, where the literals are.
      outputs: For each output the number of the value it writes.
    """

    __slots__ = ("eqn", "kind", "operands", "outputs", "primitive", "scope")

    def __init__(self, eqn: Any, kind: str, scope: str, operands: tuple, outputs: tuple):
        """Keep the parts."""
        self.eqn, self.kind, self.scope = eqn, kind, scope
        self.primitive = eqn.primitive
        self.operands, self.outputs = operands, outputs

    @property
    def op(self) -> str:
        """The primitive's name."""
        return self.primitive.name

    @property
    def output_avals(self) -> list[Any]:
        """Shape and dtype of each output."""
        return [var.aval for var in self.eqn.outvars]


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A flat program.

    Attributes:
      steps: In execution order.
      avals: Shape and dtype of each numbered value.
      inputs: Numbers of the arguments.
      constants: Number and value of each array the function closed over.
      literals: Values of the numbers written into the program; they follow the numbered values
        in the environment, so that literal `k` (from the end) is `environment[-k]`.
      outputs: Numbers of the results.
    """

    steps: tuple[Step, ...]
    avals: tuple[Any, ...]
    inputs: tuple[int, ...]
    constants: dict[int, Any]
    literals: tuple[Any, ...]
    outputs: tuple[int, ...]

    @property
    def num_nodes(self) -> int:
        """How many numbered values there are."""
        return len(self.avals)

    @property
    def output_avals(self) -> list[Any]:
        """Shape and dtype of each result."""
        return [self.avals[index] for index in self.outputs]


def is_inexact(aval: Any) -> bool:
    """Tell whether a value of this type has a derivative (floating or complex)."""
    return _is_inexact_dtype(aval.dtype)


@functools.lru_cache(maxsize=64)
def _is_inexact_dtype(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.inexact)


def as_array(leaf: Any, aval: Any) -> Any:
    """Turn a Python or numpy number into an array of the given dtype; leave arrays alone."""
    if isinstance(leaf, jax.Array) or not hasattr(aval.dtype, "kind"):
        return leaf
    if not is_inexact(aval) and getattr(leaf, "dtype", None) == jax.dtypes.float0:
        return None
    return jnp.asarray(leaf, aval.dtype)


def flatten(closed: Any, enter: Sequence[str] = ("jit",)) -> Program:
    """Lay a jaxpr out flat.

    Args:
      closed: A closed jaxpr, or an open one without constants.
      enter: The kinds of call to replace by their contents.

    Returns:
      The program.
    """
    flattener = _Flattener(enter)
    jaxpr = jaxprs.open_jaxpr(closed)
    inputs = tuple(flattener.number(var.aval) for var in jaxpr.invars)
    outputs = flattener.run(closed, inputs, "")
    outputs = tuple(map(flattener.output, outputs, jaxpr.outvars))
    return Program(
        tuple(flattener.steps),
        tuple(flattener.avals),
        inputs,
        flattener.constants,
        tuple(reversed(flattener.literals)),
        outputs,
    )


class _Flattener:
    def __init__(self, enter: Sequence[str]):
        self.enter = frozenset(enter)
        self.steps: list[Step] = []
        self.makers: dict[int, Step] = {}
        self.avals: list[Any] = []
        self.constants: dict[int, Any] = {}
        self.literals: list[Any] = []
        self.scopes: dict[Any, str] = {}

    def number(self, aval: Any) -> int:
        self.avals.append(aval)
        return len(self.avals) - 1

    def literal(self, value: Any) -> int:
        self.literals.append(value)
        return -len(self.literals)

    def output(self, index: int, var: Any) -> int:
        """Give a literal that is an output of the whole program a number of its own."""
        if index >= 0:
            return index
        fresh = self.number(var.aval)
        self.constants[fresh] = self.literals[-index - 1]
        return fresh

    def scope(self, eqn: Any, outer: str) -> str:
        stack = eqn.source_info.name_stack
        key = (stack, outer)
        if key not in self.scopes:
            self.scopes[key] = jaxprs.scope(eqn, outer)
        return self.scopes[key]

    def run(self, closed: Any, inputs: Sequence[int], outer: str) -> list[int]:
        jaxpr = jaxprs.open_jaxpr(closed)
        env = dict(zip(jaxpr.invars, inputs, strict=True))
        for var, value in zip(jaxpr.constvars, jaxprs.constants(closed), strict=True):
            env[var] = self.number(var.aval)
            self.constants[env[var]] = value

        def read(atom: Any) -> int:
            return self.literal(atom.val) if jaxprs.is_literal(atom) else env[atom]

        for eqn in jaxpr.eqns:
            operands = tuple(read(atom) for atom in eqn.invars)
            kind = jaxprs.kind_of_call(eqn)
            scope = self.scope(eqn, outer)
            if kind in self.enter:
                inner = jaxprs.called_jaxpr(eqn)
                outputs = self.run(inner, operands, scope)
            else:
                outputs = tuple(self.number(var.aval) for var in eqn.outvars)
                step = Step(eqn, kind, scope, operands, outputs)
                analytic = bessel.analytic_product(step, self.makers)
                if analytic is not None:
                    call, x = analytic
                    step = Step(call, "custom_jvp", scope, (x,), outputs)
                self.steps.append(step)
                self.makers.update(dict.fromkeys(outputs, step))
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]
