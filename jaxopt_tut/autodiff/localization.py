"""Which rule is wrong? Every node of a graph tested by itself."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut import jaxprs
from jaxopt_tut.autodiff import extrapolation, probing, registry
from jaxopt_tut.autodiff.differencing import Differenced
from jaxopt_tut.autodiff.dispatch import pull_step
from jaxopt_tut.autodiff.graph import Node, trace
from jaxopt_tut.autodiff.probing import Channels, Programs
from jaxopt_tut.autodiff.program import Step
from jaxopt_tut.autodiff.widening import Widened, is_inexact, widened
from jaxopt_tut.autodiff.zeros import filled
from jaxopt_tut.types import PyTree


def find_wrong_rule(fun: Callable, args: Sequence[PyTree]) -> Node | None:
    r"""Find the first node whose vector-Jacobian product disagrees with finite differences.

    $$\bar v\, \frac{\partial v_i}{\partial v_j}\, t \overset{?}{=}
      \frac{\langle \bar v, f_i(v_j + h t) - f_i(v_j - h t)\rangle}{2 h}$$

    When `check_gradients` fails and the function is long. Every node is tested by itself, at
    the values it has and as `check_gradients` tests a function, so an error further up does not
    hide one further down; it costs about ten evaluations of each node. A node at a kink (`max`
    at a tie, `abs` at 0) is not wrong.

    Args:
      fun: A function of pytrees of arrays.
      args: Its arguments.

    Returns:
      The node (inside calls to `jit` and `remat` too; a `scan` or a custom rule is one node), or
      None where all agree.

    Example:
      >>> import jax.numpy as jnp
      >>> from jaxopt_tut import autodiff
      >>> cube = autodiff.custom_node(lambda x: (x**3, x), lambda x, g: 2 * x**2 * g, name="cube")
      >>> node = find_wrong_rule(lambda x: jnp.sin(cube(jnp.exp(x))), (0.3,))
      >>> node.index, node.name
      (2, 'cube')
      >>> find_wrong_rule(lambda x: jnp.sin(jnp.exp(x)), (0.3,)) is None
      True
    """
    graph = trace(fun)(*args)
    values = [*graph.evaluate(*args), *graph.program.literals]
    rng = np.random.default_rng(0)
    for step in graph.program.steps:
        if step.primitive in registry.CONSTANT or step.kind == "while":
            continue
        if _is_wrong(step, [values[i] for i in step.operands], rng):
            return graph.nodes[step.outputs[0]]
    return None


def _is_wrong(step: Step, inputs: list[Any], rng: np.random.Generator) -> bool:
    needed = tuple(
        i >= 0 and is_inexact(x) and x.size > 0 for i, x in zip(step.operands, inputs, strict=True)
    )
    outputs = jaxprs.bind(step.eqn, inputs)
    shapes = [y for y in outputs if is_inexact(y)]
    if not any(needed) or not shapes:
        return False

    def pull(inputs: list[Any], weights: list[Any]) -> list[Any]:
        given = iter(weights)
        cotangents = [next(given) if is_inexact(y) else None for y in outputs]
        values = jaxprs.bind(step.eqn, inputs)
        found = pull_step(step, cotangents, inputs, values, needed)
        return [x for x in filled(found, inputs, needed) if x is not None]

    value = Differenced(jax.make_jaxpr(lambda *inputs: jaxprs.bind(step.eqn, inputs))(*inputs))
    reverse = Widened(jax.make_jaxpr(pull)(inputs, [jnp.zeros_like(y) for y in shapes]))
    # Nodes of one primitive share its compiled form; a loop must be compiled to be run.
    compiled = (lambda run: run) if step.kind == "primitive" else jax.jit
    follow, apply_reverse = compiled(value.changes), compiled(reverse.__call__)
    still = [None] * len(inputs)
    change = lambda leaves, k, move: follow(leaves, [*still[:k], move, *still[k + 1 :]])[1]

    def cotangents(leaves: list[Any], weights: list[Any]) -> list[Any]:
        given = iter(apply_reverse(*leaves, *weights))
        return [next(given) if wanted else None for wanted in needed]

    own = max(float(jnp.finfo(x.dtype).eps) for x in [*inputs, *outputs] if is_inexact(x))
    programs = Programs(
        lambda leaves: follow(leaves, still)[0],
        change,
        {"reverse": cotangents},
        own,
        (value, reverse),
    )
    wide = [widened(np.asarray(x)) if is_inexact(x) else x for x in inputs]
    with jax.enable_x64(True):
        channels = Channels(outputs := programs.value(wide), rng)
        for k, wanted in enumerate(needed):
            if wanted:
                found = probing.probe(programs, wide, k, channels, outputs, rng)
                if any(finding.verdict == extrapolation.WRONG for finding in found):
                    return True
    return False
