"""Find where values that are not finite are born in a program, and try it with some made finite.

An entry of a value is *born* if it is not finite though all that it is made of is; else it is
carried. Those that are born are replaced by finite ones on demand, and what is carried through is
left: so it shows which of them the result depends on. An operation that mixes its entries is
evaluated once more with finite operands to see what is born in it; where that says nothing, as with
a factorisation, all is carried.

Rules for derivatives are left out, and calls other than those of JAX's control flow stay closed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jax.extend import core
from jaxtyping import Array, Bool

from jaxopt_tut import jaxprs
from jaxopt_tut.diagnostics.nonfinite.origins import (
    AnyJaxpr,
    Path,
    finite_stand_in,
    is_floating,
    origins,
    settled,
)
from jaxopt_tut.diagnostics.nonfinite.times import (
    NEVER,
    Clock,
    Times,
    earlier,
    never,
    places_of,
)
from jaxopt_tut.taps.inner import REARRANGING, Place


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


def run(jaxpr: AnyJaxpr, inputs: Sequence[Any], is_awake: Sequence[bool], mended: Mended) -> Run:
    """Evaluate a program, note where values that are not finite are born, and mend some."""
    whole = [_mend(value, mended, ((), i)) for i, value in enumerate(inputs)]
    values = enumerate(jaxprs.constants(jaxpr))
    constants = [_mend(value, mended, ((-1,), i)) for i, value in values]
    # A constant that is not awake counts where it meets data, not before.
    flags = [not awake for awake in is_awake]
    task = _Task(whole, [False] * len(whole), (), jnp.zeros((), jnp.int32))
    done = _Runner(mended).walk(jaxpr, task, list(zip(constants, flags, strict=True)))
    return Run(done.outputs, done.times)


def _mend(value: Any, mended: Mended, place: Place) -> Any:
    if place not in mended.births:
        return value
    wrong = mended.births[place] & ~jnp.isfinite(value)
    return jnp.where(wrong, finite_stand_in(jnp.asarray(value)), value)


class _Task(NamedTuple):
    """What is handed to an equation or a jaxpr.

    Attributes:
      values: What it reads.
      constant: Which of that depends on constants of the program alone.
      path: Where it lies.
      clock: When it runs.
    """

    values: list[Any]
    constant: list[bool]
    path: Path
    clock: Clock


class _Done(NamedTuple):
    """What comes back, and which of it depends on constants of the program alone."""

    outputs: list[Any]
    times: dict[Place, Times]
    clock: Clock
    constant: list[bool]


class _Runner:
    """Holds what is to be mended while the program is walked."""

    def __init__(self, mended: Mended) -> None:
        self.mended = mended

    def walk(
        self,
        jaxpr: AnyJaxpr,
        task: _Task,
        constants: Sequence[tuple[Any, bool]] | None = None,
    ) -> _Done:
        """Evaluate one jaxpr."""
        program = jaxprs.open_jaxpr(jaxpr)
        given = zip(task.values, task.constant, strict=True)
        env = dict(zip(program.invars, given, strict=True))
        if constants is None:
            constants = [(value, True) for value in jaxprs.constants(jaxpr)]
        env |= zip(program.constvars, constants, strict=True)
        times: dict[Place, Times] = {}
        clock = task.clock

        def read(atom: Any) -> tuple[Any, bool]:
            return (atom.val, True) if jaxprs.is_literal(atom) else env[atom]

        for i, eqn in enumerate(program.eqns):
            values, constant = _unzip([read(atom) for atom in eqn.invars])
            with eqn.ctx.manager:
                done = self.equation(eqn, _Task(values, constant, (*task.path, i), clock))
            times, clock = times | done.times, done.clock
            env.update(zip(eqn.outvars, zip(done.outputs, done.constant, strict=True), strict=True))
        outputs, constant = _unzip([read(atom) for atom in program.outvars])
        return _Done(outputs, times, clock, constant)

    def equation(self, eqn: core.JaxprEqn, task: _Task) -> _Done:
        """Evaluate one equation."""
        kind = jaxprs.kind_of_call(eqn)
        if kind in ("jit", "remat", "custom_jvp", "custom_vjp"):
            return self.walk(jaxprs.called_jaxpr(eqn), task._replace(path=(*task.path, 0)))
        if kind == "scan":
            return self.scan(eqn, task)
        if kind == "while":
            return self.while_loop(eqn, task)
        if kind == "cond":
            return self.cond(eqn, task)
        outputs = [settled(output) for output in jaxprs.bind_here(eqn, task.values)]
        times = never((task.path, k) for k, x in enumerate(outputs) if is_floating(x))
        if task.constant and all(task.constant) and eqn.primitive.name in _KEEPING:
            return _Done(outputs, times, task.clock, [True] * len(outputs))
        for place in times:
            outputs[place[1]], times[place] = self.look(eqn, task, outputs[place[1]], place)
        return _awake(outputs, times, task.clock)

    def look(
        self, eqn: core.JaxprEqn, task: _Task, output: Array, place: Place
    ) -> tuple[Array, Times]:
        """Note what is born and what clashes in one value, and mend it on demand."""
        born, clash, is_gift = origins(eqn, task.values, task.constant, output, place[1])
        at_no_time = jnp.full((), NEVER, jnp.int32)
        happened = [
            at_no_time if e is None else jnp.where(jnp.any(e), task.clock, NEVER)
            for e in (born, clash)
        ]
        gift = jnp.where(is_gift, happened[0], NEVER) if is_gift is not None else at_no_time
        for entries, wanted in ((born, self.mended.births), (clash, self.mended.clashes)):
            if entries is not None and place in wanted:
                output = jnp.where(wanted[place] & entries, finite_stand_in(output), output)
        return output, Times(happened[0], gift, happened[1])

    # In the loops below only what they close over can be constant: what is carried changes, and
    # the times of all steps are joined, as a loop has room for one.

    def scan(self, eqn: core.JaxprEqn, task: _Task) -> _Done:
        """Evaluate a scan; the clock strikes at each step."""
        parts, path = jaxprs.scan_parts(eqn), (*task.path, 0)
        consts, carry, xs = parts.split_inputs(task.values)
        flags, *_ = parts.split_inputs(task.constant)
        flags = [*flags, *[False] * (len(task.values) - len(consts))]

        def step(state: tuple[Any, ...], x: list[Any]) -> tuple[tuple[Any, ...], list[Any]]:
            carry, times, clock = state
            inner = _Task([*consts, *carry, *x], flags, path, clock + 1)
            done = self.walk(parts.body, inner)
            carry, ys = parts.split_outputs(done.outputs)
            return (list(carry), earlier(times, done.times), done.clock), list(ys)

        start = list(carry), never(places_of(parts.body, path)), task.clock
        options = {"length": parts.length, "reverse": parts.reverse}
        (carry, times, clock), ys = lax.scan(step, start, list(xs), **options)
        return _awake([*carry, *ys], times, clock)

    def while_loop(self, eqn: core.JaxprEqn, task: _Task) -> _Done:
        """Evaluate a loop; its condition makes nothing that goes on."""
        parts, path = jaxprs.while_parts(eqn), (*task.path, 1)
        for_condition, consts, carry = parts.split(task.values)
        _, flags, _ = parts.split(task.constant)
        flags = [*flags, *[False] * len(carry)]

        def step(state: tuple[Any, ...]) -> tuple[Any, ...]:
            carry, times, clock = state
            done = self.walk(parts.body, _Task([*consts, *carry], flags, path, clock + 1))
            return done.outputs, earlier(times, done.times), done.clock

        def goes_on(state: tuple[Any, ...]) -> Array:
            return jaxprs.function_of(parts.condition)(*for_condition, *state[0])[0]

        start = list(carry), never(places_of(parts.body, path)), task.clock
        return _awake(*lax.while_loop(goes_on, step, start))

    def cond(self, eqn: core.JaxprEqn, task: _Task) -> _Done:
        """Evaluate one branch; in the others nothing happens."""
        index, *operands = task.values
        branches = jaxprs.cond_branches(eqn)
        none: dict[Place, Times] = {}
        for k, branch in enumerate(branches):
            none |= never(places_of(branch, (*task.path, k)))

        def run_branch(k: int) -> Callable[[list[Any], Clock], tuple[Any, ...]]:
            def run(operands: list[Any], clock: Clock) -> tuple[Any, ...]:
                inner = _Task(operands, task.constant[1:], (*task.path, k), clock)
                done = self.walk(branches[k], inner)
                return done.outputs, none | done.times, done.clock

            return run

        runs = [run_branch(k) for k in range(len(branches))]
        return _awake(*lax.switch(index, runs, operands, task.clock))


def _awake(outputs: list[Any], times: dict[Place, Times], clock: Clock) -> _Done:
    """Return outputs of which none is a constant."""
    return _Done(outputs, times, clock, [False] * len(outputs))


_KEEPING = REARRANGING | {"convert_element_type", "copy"}


def _unzip(pairs: Iterable[tuple[Any, bool]]) -> tuple[list[Any], list[bool]]:
    pairs = list(pairs)
    return [one for one, _ in pairs], [two for _, two in pairs]
