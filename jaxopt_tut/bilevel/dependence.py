"""Whether a function's output depends on its input, as far as its program shows."""

from collections.abc import Callable
from typing import Any

import jax

from jaxopt_tut.jaxprs import is_literal, open_jaxpr
from jaxopt_tut.types import PyTree


def depends_on(fun: Callable[[Any], Any], argument: PyTree) -> bool:
    """Tell whether any output of a function can depend on any leaf of its argument.

    The program is read, not run: an operation counts as dependent if one of its operands is.
    """
    program = open_jaxpr(jax.make_jaxpr(fun)(argument))
    reached = set(program.invars)
    for eqn in program.eqns:
        if any(not is_literal(atom) and atom in reached for atom in eqn.invars):
            reached.update(eqn.outvars)
    return any(not is_literal(atom) and atom in reached for atom in program.outvars)
