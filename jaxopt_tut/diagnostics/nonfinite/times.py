"""The places where values are made in a program, and when something first happened at them."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array, Int
from typing_extensions import TypeAliasType

from jaxopt_tut import jaxprs
from jaxopt_tut.diagnostics.nonfinite.origins import AnyJaxpr, Path, is_floating
from jaxopt_tut.taps.inner import Place

Clock = TypeAliasType("Clock", Int[Array, ""])
"""How many steps of loops have run."""

NEVER = np.iinfo(np.int32).max
"""The time of what does not happen."""


class Times(NamedTuple):
    """When something first happened at a place, in steps of loops since the start.

    Attributes:
      birth: A value that is not finite was made of finite ones, or of a constant of the program.
      gift: The same, of a constant that is not finite itself, as the -inf of a mask.
      clash: A NaN was made of infinities.
    """

    birth: Clock
    gift: Clock
    clash: Clock


def never(places: Iterable[Place]) -> dict[Place, Times]:
    """Give the times of what has not run."""
    at_no_time = jnp.full((), NEVER, jnp.int32)
    return {place: Times(at_no_time, at_no_time, at_no_time) for place in places}


def earlier(times: dict[Place, Times], others: dict[Place, Times]) -> dict[Place, Times]:
    """Take for each place the earlier of two times."""
    return times | {
        place: Times(*map(jnp.minimum, times[place], found)) for place, found in others.items()
    }


def places_of(jaxpr: AnyJaxpr, path: Path = ()) -> Iterator[Place]:
    """List the places where equations make floating values; of opened calls, those inside."""
    for i, eqn in enumerate(jaxprs.open_jaxpr(jaxpr).eqns):
        subs = _opened(eqn)
        for k, body in subs.items():
            yield from places_of(body, (*path, i, k))
        if not subs:
            for k, var in enumerate(eqn.outvars):
                if is_floating(var.aval):
                    yield (*path, i), k


def _opened(eqn: core.JaxprEqn) -> dict[int, AnyJaxpr]:
    """Give the jaxprs that are looked into, by the numbers that stand for them in a path."""
    kind = jaxprs.kind_of_call(eqn)
    if kind in ("jit", "remat", "custom_jvp", "custom_vjp"):
        return {0: jaxprs.called_jaxpr(eqn)}
    if kind == "scan":
        return {0: jaxprs.scan_parts(eqn).body}
    if kind == "while":
        return {1: jaxprs.while_parts(eqn).body}
    if kind == "cond":
        return dict(enumerate(jaxprs.cond_branches(eqn)))
    return {}
