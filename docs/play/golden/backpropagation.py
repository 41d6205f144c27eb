"""Values and adjoints of the page's graphs, from the library and from `jax.grad`."""

from typing import Any

import jax
import numpy as np

from docs.play.graphs import EXAMPLES, traced

ELSEWHERE = {
    "worked": [(-0.7, 1.3)],
    "fan_out": [(2.0, 1.5)],
    "network": [(0.4, 4.0, -0.3, 0.8, 0.1, -1.2, 2.0, -1.0)],
    "elu_node": [(0.6, 1.1), (800.0, 1.0)],
    "elu_parts": [(0.6, 1.1), (800.0, 1.0)],
}
"""Inputs beside those that the examples start with."""


def adjoints() -> list[dict[str, Any]]:
    """Return values and adjoints of every node, and the gradient that JAX computes."""
    rows = []
    with jax.enable_x64(True):
        for name, example in EXAMPLES.items():
            graph = traced(name)
            for inputs in (example.inputs, *ELSEWHERE[name]):
                values = graph.evaluate(*inputs)
                found = graph.backpropagate(values, 1.0)
                grad = jax.grad(example.fun, argnums=range(len(inputs)))(*inputs)
                rows.append(
                    {
                        "graph": name,
                        "inputs": list(inputs),
                        "values": [np.asarray(value).item() for value in values],
                        "adjoints": [None if a is None else float(a) for a in found],
                        "grad": [float(g) for g in grad],
                    }
                )
    return rows
