r"""Read jaxprs: the only room that knows the parameters of their equations.

A jaxpr is the list of primitive calls that JAX records when it traces a function,

$$v_i = f_i(v_{\mathrm{parents}(i)}), \qquad i = 1, \dots, N,$$

and some of the $f_i$ (`jit`, `scan`, `cond`, ...) hold further jaxprs. What differs between
versions of JAX is settled here: closed and open jaxprs are one class from 0.12 on, and `scan`
no longer counts its constants and carries.

* `reading`: what a jaxpr consists of, and its equations one after the other.
* `calls`: equations that hold further jaxprs.
* `reaching`: which inputs each output can depend on.
* `names`: where an equation comes from.
* `running`: equations and jaxprs applied to values.
"""

from jaxopt_tut.jaxprs.calls import ScanParts as ScanParts
from jaxopt_tut.jaxprs.calls import SubJaxpr as SubJaxpr
from jaxopt_tut.jaxprs.calls import WhileParts as WhileParts
from jaxopt_tut.jaxprs.calls import cond_branches as cond_branches
from jaxopt_tut.jaxprs.calls import remat_options as remat_options
from jaxopt_tut.jaxprs.calls import scan_parts as scan_parts
from jaxopt_tut.jaxprs.calls import sub_jaxprs as sub_jaxprs
from jaxopt_tut.jaxprs.calls import while_parts as while_parts
from jaxopt_tut.jaxprs.calls import with_bodies as with_bodies
from jaxopt_tut.jaxprs.names import call_name as call_name
from jaxopt_tut.jaxprs.names import source_line as source_line
from jaxopt_tut.jaxprs.reaching import reach as reach
from jaxopt_tut.jaxprs.reading import ROUNDED as ROUNDED
from jaxopt_tut.jaxprs.reading import CallKind as CallKind
from jaxopt_tut.jaxprs.reading import Equation as Equation
from jaxopt_tut.jaxprs.reading import called_jaxpr as called_jaxpr
from jaxopt_tut.jaxprs.reading import constants as constants
from jaxopt_tut.jaxprs.reading import equations as equations
from jaxopt_tut.jaxprs.reading import is_literal as is_literal
from jaxopt_tut.jaxprs.reading import kind_of_call as kind_of_call
from jaxopt_tut.jaxprs.reading import open_jaxpr as open_jaxpr
from jaxopt_tut.jaxprs.reading import operation as operation
from jaxopt_tut.jaxprs.reading import scope as scope
from jaxopt_tut.jaxprs.running import bind as bind
from jaxopt_tut.jaxprs.running import bind_here as bind_here
from jaxopt_tut.jaxprs.running import closure_convert as closure_convert
from jaxopt_tut.jaxprs.running import function_of as function_of

__all__ = [
    "ROUNDED",
    "CallKind",
    "Equation",
    "ScanParts",
    "SubJaxpr",
    "WhileParts",
    "bind",
    "bind_here",
    "call_name",
    "called_jaxpr",
    "closure_convert",
    "cond_branches",
    "constants",
    "equations",
    "function_of",
    "is_literal",
    "kind_of_call",
    "open_jaxpr",
    "operation",
    "reach",
    "remat_options",
    "scan_parts",
    "scope",
    "source_line",
    "sub_jaxprs",
    "while_parts",
    "with_bodies",
]


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
