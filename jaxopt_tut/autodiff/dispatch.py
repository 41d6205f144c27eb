"""How one step runs: compiled by itself, or within whatever is being traced.

On concrete arrays each step is one small compiled call, shared by all steps of the same operation;
under a trace it emits its primitives and nothing else. Its derivative comes from its rule, from a
`CallRule` if it is a call, or forwards from the rule transposed.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxopt_tut import jaxprs
from jaxopt_tut.autodiff import registry
from jaxopt_tut.autodiff.program import Step, is_inexact
from jaxopt_tut.autodiff.registry import Derivatives, Needed, Values
from jaxopt_tut.autodiff.zeros import filled
from jaxopt_tut.tracing import is_tracing


def applied() -> Callable[[Step, list], Sequence[Any]]:
    """Return what runs a step on its inputs, here and now."""
    return _apply_here if is_tracing() else _apply_compiled


def pulled() -> Callable[[Step, list, list, list, tuple], Sequence[Any]]:
    """Return what sends cotangents back through a step by its rule, here and now."""
    return _rule_here if is_tracing() else _rule_compiled


def pull_step(
    step: Step, cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed
) -> Derivatives:
    """Send cotangents back through one step, by itself."""
    rule = step.call_rule
    if rule is None:
        return _rule_here(step, cotangents, inputs, outputs, needed)
    return rule.backward(step, rule.forward(step, inputs, needed)[1], cotangents, needed)


def push_step(step: Step, tangents: Derivatives, inputs: Values, outputs: Values) -> Derivatives:
    """Send tangents through one step: by a shortcut, a `CallRule`, or the transposed rule."""
    push = registry.PUSHES.get(step.primitive)
    if push is not None:
        return push(tangents, inputs, outputs, **step.eqn.params)
    rule = step.call_rule
    if rule is not None:
        return rule.jvp(step, inputs, tangents)[1]
    return _transposed(step, tangents, inputs, outputs)


def _transposed(step: Step, tangents: Derivatives, inputs: Values, outputs: Values) -> Derivatives:
    """Transpose the vector-Jacobian product, which is linear in the cotangents."""
    needed = tuple(tangent is not None for tangent in tangents)
    places = [k for k, value in enumerate(outputs) if is_inexact(value)]

    def pull(*cotangents: Any) -> list[Any]:
        incoming: list[Any] = [None] * len(outputs)
        for k, cotangent in zip(places, cotangents, strict=True):
            incoming[k] = cotangent
        found = _rule_here(step, incoming, inputs, outputs, needed)
        return [x for x in filled(found, tangents, needed) if x is not None]

    shapes = [jax.ShapeDtypeStruct(outputs[k].shape, outputs[k].dtype) for k in places]
    pushed = jax.linear_transpose(pull, *shapes)([t for t in tangents if t is not None])
    result: list[Any] = [None] * len(outputs)
    for k, tangent in zip(places, pushed, strict=True):
        result[k] = tangent
    return result


def _rule_here(
    step: Step, cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed
) -> Derivatives:
    rule = registry.RULES[step.primitive]
    return rule(cotangents, inputs, outputs, needed, **step.eqn.params)


def _rule_compiled(
    step: Step, cotangents: Derivatives, inputs: Values, outputs: Values, needed: Needed
) -> Derivatives:
    rule = registry.RULES[step.primitive]
    try:
        compiled = _compiled_rule(rule, needed, tuple(step.eqn.params.items()))
    except TypeError:  # a parameter that cannot be hashed
        return _rule_here(step, cotangents, inputs, outputs, needed)
    return compiled(cotangents, inputs, outputs)


@functools.lru_cache(maxsize=4096)
def _compiled_rule(rule: Any, needed: tuple, params: tuple) -> Any:
    def run(cotangents: list, inputs: list, outputs: list) -> Any:
        return rule(cotangents, inputs, outputs, needed, **dict(params))

    return jax.jit(run)


def _apply_here(step: Step, values: list) -> Sequence[Any]:
    return jaxprs.bind_here(step.eqn, values)


def _apply_compiled(step: Step, values: list) -> Sequence[Any]:
    if step.kind != "primitive":
        return jaxprs.bind_here(step.eqn, values)
    try:
        compiled = _compiled_primitive(step.primitive, tuple(step.eqn.params.items()))
    except TypeError:  # a parameter that cannot be hashed
        return jaxprs.bind_here(step.eqn, values)
    outputs = compiled(*values)
    return outputs if step.primitive.multiple_results else [outputs]


@functools.lru_cache(maxsize=4096)
def _compiled_primitive(primitive: Any, params: tuple) -> Any:
    return jax.jit(lambda *values: primitive.bind(*values, **dict(params)))
