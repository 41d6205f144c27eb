r"""The loops of automatic differentiation over a flat program.

Forward $v_i = f_i(v_{\mathrm{parents}(i)})$, backward $\bar v_i = \sum_j \bar v_j \partial v_j /
\partial v_i$, and the tangents $\dot v_i = \sum_j \partial v_i / \partial v_j\, \dot v_j$. All
three are plain loops, so a chain of any length fits. Run on concrete arrays each node is one
small compiled call, shared by all nodes of the same operation; under a trace each node emits its
primitives and nothing else.
"""

import contextlib
import functools
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut import jaxprs
from jaxopt_tut.autodiff import registry
from jaxopt_tut.autodiff.program import Program, Step


def is_inexact(aval: Any) -> bool:
    """Tell whether a value of this type has a derivative (floating or complex)."""
    return _is_inexact_dtype(aval.dtype)


@functools.lru_cache(maxsize=64)
def _is_inexact_dtype(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.inexact)


def as_array(leaf: Any, aval: Any) -> Any:
    """Turn a Python or numpy number into an array of the given dtype; leave arrays alone."""
    if isinstance(leaf, jax.Array) or not hasattr(aval.dtype, "kind"):
        return leaf
    if not is_inexact(aval) and getattr(leaf, "dtype", None) == jax.dtypes.float0:
        return None
    return jnp.asarray(leaf, aval.dtype)


def is_tracing() -> bool:
    """Tell whether an operation on concrete arrays would be recorded instead of executed."""
    try:
        np.asarray(jax.lax.full((), 0, np.int32))
    except jax.errors.TracerArrayConversionError:
        return True
    return False


def environment(program: Program, inputs: Sequence[Any]) -> list[Any]:
    """Make the list of values: inputs and constants set, literals at the end."""
    env = [None] * program.num_nodes + list(program.literals)
    for index, value in program.constants.items():
        env[index] = value
    for index, value in zip(program.inputs, inputs, strict=True):
        env[index] = value
    return env


def evaluate(program: Program, inputs: Sequence[Any]) -> list[Any]:
    """Run the program; return the environment (values, then literals)."""
    env = environment(program, inputs)
    run_steps(env, program.steps)
    return env


def run_steps(env: list[Any], steps: Sequence[Step]) -> None:
    """Execute steps in place on an environment."""
    apply = _apply_here if is_tracing() else _apply_compiled
    for context, run in _runs(steps):
        with context:
            for step in run:
                outputs = apply(step, [env[i] for i in step.operands])
                for index, value in zip(step.outputs, outputs, strict=True):
                    env[index] = value


def activity(program: Program, active_inputs: Sequence[bool]) -> list[bool]:
    """Tell for each value whether it depends, differentiably, on an active input."""
    active = [False] * program.num_nodes + [False] * len(program.literals)
    for index, flag in zip(program.inputs, active_inputs, strict=True):
        active[index] = flag and is_inexact(program.avals[index])
    for step in program.steps:
        if step.primitive in registry.CONSTANT:
            continue
        if any(active[i] for i in step.operands):
            for index in step.outputs:
                active[index] = is_inexact(program.avals[index])
    return active[: program.num_nodes]


def live_steps(program: Program, outputs: Sequence[int] | None = None) -> list[Step]:
    """List the steps that the outputs depend on, in execution order."""
    wanted = set(program.outputs if outputs is None else outputs)
    kept = []
    for step in reversed(program.steps):
        if not wanted.isdisjoint(step.outputs):
            wanted.update(step.operands)
            kept.append(step)
    return kept[::-1]


def forward(env: list[Any], active: Sequence[bool], steps: Sequence[Step]) -> dict[int, Any]:
    """Run steps in place on an environment; return what calls keep for the way back.

    A call that is differentiated by a `CallRule` runs that rule's forward half here, so that
    nothing is computed twice; its residuals are stored under its first output.
    """
    residuals = {}
    apply = _apply_here if is_tracing() else _apply_compiled
    for context, run in _runs(steps):
        with context:
            for step in run:
                inputs = [env[i] for i in step.operands]
                rule = None
                if any(active[i] for i in step.outputs):
                    rule = call_rule(step)
                if rule is None:
                    outputs = apply(step, inputs)
                else:
                    needed = tuple(i >= 0 and active[i] for i in step.operands)
                    outputs, residuals[step.outputs[0]] = rule.forward(step, inputs, needed)
                for index, value in zip(step.outputs, outputs, strict=True):
                    env[index] = value
    return residuals


def backpropagate(
    program: Program,
    env: Sequence[Any],
    residuals: dict[int, Any],
    cotangents: Sequence[Any],
    active: Sequence[bool],
    *,
    steps: Sequence[Step] | None = None,
    recompute: bool = False,
) -> list[Any]:
    """Send cotangents of the outputs back; return one adjoint (None for zero) a value.

    Args:
      program: The program.
      env: Its environment after the forward pass.
      residuals: What `forward` returned.
      cotangents: One an output, or None.
      active: For each value, whether its adjoint is wanted.
      steps: The steps to go through, by default all.
      recompute: Run the forward half of a `CallRule` again instead of reading `residuals`.
    """
    adjoints: list[Any] = [None] * program.num_nodes
    for index, cotangent in zip(program.outputs, cotangents, strict=True):
        if cotangent is not None and active[index]:
            _accumulate(adjoints, index, cotangent)
    apply = _rule_here if is_tracing() else _rule_compiled
    for context, run in _runs(reversed(program.steps if steps is None else steps)):
        with context:
            for step in run:
                incoming = [adjoints[i] for i in step.outputs]
                if all(cotangent is None for cotangent in incoming):
                    continue
                if step.primitive in registry.CONSTANT:
                    continue
                needed = tuple(i >= 0 and active[i] for i in step.operands)
                if not any(needed):
                    continue
                inputs = [env[i] for i in step.operands]
                rule = call_rule(step)
                if rule is None:
                    outputs = [env[i] for i in step.outputs]
                    found = apply(step, incoming, inputs, outputs, needed)
                else:
                    if recompute:
                        kept = rule.forward(step, inputs, needed)[1]
                    else:
                        kept = residuals[step.outputs[0]]
                    found = rule.backward(step, kept, incoming, needed)
                for i, wanted, cotangent in zip(step.operands, needed, found, strict=True):
                    if wanted and cotangent is not None:
                        if cotangent.shape != program.avals[i].shape:
                            raise ValueError(
                                f"the rule of {step.op} (node {step.outputs[0]}) must give a "
                                f"cotangent of shape {program.avals[i].shape}, "
                                f"got {cotangent.shape}."
                            )
                        _accumulate(adjoints, i, cotangent)
    return adjoints


def _accumulate(adjoints: list[Any], index: int, cotangent: Any) -> None:
    """Add to an adjoint: where a value is read twice, the contributions sum."""
    present = adjoints[index]
    adjoints[index] = cotangent if present is None else jax.lax.add(present, cotangent)


def pushforward(program: Program, env: Sequence[Any], tangents: Sequence[Any]) -> list[Any]:
    """Send tangents of the inputs forward; return one tangent (None for zero) a value."""
    pushed: list[Any] = [None] * (program.num_nodes + len(program.literals))
    for index, tangent in zip(program.inputs, tangents, strict=True):
        pushed[index] = tangent if is_inexact(program.avals[index]) else None
    for context, run in _runs(program.steps):
        with context:
            for step in run:
                incoming = [pushed[i] for i in step.operands]
                if step.primitive in registry.CONSTANT or all(t is None for t in incoming):
                    continue
                if not any(is_inexact(program.avals[i]) for i in step.outputs):
                    continue
                inputs = [env[i] for i in step.operands]
                outputs = [env[i] for i in step.outputs]
                found = push_step(step, incoming, inputs, outputs)
                for index, tangent in zip(step.outputs, found, strict=True):
                    pushed[index] = tangent if is_inexact(program.avals[index]) else None
    return pushed[: program.num_nodes]


def evaluate_with_tangents(
    program: Program, inputs: Sequence[Any], tangents: Sequence[Any]
) -> tuple[list[Any], list[Any]]:
    """Run the program on values and tangents together; return those of the outputs."""
    env = environment(program, inputs)
    pushed: list[Any] = [None] * len(env)
    for index, tangent in zip(program.inputs, tangents, strict=True):
        pushed[index] = tangent if is_inexact(program.avals[index]) else None
    apply = _apply_here if is_tracing() else _apply_compiled
    for context, run in _runs(live_steps(program)):
        with context:
            for step in run:
                values = [env[i] for i in step.operands]
                incoming = [pushed[i] for i in step.operands]
                moving = step.primitive not in registry.CONSTANT and any(
                    tangent is not None for tangent in incoming
                )
                rule = call_rule(step) if moving else None
                found: Sequence[Any] = [None] * len(step.outputs)
                if rule is not None:
                    outputs, found = rule.jvp(step, values, incoming)
                else:
                    outputs = apply(step, values)
                    if moving and any(is_inexact(program.avals[i]) for i in step.outputs):
                        found = push_step(step, incoming, values, outputs)
                for index, value, tangent in zip(step.outputs, outputs, found, strict=True):
                    env[index] = value
                    pushed[index] = tangent if is_inexact(program.avals[index]) else None
    return [env[i] for i in program.outputs], [pushed[i] for i in program.outputs]


def push_step(step: Step, tangents: list, inputs: list, outputs: Sequence) -> Sequence[Any]:
    """Send tangents through one step: by a shortcut, a `CallRule`, or the transposed rule."""
    push = registry.PUSHES.get(step.primitive)
    if push is not None:
        return push(tangents, inputs, outputs, **step.eqn.params)
    rule = call_rule(step)
    if rule is not None:
        return rule.jvp(step, inputs, tangents)[1]
    return _transposed(step, tangents, inputs, outputs)


def _transposed(step: Step, tangents: list, inputs: list, outputs: Sequence) -> list[Any]:
    """Transpose the vector-Jacobian product, which is linear in the cotangents."""
    needed = tuple(tangent is not None for tangent in tangents)
    places = [k for k, value in enumerate(outputs) if is_inexact(value)]

    def pull(*cotangents: Any) -> list[Any]:
        incoming: list[Any] = [None] * len(outputs)
        for k, cotangent in zip(places, cotangents, strict=True):
            incoming[k] = cotangent
        found = _rule_here(step, incoming, inputs, outputs, needed)
        return [
            jnp.zeros_like(tangent) if cotangent is None else cotangent
            for cotangent, tangent in zip(found, tangents, strict=True)
            if tangent is not None
        ]

    shapes = [jax.ShapeDtypeStruct(outputs[k].shape, outputs[k].dtype) for k in places]
    pushed = jax.linear_transpose(pull, *shapes)([t for t in tangents if t is not None])
    result: list[Any] = [None] * len(outputs)
    for k, tangent in zip(places, pushed, strict=True):
        result[k] = tangent
    return result


def pull_step(
    step: Step, cotangents: list, inputs: list, outputs: Sequence, needed: tuple
) -> Sequence[Any]:
    """Send cotangents back through one step, by itself."""
    rule = call_rule(step)
    if rule is None:
        return _rule_here(step, cotangents, inputs, outputs, needed)
    return rule.backward(step, rule.forward(step, inputs, needed)[1], cotangents, needed)


def call_rule(step: Step) -> registry.CallRule | None:
    """Return the `CallRule` of a step, None when a plain rule serves it."""
    if step.primitive in registry.RULES or step.primitive in registry.CONSTANT:
        return None
    return registry.CALLS.get(step.kind, registry.CALLS["jax"])


def _runs(steps: Any) -> Any:
    """Group neighbouring steps by the precision, mesh and scope they were traced in."""
    for (context, scope), run in itertools.groupby(steps, lambda s: (s.eqn.ctx, s.scope)):
        yield (_context(context, scope) if scope else context.manager), run


@contextlib.contextmanager
def _context(context: Any, scope: str) -> Any:
    with context.manager, jax.named_scope(scope):
        yield


def _rule_here(step: Step, cotangents: list, inputs: list, outputs: Sequence, needed: tuple) -> Any:
    rule = registry.RULES[step.primitive]
    return rule(cotangents, inputs, outputs, needed, **step.eqn.params)


def _rule_compiled(step: Step, cotangents: list, inputs: list, outputs: list, needed: tuple) -> Any:
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
