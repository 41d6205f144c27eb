"""What a jaxpr consists of: its equations, its constants, the numbers written into it."""

from typing import Any

from jax.extend import core


def open_jaxpr(jaxpr: Any) -> core.Jaxpr:
    """Return the jaxpr without its constants, whichever form it comes in.

    Args:
      jaxpr: A closed or open jaxpr; from jax 0.12 on the two are one class.

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

    Args:
      jaxpr: A closed or open jaxpr.

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
    """Tell whether an operand of an equation is a number written into the jaxpr.

    Args:
      atom: A member of `eqn.invars` or `jaxpr.outvars`.

    Returns:
      True for a literal (its value is `atom.val`), False for a variable.
    """
    return isinstance(atom, core.Literal)
