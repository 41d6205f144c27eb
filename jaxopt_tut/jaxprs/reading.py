"""What a jaxpr consists of: its ends, its constants, and its equations, one after the other."""

import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from jax.extend import core
from typing_extensions import TypeAliasType

from jaxopt_tut.blocks import shown

CallKind = TypeAliasType(
    "CallKind",
    Literal[
        "primitive", "jit", "remat", "custom_jvp", "custom_vjp", "scan", "while", "cond", "call"
    ],
)
"""What `kind_of_call` answers."""

_KINDS: dict[str, CallKind] = {
    "jit": "jit",
    "pjit": "jit",
    "remat": "remat",
    "remat2": "remat",
    "checkpoint": "remat",
    "custom_jvp_call": "custom_jvp",
    "custom_vjp_call": "custom_vjp",
    "custom_vjp_call_jaxpr": "custom_vjp",
    "scan": "scan",
    "while": "while",
    "cond": "cond",
}


def open_jaxpr(jaxpr: Any) -> core.Jaxpr:
    """Return the jaxpr without its constants, whichever form it comes in.

    Returns:
      The object with `constvars`, `invars`, `eqns` and `outvars`.

    Example:
      >>> import jax
      >>> [eqn.primitive.name for eqn in open_jaxpr(jax.make_jaxpr(jax.numpy.sin)(1.0)).eqns]
      ['sin']
    """
    return getattr(jaxpr, "jaxpr", jaxpr)


def constants(jaxpr: Any) -> list[Any]:
    """Return the values of `open_jaxpr(jaxpr).constvars`.

    Returns:
      One value a constvar: the arrays the traced function closed over.

    Example:
      >>> import jax, numpy as np
      >>> table = np.arange(3.0)
      >>> [value.shape for value in constants(jax.make_jaxpr(lambda x: x + table)(1.0))]
      [(3,)]
    """
    return list(getattr(jaxpr, "consts", ()))


def is_literal(atom: Any) -> bool:
    """Tell whether an operand of an equation is a number written into the jaxpr."""
    return isinstance(atom, core.Literal)


def kind_of_call(eqn: core.JaxprEqn) -> CallKind:
    """Say how an equation holds further jaxprs, if it does.

    Returns:
      `"jit"`, `"remat"`, `"custom_jvp"`, `"custom_vjp"`, `"scan"`, `"while"` or `"cond"`;
      `"call"` for any other primitive with a jaxpr inside (`shard_map`, `custom_linear_solve`);
      `"primitive"` where there is none.

    Example:
      >>> import jax
      >>> program = jax.make_jaxpr(lambda x: jax.nn.relu(jax.jit(jax.numpy.sin)(x)) + 1)(1.0)
      >>> [kind_of_call(eqn) for eqn in program.eqns]
      ['jit', 'custom_jvp', 'primitive']
    """
    kind = _KINDS.get(eqn.primitive.name)
    if kind is not None:
        return kind
    return "call" if next(core.jaxprs_in_params(eqn.params), None) is not None else "primitive"


def called_jaxpr(eqn: core.JaxprEqn) -> Any:
    """Return the jaxpr that a `jit`, `remat`, `custom_jvp` or `custom_vjp` equation calls.

    Returns:
      The jaxpr, whose invars and outvars match the equation's one to one.

    Raises:
      ValueError: If the equation is none of the four.

    Example:
      >>> import jax
      >>> eqn = jax.make_jaxpr(jax.nn.relu)(1.0).eqns[0]
      >>> len(open_jaxpr(called_jaxpr(eqn)).invars)
      1
    """
    for name in ("call_jaxpr", "jaxpr", "fun_jaxpr"):
        if name in eqn.params:
            return eqn.params[name]
    raise ValueError(f"called_jaxpr needs a call equation, got {eqn.primitive.name}.")


ROUNDED = "rounded_"
"""What the name of a product begins with whose operands are rounded to half precision."""


def operation(eqn: core.JaxprEqn) -> str:
    """Name what an equation computes, whether or not its operands are rounded first.

    Example:
      >>> import jax
      >>> operation(jax.make_jaxpr(jax.numpy.dot)(jax.numpy.ones(2), jax.numpy.ones(2)).eqns[0])
      'dot_general'
    """
    return eqn.primitive.name.removeprefix(ROUNDED)


@shown
class Equation(NamedTuple):
    """One equation, with all that a reader of a program asks of it.

    Attributes:
      eqn: The equation.
      kind: What `kind_of_call` says.
      scope: What `scope` says.
      inputs: Its operands: variables, and literals.
      outputs: The variables that it sets.
    """

    eqn: core.JaxprEqn
    kind: CallKind
    scope: str
    inputs: list
    outputs: list


def equations(jaxpr: Any, outer: str = "") -> Iterator[Equation]:
    """Go through the equations of a jaxpr, in the order in which they run.

    Example:
      >>> import jax
      >>> program = jax.make_jaxpr(lambda x: jax.nn.relu(x) + 1)(1.0)
      >>> [(one.eqn.primitive.name, one.kind) for one in equations(program)]
      [('custom_jvp_call', 'custom_jvp'), ('add', 'primitive')]
    """
    scopes: dict[Any, str] = {}
    for eqn in open_jaxpr(jaxpr).eqns:
        stack = eqn.source_info.name_stack
        if stack not in scopes:
            scopes[stack] = scope(eqn, outer)
        yield Equation(eqn, kind_of_call(eqn), scopes[stack], eqn.invars, eqn.outvars)


def scope(eqn: core.JaxprEqn, outer: str = "") -> str:
    """Return the `named_scope` path in which an equation was traced.

    The marks that transformations leave (`jvp(...)`, `vmap(...)`) and the formulas that
    `einsum` adds are taken off, so that a name does not depend on how the function was called.

    Example:
      >>> import jax
      >>> @jax.named_scope("encoder")
      ... def layer(x):
      ...     return jax.vmap(jax.named_scope("dense")(jax.numpy.sin))(x)
      >>> scope(jax.make_jaxpr(layer)(jax.numpy.ones(3)).eqns[0])
      'encoder/dense'
    """
    parts = [] if not outer else [outer]
    stack = str(eqn.source_info.name_stack)
    for piece in stack.split("/") if stack else ():
        name = _FORMULA.sub("", _WRAPPERS.sub("", piece)).strip(")")
        if name:
            parts.append(name)
    return "/".join(parts)


_WRAPPERS = re.compile(
    r"^(?:(?:jvp|transpose|vmap|pmap|linearize|checkpoint|rematted_computation)\()+"
)
_FORMULA = re.compile(r"^[^/]*->[^/]*$")
