"""The graphs that the page differentiates, traced by the library, as a JavaScript module."""

import functools
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_tut import autodiff


class Example(NamedTuple):
    """One function of numbers.

    Attributes:
      label: What the page calls it.
      fun: The function; the names of its arguments are those of the inputs.
      inputs: Where it starts.
      hint: What to try with it.
    """

    label: str
    fun: Callable[..., jax.Array]
    inputs: tuple[float, ...]
    hint: str


def worked(x: jax.Array, y: jax.Array) -> jax.Array:
    """Compute the tutorial's worked example, the product once."""
    p = x * y
    return jnp.sin(p) + jnp.exp(p)


def fan_out(x: jax.Array, y: jax.Array) -> jax.Array:
    """Use one value three times."""
    u = jnp.sin(x)
    return u * y + u * u


def network(
    x: jax.Array,
    w1: jax.Array,
    b1: jax.Array,
    w2: jax.Array,
    b2: jax.Array,
    v1: jax.Array,
    v2: jax.Array,
    t: jax.Array,
) -> jax.Array:
    """Compute half the squared error of two hidden units on one example."""
    y = v1 * jnp.tanh(w1 * x + b1) + v2 * jnp.tanh(w2 * x + b2)
    return 0.5 * (y - t) ** 2


def elu_node(x: jax.Array, w: jax.Array) -> jax.Array:
    """Square an ELU that is one node."""
    return autodiff.elu(w * x, 0.5) ** 2


def elu_parts(x: jax.Array, w: jax.Array) -> jax.Array:
    """Square an ELU written out, with its trap."""
    z = w * x
    return jnp.where(z > 0, z, 0.5 * (jnp.exp(z) - 1)) ** 2


EXAMPLES = {
    "worked": Example(
        "sin(xy) + exp(xy)",
        worked,
        (1.0, 2.0),
        "The product has two children: what each gives back is added.",
    ),
    "fan_out": Example(
        "u y + u², with u = sin x",
        fan_out,
        (0.5, -0.8),
        "u is used three times, twice by one node. Find a y at which its adjoint is 0.",
    ),
    "network": Example(
        "two tanh units and a squared error",
        network,
        (1.0, 0.5, 0.1, -1.0, 0.2, 1.5, -0.5, 0.3),
        "Set w1 to 4: the unit saturates, and almost nothing comes back to w1 and b1.",
    ),
    "elu_node": Example(
        "ELU as one node, squared",
        elu_node,
        (-1.0, 1.5),
        "Set x to 800: the rule of the node never takes the exponential of a positive number.",
    ),
    "elu_parts": Example(
        "ELU written out, squared",
        elu_parts,
        (-1.0, 1.5),
        "Set x to 800: the branch that is not taken overflows, and infinity times 0 comes back.",
    ),
}


@functools.cache
def traced(name: str) -> autodiff.Graph:
    """Trace an example in double precision."""
    example = EXAMPLES[name]
    with jax.enable_x64(True):
        return autodiff.trace(example.fun)(*example.inputs)


def exported(name: str) -> dict[str, Any]:
    """Return an example as plain data: each node with its operation and its operands."""
    graph = traced(name)
    example, program = EXAMPLES[name], graph.program
    nodes: list[dict[str, Any]] = [{"op": node.op, "name": node.name} for node in graph.nodes]
    for step in program.steps:
        (index,) = step.outputs
        operands = [i if i >= 0 else {"value": float(program.literals[i])} for i in step.operands]
        params = {"y": step.eqn.params["y"]} if step.op == "integer_pow" else {}
        # a node of its own rule is told by its name
        op = graph.nodes[index].name if step.op.startswith("custom_") else step.op
        nodes[index] = {"op": op, "operands": operands, "params": params}
    return {
        "label": example.label,
        "hint": example.hint,
        "start": list(example.inputs),
        "inputs": list(graph.inputs),
        "output": graph.outputs[0],
        "nodes": nodes,
    }


def module() -> str:
    """Write all of them as the text of a JavaScript module."""
    data = {name: exported(name) for name in EXAMPLES}
    return f"export const GRAPHS = {json.dumps(data, ensure_ascii=False)};\n"
