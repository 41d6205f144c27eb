"""Where an equation comes from: its line, and the function behind a call."""

import re

from jax.extend import core, source_info_util

from jaxopt_tut.jaxprs.calls import sub_jaxprs
from jaxopt_tut.jaxprs.reading import open_jaxpr


def source_line(eqn: core.JaxprEqn) -> str:
    """Return the line of the user's code that an equation comes from.

    Returns:
      File name without its folder, line and function: `"model.py:12 (loss)"`; empty where JAX
      does not know.
    """
    line = source_info_util.summarize(eqn.source_info)
    return "" if line.startswith("unknown") else re.sub(r"^.*[/\\](?=[^/\\]*:)", "", line)


def call_name(eqn: core.JaxprEqn) -> str:
    """Return the name of the function behind a call equation.

    Example:
      >>> import jax
      >>> call_name(jax.make_jaxpr(jax.nn.relu)(1.0).eqns[0])
      'relu'
    """
    subs = sub_jaxprs(eqn)
    info = getattr(open_jaxpr(subs[0].jaxpr), "debug_info", None) if subs else None
    name = eqn.params.get("name") or getattr(info, "func_name", None)
    return name or eqn.primitive.name
