"""Find where values that are not finite are born in a program, and try it with some made finite.

An entry of a value is *born* if it is not finite though all that it is made of is; else it is
carried. Those that are born are replaced by finite ones on demand, and what is carried through is
left: so it shows which of them the result depends on. An operation that mixes its entries is
evaluated once more with finite operands to see what is born in it; where that says nothing, as with
a factorisation, all is carried.

Rules for derivatives are left out, and calls other than those of JAX's control flow stay closed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import core
from jaxtyping import Array, Bool, Int
from typing_extensions import TypeAliasType

from jaxopt_tut import jaxprs
from jaxopt_tut.diagnostics.nonfinite.origins import (
    AnyJaxpr,
    Path,
    finite_stand_in,
    is_floating,
    origins,
    settled,
)
from jaxopt_tut.taps.inner import REARRANGING, Place

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


class Run(NamedTuple):
    """What an evaluation gives.

    Attributes:
      outputs: The program's.
      times: By place.
    """

    outputs: list[Any]
    times: dict[Place, Times]


class Mended(NamedTuple):
    """What is made finite where it is born, or where infinities clash; one entry a place.

    Input i is at place `((), i)`, constant i at `((-1,), i)`.
    """

    births: Mapping[Place, Bool[Array, ""]]
    clashes: Mapping[Place, Bool[Array, ""]]


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


def run(jaxpr: AnyJaxpr, inputs: Sequence[Any], is_awake: Sequence[bool], mended: Mended) -> Run:
    """Evaluate a program, note where values that are not finite are born, and mend some."""
    # A constant that is not awake counts where it meets data, not before.
    whole = [_mend(value, mended, ((), i)) for i, value in enumerate(inputs)]
    values = enumerate(jaxprs.constants(jaxpr))
    constants = [_mend(value, mended, ((-1,), i)) for i, value in values]
    flags = [not awake for awake in is_awake]
    outputs, times, _, _ = _Runner(mended).walk(
        jaxpr,
        whole,
        [False] * len(whole),
        (),
        jnp.zeros((), jnp.int32),
        list(zip(constants, flags, strict=True)),
    )
    return Run(outputs, times)


def _mend(value: Any, mended: Mended, place: Place) -> Any:
    if place not in mended.births:
        return value
    wrong = mended.births[place] & ~jnp.isfinite(value)
    return jnp.where(wrong, finite_stand_in(jnp.asarray(value)), value)


class _Runner:
    """Holds what is to be mended while the program is walked."""

    def __init__(self, mended: Mended) -> None:
        self.mended = mended

    def walk(
        self,
        jaxpr: AnyJaxpr,
        inputs: Sequence[Any],
        is_constant: Sequence[bool],
        path: Path,
        clock: Clock,
        constants: Sequence[tuple[Any, bool]] | None = None,
    ) -> tuple[list[Any], dict[Place, Times], Clock, list[bool]]:
        """Evaluate one jaxpr; tell also which outputs are constants of the program."""
        program = jaxprs.open_jaxpr(jaxpr)
        env = dict(zip(program.invars, zip(inputs, is_constant, strict=True), strict=True))
        if constants is None:
            constants = [(value, True) for value in jaxprs.constants(jaxpr)]
        env |= zip(program.constvars, constants, strict=True)
        times: dict[Place, Times] = {}

        def read(atom: Any) -> tuple[Any, bool]:
            return (atom.val, True) if jaxprs.is_literal(atom) else env[atom]

        for i, eqn in enumerate(program.eqns):
            operands, constant = _unzip([read(atom) for atom in eqn.invars])
            with eqn.ctx.manager:
                outputs, here, clock, flags = self.equation(
                    eqn, operands, constant, (*path, i), clock
                )
            times |= here
            env.update(zip(eqn.outvars, zip(outputs, flags, strict=True), strict=True))
        outputs, constant = _unzip([read(atom) for atom in program.outvars])
        return outputs, times, clock, constant

    def equation(
        self,
        eqn: core.JaxprEqn,
        operands: list[Any],
        constant: list[bool],
        path: Path,
        clock: Clock,
    ) -> tuple[list[Any], dict[Place, Times], Clock, list[bool]]:
        """Do the same for one equation."""
        kind = jaxprs.kind_of_call(eqn)
        if kind in ("jit", "remat", "custom_jvp", "custom_vjp"):
            return self.walk(jaxprs.called_jaxpr(eqn), operands, constant, (*path, 0), clock)
        awake = [False] * len(eqn.outvars)
        if kind == "scan":
            return *self.scan(eqn, operands, constant, path, clock), awake
        if kind == "while":
            return *self.while_loop(eqn, operands, constant, path, clock), awake
        if kind == "cond":
            return *self.cond(eqn, operands, constant, path, clock), awake
        outputs = [settled(output) for output in jaxprs.bind_here(eqn, operands)]
        times = _never((path, k) for k, x in enumerate(outputs) if is_floating(x))
        if bool(constant) and all(constant) and eqn.primitive.name in _KEEPING:
            return outputs, times, clock, [True] * len(outputs)
        for (_, k), _ in times.items():
            outputs[k], times[path, k] = self.look(
                eqn, operands, constant, outputs[k], (path, k), clock
            )
        return outputs, times, clock, awake

    def look(
        self,
        eqn: core.JaxprEqn,
        operands: list[Any],
        constant: list[bool],
        output: Array,
        place: Place,
        clock: Clock,
    ) -> tuple[Array, Times]:
        """Note what is born and what clashes in one value, and mend it on demand."""
        born, clash, is_gift = origins(eqn, operands, constant, output, place[1])
        never = jnp.full((), NEVER, jnp.int32)
        happened = [
            never if e is None else jnp.where(jnp.any(e), clock, NEVER) for e in (born, clash)
        ]
        gift = jnp.where(is_gift, happened[0], NEVER) if is_gift is not None else never
        for entries, wanted in ((born, self.mended.births), (clash, self.mended.clashes)):
            if entries is not None and place in wanted:
                output = jnp.where(wanted[place] & entries, finite_stand_in(output), output)
        return output, Times(happened[0], gift, happened[1])

    def scan(
        self,
        eqn: core.JaxprEqn,
        operands: list[Any],
        constant: list[bool],
        path: Path,
        clock: Clock,
    ) -> tuple[list[Any], dict[Place, Times], Clock]:
        parts = jaxprs.scan_parts(eqn)
        consts, carry, xs = parts.split_inputs(operands)
        flags, *_ = parts.split_inputs(constant)
        rest = [False] * (len(operands) - len(consts))

        def step(state, x):
            carry, times, clock = state
            outputs, here, clock, _ = self.walk(
                parts.body, [*consts, *carry, *x], [*flags, *rest], (*path, 0), clock + 1
            )
            carry, ys = parts.split_outputs(outputs)
            return (list(carry), _earlier(times, here), clock), list(ys)

        start = list(carry), _never(places_of(parts.body, (*path, 0))), clock
        options = {"length": parts.length, "reverse": parts.reverse}
        (carry, times, clock), ys = lax.scan(step, start, list(xs), **options)
        return [*carry, *ys], times, clock

    def while_loop(
        self,
        eqn: core.JaxprEqn,
        operands: list[Any],
        constant: list[bool],
        path: Path,
        clock: Clock,
    ) -> tuple[list[Any], dict[Place, Times], Clock]:
        parts = jaxprs.while_parts(eqn)
        for_condition, consts, carry = parts.split(operands)
        _, flags, rest = parts.split(constant)
        rest = [False] * len(rest)

        def step(state):
            carry, times, clock = state
            carry, here, clock, _ = self.walk(
                parts.body, [*consts, *carry], [*flags, *rest], (*path, 1), clock + 1
            )
            return list(carry), _earlier(times, here), clock

        def goes_on(state):
            return jaxprs.function_of(parts.condition)(*for_condition, *state[0])[0]

        start = list(carry), _never(places_of(parts.body, (*path, 1))), clock
        return lax.while_loop(goes_on, step, start)

    def cond(
        self,
        eqn: core.JaxprEqn,
        operands: list[Any],
        constant: list[bool],
        path: Path,
        clock: Clock,
    ) -> tuple[list[Any], dict[Place, Times], Clock]:
        index, *operands = operands
        branches = jaxprs.cond_branches(eqn)
        none: dict[Place, Times] = {}
        for k, branch in enumerate(branches):
            none |= _never(places_of(branch, (*path, k)))

        def run_branch(k):
            def run(operands, clock):
                outputs, times, clock, _ = self.walk(
                    branches[k], operands, constant[1:], (*path, k), clock
                )
                return list(outputs), none | times, clock

            return run

        return lax.switch(index, [run_branch(k) for k in range(len(branches))], operands, clock)


_KEEPING = REARRANGING | {"convert_element_type", "copy"}


def _never(places: Iterable[Place]) -> dict[Place, Times]:
    """Give the times of what has not run."""
    never = jnp.full((), NEVER, jnp.int32)
    return {place: Times(never, never, never) for place in places}


def _earlier(times: dict[Place, Times], others: dict[Place, Times]) -> dict[Place, Times]:
    """Take for each place the earlier of two times."""
    return times | {
        place: Times(*map(jnp.minimum, times[place], found)) for place, found in others.items()
    }


def _unzip(pairs: Iterable[tuple[Any, bool]]) -> tuple[list[Any], list[bool]]:
    pairs = list(pairs)
    return [one for one, _ in pairs], [two for _, two in pairs]
