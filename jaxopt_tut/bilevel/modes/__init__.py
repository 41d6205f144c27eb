"""How to differentiate an inner solution: one mode a file, all on the base that is in `mode`.

A mode says itself what it defines (`derivatives`, `wrt`); whoever wants to know asks `MODES`.
"""

from jaxopt_tut.bilevel.modes.forward import Forward
from jaxopt_tut.bilevel.modes.implicit import Implicit
from jaxopt_tut.bilevel.modes.mode import DiffMode, Hypergradient, LinearInfo, Mode
from jaxopt_tut.bilevel.modes.one_step import OneStep
from jaxopt_tut.bilevel.modes.plan import Plan
from jaxopt_tut.bilevel.modes.truncate import Truncate
from jaxopt_tut.bilevel.modes.unroll import Unroll

__all__ = [
    "MODES",
    "DiffMode",
    "Forward",
    "Hypergradient",
    "Implicit",
    "LinearInfo",
    "Mode",
    "OneStep",
    "Plan",
    "Truncate",
    "Unroll",
]

MODES: tuple[type[Mode], ...] = (Unroll, Forward, Truncate, Implicit, OneStep)
"""All ways, in the order in which errors name them; `Plan` chooses one of them."""
