"""Tell, among values that are not finite, the one that the result or the gradient suffers from."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxopt_tut import jaxprs
from jaxopt_tut.diagnostics.nonfinite import births, slopes
from jaxopt_tut.diagnostics.nonfinite.births import Mended
from jaxopt_tut.diagnostics.nonfinite.origins import is_floating
from jaxopt_tut.diagnostics.nonfinite.slopes import Marks
from jaxopt_tut.diagnostics.nonfinite.times import NEVER, places_of
from jaxopt_tut.taps.inner import Place, Program


def find_in_result(program: Program) -> Place | None:
    """Find where what is wrong with the result of a program begins; None if nothing is."""
    jaxpr, inputs = program.jaxpr, program.arrays
    if all_finite(jaxprs.function_of(jaxpr)(*inputs)):
        return None
    # First one evaluation that notes when what happens where.
    held = jaxprs.constants(jaxpr)
    # An infinity that the function closes over is a constant of it; NaN, or a weight, is data.
    is_awake = [_has_nan(x) or id(x) in program.constant_names for x in held]
    look = jax.jit(lambda inputs: births.run(jaxpr, inputs, is_awake, Mended({}, {})).times)
    times = jax.device_get(look(inputs))
    order = {place: k for k, place in enumerate(places_of(jaxpr))}

    def happened(kind: str) -> list[Place]:
        found = sorted((getattr(one, kind), order[place], place) for place, one in times.items())
        return [place for time, _, place in found if time < NEVER]

    # Then the suspects, those that are given before those that are born, in the order of time.
    given: dict[Place, Any] = {((), i): x for i, x in enumerate(inputs)}
    given |= {((-1,), i): x for i, x in enumerate(held) if is_awake[i]}
    given = {place: x for place, x in given.items() if not all_finite(x)}
    born, clashes = [*given, *happened("birth")], happened("clash")
    on_purpose = {place for place, x in given.items() if not _has_nan(x)}
    on_purpose |= {place for place, one in times.items() if one.gift == one.birth < NEVER}
    if len(born) == 1 and not on_purpose:
        return born[0]

    # Then the trial: one compiled program makes finite what its flags say.
    @jax.jit
    def outputs(inputs: list[Any], *flags: Array) -> list[Any]:
        named = (dict(zip(*pair, strict=True)) for pair in zip((born, clashes), flags, strict=True))
        return births.run(jaxpr, inputs, is_awake, Mended(*named)).outputs

    def breaks(births_mended: Collection[Place], clashes_mended: Collection[Place] = ()) -> bool:
        pairs = (born, births_mended), (clashes, clashes_mended)
        flags = [np.array([place in chosen for place in places], bool) for places, chosen in pairs]
        return not all_finite(outputs(inputs, *flags))

    # What was put in on purpose is to blame only where infinities do not clash behind it.
    culprit = _first(born, breaks)
    if culprit is not None and culprit not in on_purpose:
        return culprit
    others = set(born) - {culprit} if culprit is not None else set()
    if clashes and not breaks(others, clashes):
        return _first(clashes, lambda chosen: breaks(others, chosen))
    return culprit or next(iter([*born, *clashes]), None)


def find_in_gradient(program: Program, num_params: int) -> Place | None:
    """Find what the operation makes whose derivative spoils the gradient of the first output."""
    jaxpr = program.jaxpr
    params, data = program.arrays[:num_params], program.arrays[num_params:]
    params = [jnp.asarray(x) for x in params]
    plain = jaxprs.function_of(jaxpr)
    gradients = jax.grad(lambda params: plain(*params, *data)[0])(params)
    if all_finite(gradients):
        return None
    blank = slopes.blank_marks(jaxpr)

    def loss(params, marks):
        return slopes.run_marked(jaxpr, [*params, *data], marks)[0]

    derivatives = jax.jit(jax.grad(loss, argnums=(0, 1)))
    found: Marks = jax.device_get(derivatives(params, blank)[1])
    made = {path: (x > 0) & ~(found.outputs[path] > 0) for path, x in found.operands.items()}
    made = {path: is_made for path, is_made in made.items() if is_made.any()}
    last = {
        path: max(slopes.time_of(jaxpr, path, step) for step in np.argwhere(is_made).tolist())
        for path, is_made in made.items()
    }
    suspects = sorted(made, key=lambda path: last[path], reverse=True)

    def breaks(mended: Collection[slopes.Path]) -> bool:
        operands = {
            path: jnp.asarray(made[path], x.dtype) if path in mended else x
            for path, x in blank.operands.items()
        }
        return not all_finite(derivatives(params, Marks(operands, blank.outputs))[0])

    culprit = suspects[0] if len(suspects) == 1 else _first(suspects, breaks)
    if culprit is None:  # the sum of what is finite
        reached = [path for path, x in found.outputs.items() if (x > 0).any()]
        culprit = next(iter([*suspects, *reached[::-1]]), None)
    if culprit is None:
        return (), next(i for i, x in enumerate(gradients) if not all_finite(x))
    return culprit, slopes.first_floating(jaxpr, culprit)


def all_finite(values: Any) -> bool:
    """Tell whether all that is floating in a tree is finite."""
    return all(bool(jnp.all(jnp.isfinite(x))) for x in jax.tree.leaves(values) if is_floating(x))


def _has_nan(value: Any) -> bool:
    return is_floating(value) and bool(jnp.any(jnp.isnan(value)))


def _first(suspects: Sequence[Any], breaks: Callable[[Collection], bool]) -> Any:
    """Return the first suspect that does harm with all others mended, if one does."""
    for one in suspects:
        if breaks(set(suspects) - {one}):
            return one
    # It takes several together: the first without which those before it, and itself, do none.
    for k, one in enumerate(suspects):
        if not breaks(suspects[: k + 1]):
            return one
    return None
