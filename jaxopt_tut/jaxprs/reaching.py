"""Which inputs of a jaxpr each of its outputs can depend on."""

from collections.abc import Sequence
from typing import Any

from jax.extend import core

from jaxopt_tut.jaxprs.calls import SubJaxpr, scan_parts, sub_jaxprs
from jaxopt_tut.jaxprs.reading import is_literal, kind_of_call, open_jaxpr

_Reach = frozenset[int]
_NOTHING: _Reach = frozenset()


def reach(jaxpr: Any, inputs: Sequence[_Reach] | None = None) -> list[_Reach]:
    """Say for each output which inputs it can depend on, by their positions.

    The program is read, not run: an operation counts as dependent on all its operands. Calls,
    loops and branches are read through.

    Example:
      >>> import jax
      >>> program = jax.make_jaxpr(jax.jit(lambda x, y, z: (x + y, 2 * z)))(1.0, 2.0, 3.0)
      >>> [sorted(found) for found in reach(program)]
      [[0, 1], [2]]
    """
    one = open_jaxpr(jaxpr)
    inputs = [frozenset([i]) for i in range(len(one.invars))] if inputs is None else inputs
    found: dict[Any, _Reach] = dict(zip(one.invars, inputs, strict=True))
    at = lambda atom: _NOTHING if is_literal(atom) else found.get(atom, _NOTHING)
    for eqn in one.eqns:
        outputs = _outputs(eqn, [at(atom) for atom in eqn.invars])
        found.update(zip(eqn.outvars, outputs, strict=True))
    return [at(atom) for atom in one.outvars]


def _outputs(eqn: core.JaxprEqn, inputs: list[_Reach]) -> list[_Reach]:
    """Say the same of one equation, of what its operands depend on."""
    subs, kind = sub_jaxprs(eqn), kind_of_call(eqn)
    if not subs or any(sub.inputs is None for sub in subs):
        return [_NOTHING.union(*inputs)] * len(eqn.outvars)
    if kind in ("scan", "while"):
        return _loop(eqn, subs, inputs)
    # what chooses a branch is in all its outputs
    outputs = [inputs[0] if kind == "cond" else _NOTHING] * len(eqn.outvars)
    for sub in subs:
        _add(outputs, sub, reach(sub.jaxpr, [inputs[i] for i in sub.inputs or ()]))
    return outputs


def _loop(eqn: core.JaxprEqn, subs: list[SubJaxpr], inputs: list[_Reach]) -> list[_Reach]:
    """Go round until a turn adds nothing: what is carried takes up what the others depend on."""
    body = subs[-1]
    if kind_of_call(eqn) == "scan":
        parts = scan_parts(eqn)
        carried = range(parts.num_consts, parts.num_consts + parts.num_carry)
    else:
        carried = (body.inputs or ())[-len(eqn.outvars) :] if eqn.outvars else ()
    while True:
        outputs = [_NOTHING] * len(eqn.outvars)
        for sub in subs:
            results = reach(sub.jaxpr, [inputs[i] for i in sub.inputs or ()])
            if sub.label == "condition":
                outputs = [one.union(*results) for one in outputs]
            else:
                _add(outputs, sub, results)
        after = list(inputs)
        for place, one in zip(carried, outputs, strict=False):
            after[place] |= one
        if after == inputs:
            carries = [inputs[place] for place in carried]  # those of no turn at all
            return [*map(frozenset.union, outputs, carries), *outputs[len(carries) :]]
        inputs = after


def _add(outputs: list[_Reach], sub: SubJaxpr, results: list[_Reach]) -> None:
    for place, one in zip(sub.outputs or (), results, strict=True):
        outputs[place] |= one
