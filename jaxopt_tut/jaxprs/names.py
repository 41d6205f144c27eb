"""Where an equation comes from: its scope, its line, the function behind a call."""

import re

from jax.extend import core, source_info_util

from jaxopt_tut.jaxprs.calls import sub_jaxprs
from jaxopt_tut.jaxprs.parts import open_jaxpr


def scope(eqn: core.JaxprEqn, outer: str = "") -> str:
    """Return the `named_scope` path in which an equation was traced.

    The marks that transformations leave (`jvp(...)`, `vmap(...)`) and the formulas that
    `einsum` adds are taken off, so that a name does not depend on how the function was called.

    Args:
      eqn: An equation of a jaxpr.
      outer: The scope of the enclosing equation: inside a `jit` names start afresh.

    Returns:
      The names joined by slashes, outermost first; empty without a scope.

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


def source_line(eqn: core.JaxprEqn) -> str:
    """Return the line of the user's code that an equation comes from.

    Args:
      eqn: An equation of a jaxpr, also of one that derivatives were taken of.

    Returns:
      File name without its folder, line and function: `"model.py:12 (loss)"`; empty where JAX
      does not know.
    """
    line = source_info_util.summarize(eqn.source_info)
    return "" if line.startswith("unknown") else re.sub(r"^.*[/\\](?=[^/\\]*:)", "", line)


def call_name(eqn: core.JaxprEqn) -> str:
    """Return the name of the function behind a call equation.

    Args:
      eqn: An equation for which `kind_of_call` does not say `"primitive"`.

    Returns:
      The Python function's name where JAX kept it, else the primitive's.

    Example:
      >>> import jax
      >>> call_name(jax.make_jaxpr(jax.nn.relu)(1.0).eqns[0])
      'relu'
    """
    subs = sub_jaxprs(eqn)
    info = getattr(open_jaxpr(subs[0].jaxpr), "debug_info", None) if subs else None
    name = eqn.params.get("name") or getattr(info, "func_name", None)
    return name or eqn.primitive.name
