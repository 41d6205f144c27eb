"""A function as a flat program: numbered values, and steps that say which they read and write.

The engine's loops index lists with these numbers. Calls to `jit` (and `remat` on request) are
replaced by their contents; everything is iterative but for the nesting of calls.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxopt_tut import jaxprs
from jaxopt_tut.autodiff import bessel, registry
from jaxopt_tut.autodiff.zero_safe import safe_equation


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

    def __init__(
        self,
        eqn: core.JaxprEqn,
        kind: jaxprs.CallKind,
        scope: str,
        operands: tuple[int, ...],
        outputs: tuple[int, ...],
    ):
        """Keep the parts."""
        self.eqn, self.kind, self.scope = eqn, kind, scope
        self.primitive = eqn.primitive
        self.operands, self.outputs = operands, outputs

    @property
    def op(self) -> str:
        """The primitive's name."""
        return self.primitive.name

    @property
    def call_rule(self) -> registry.CallRule | None:
        """The `CallRule` that differentiates it, None where a plain rule serves it."""
        if self.primitive in registry.RULES or self.primitive in registry.CONSTANT:
            return None
        return registry.CALLS.get(self.kind, registry.CALLS["jax"])

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
    def input_avals(self) -> list[Any]:
        """Shape and dtype of each argument."""
        return [self.avals[index] for index in self.inputs]

    @property
    def output_avals(self) -> list[Any]:
        """Shape and dtype of each result."""
        return [self.avals[index] for index in self.outputs]

    @functools.cached_property
    def floating(self) -> list[bool]:
        """For each value, whether it is one of those that have derivatives."""
        return [is_inexact(aval) for aval in self.avals]

    @functools.cached_property
    def live_steps(self) -> list[Step]:
        """The steps that the results depend on, in execution order."""
        wanted = set(self.outputs)
        kept = []
        for step in reversed(self.steps):
            if not wanted.isdisjoint(step.outputs):
                wanted.update(step.operands)
                kept.append(step)
        return kept[::-1]

    def active(self, inputs: Iterable[bool]) -> list[bool]:
        """Tell for each value whether it depends, differentiably, on one of some inputs."""
        active = [False] * (self.num_nodes + len(self.literals))
        for index, flag in zip(self.inputs, inputs, strict=True):
            active[index] = flag and is_inexact(self.avals[index])
        for step in self.steps:
            if step.primitive in registry.CONSTANT:
                continue
            if any(active[i] for i in step.operands):
                for index in step.outputs:
                    active[index] = is_inexact(self.avals[index])
        return active[: self.num_nodes]


def is_inexact(aval: Any) -> bool:
    """Tell whether a value of this type has a derivative (floating or complex)."""
    return _is_inexact_dtype(aval.dtype)


@functools.lru_cache(maxsize=64)
def _is_inexact_dtype(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.inexact)


def as_arrays(leaves: Iterable[Any], avals: Iterable[Any]) -> list[Any]:
    """Turn numbers of Python or NumPy into arrays of the given dtypes; leave arrays alone."""
    return [_as_array(leaf, aval) for leaf, aval in zip(leaves, avals, strict=True)]


def _as_array(leaf: Any, aval: Any) -> Any:
    if isinstance(leaf, jax.Array) or not hasattr(aval.dtype, "kind"):
        return leaf
    if not is_inexact(aval) and getattr(leaf, "dtype", None) == jax.dtypes.float0:
        return None
    return jnp.asarray(leaf, aval.dtype)


_NEEDS_VALUES = (
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
)


def traced(
    fun: Callable, args: tuple, *, enter: Sequence[str] = ("jit",), zero_safe: bool = False
) -> tuple[Program, Any]:
    """Trace a function; return its program and the structure of its result."""
    try:
        closed, shapes = jax.make_jaxpr(fun, return_shape=True)(*args)
    except _NEEDS_VALUES as error:
        error.add_note(
            "autodiff traces the function, so that Python cannot read the value of an argument: "
            "write jnp.where or jax.lax.cond for a branch, or hand over what Python has to read "
            "by an argument that is not differentiated."
        )
        raise
    if getattr(closed, "effects", None):
        effectful = [eqn.primitive.name for eqn in closed.eqns if eqn.effects]
        raise ValueError(
            f"trace needs a function without effects, got {effectful[0] if effectful else fun} "
            f"with {sorted(map(str, closed.effects))}."
        )
    return flatten(closed, enter, zero_safe), jax.tree.structure(shapes)


def flatten(closed: Any, enter: Sequence[str] = ("jit",), zero_safe: bool = False) -> Program:
    """Lay a jaxpr out flat, without the calls of the kinds to enter."""
    layout = _Layout(frozenset(enter), zero_safe)
    inputs, outputs = layout.lay(closed)
    outputs = tuple(map(layout.result, outputs))
    literals = tuple(value for value, _ in reversed(layout.literals))
    return Program(
        tuple(layout.steps), tuple(layout.avals), inputs, layout.constants, literals, outputs
    )


class _Layout:
    """A flat program in the making."""

    def __init__(self, enter: frozenset[str], zero_safe: bool):
        self.enter, self.zero_safe = enter, zero_safe
        self.steps: list[Step] = []
        self.makers: dict[int, Step] = {}  # the step that made a value
        self.avals: list[Any] = []
        self.constants: dict[int, Any] = {}
        self.literals: list[tuple[Any, Any]] = []

    def number(self, aval: Any) -> int:
        self.avals.append(aval)
        return len(self.avals) - 1

    def constant(self, value: Any, aval: Any) -> int:
        index = self.number(aval)
        self.constants[index] = value
        return index

    def literal(self, value: Any, aval: Any) -> int:
        self.literals.append((value, aval))
        return -len(self.literals)

    def result(self, index: int) -> int:
        """Make a numbered array of a literal or constant that is a result of the whole program."""
        if index < 0:
            index = self.constant(*self.literals[-index - 1])
        if index in self.constants:
            self.constants[index] = _as_array(self.constants[index], self.avals[index])
        return index

    def lay(
        self, closed: Any, operands: tuple[int, ...] | None = None, scope: str = ""
    ) -> tuple[tuple[int, ...], list[int]]:
        """Lay out a jaxpr that reads these values; return the numbers of its inputs and outputs."""
        jaxpr = jaxprs.open_jaxpr(closed)
        fresh = (self.number(var.aval) for var in jaxpr.invars)
        inputs = tuple(fresh) if operands is None else operands
        env = dict(zip(jaxpr.invars, inputs, strict=True))
        for var, value in zip(jaxpr.constvars, jaxprs.constants(closed), strict=True):
            env[var] = self.constant(value, var.aval)
        of = lambda x: self.literal(x.val, x.aval) if jaxprs.is_literal(x) else env[x]
        for eqn, kind, inner_scope, invars, outvars in jaxprs.equations(closed, scope):
            read = tuple(map(of, invars))
            if kind in self.enter:
                _, written = self.lay(jaxprs.called_jaxpr(eqn), read, inner_scope)
            else:
                written = tuple([self.number(var.aval) for var in outvars])
                guarded = safe_equation(eqn) if self.zero_safe else eqn
                self.add(Step(guarded, kind, inner_scope, read, written))
            env.update(zip(outvars, written, strict=True))
        return inputs, [of(atom) for atom in jaxpr.outvars]

    def add(self, step: Step) -> None:
        """Append a step, or what stands for it in a function that the engine knows better."""
        known = bessel.analytic_product(step, self.makers)
        if known is not None:
            call, x = known
            step = Step(call, "custom_jvp", step.scope, (x,), step.outputs)
        self.steps.append(step)
        self.makers.update(dict.fromkeys(step.outputs, step))
