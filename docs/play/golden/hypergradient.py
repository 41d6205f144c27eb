"""Hypergradients of the page's problems by the library's modes."""

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_tut.bilevel import Implicit, Truncate, Unroll, hypergrad
from jaxopt_tut.optimizers import sgd

STEPS = (3, 60)
"""Inner steps: long before convergence, and nearly there."""

K = 2
RATE = 0.2

# The page's two problems, the first with a second coordinate that never moves, so that one program
# serves both; and one of no round numbers, in which each letter counts.
PROBLEMS = [
    {"curvature": [1, 0], "target": [2, 0], "start": [-1, 0],
     "weight": [1, 0], "validation": [1.2, 0]},
    {"curvature": [3, 0.25], "target": [1.5, 2], "start": [-0.5, -1],
     "weight": [1, 1], "validation": [1, 0.4]},
    {"curvature": [2.3, 0.7], "target": [-1.1, 0.9], "start": [0.8, 1.6],
     "weight": [0.6, 1.7], "validation": [0.3, -0.2]},
]  # fmt: skip

LOG_PENALTIES = (-3.0, -0.4, 1.2)


def _inner(y: jax.Array, z: Any) -> jax.Array:
    misfit = jnp.sum(z["curvature"] * (y - z["target"]) ** 2)
    return 0.5 * misfit + 0.5 * jnp.exp(z["log_penalty"]) * jnp.sum(y**2)


def _outer(y: jax.Array, z: Any) -> jax.Array:
    return 0.5 * jnp.sum(z["weight"] * (y - z["validation"]) ** 2)


def hypergradients() -> list[dict[str, Any]]:
    """Return the outer value and its three derivatives at each problem, penalty and step count."""
    cases = [
        {**{name: np.array(part, float) for name, part in problem.items()}, "log_penalty": z}
        for problem in PROBLEMS
        for z in LOG_PENALTIES
    ]
    rows = []
    with jax.enable_x64(True), warnings.catch_warnings():
        # that an implicit derivative before convergence means little is what the page shows
        warnings.simplefilter("ignore")
        stacked = jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(x) for x in leaves]), *cases)
        for steps in STEPS:
            found = {}
            for name, mode in (
                ("unroll", Unroll()),
                ("truncate", Truncate(K)),
                ("implicit", Implicit()),
            ):

                def at(z: Any, mode: Any = mode, steps: int = steps) -> tuple:
                    value, grads, _ = hypergrad(
                        _outer, _inner, z["start"], z, solver=sgd(RATE), steps=steps, diff=mode
                    )
                    return value, grads["z"]["log_penalty"]

                values, found[name] = jax.vmap(at)(stacked)
            for i, case in enumerate(cases):
                problem = {
                    key: np.asarray(part).tolist()
                    for key, part in case.items()
                    if key != "log_penalty"
                }
                rows.append(
                    {
                        "problem": {**problem, "rate": RATE},
                        "logPenalty": case["log_penalty"],
                        "steps": steps,
                        "value": float(values[i]),
                        **{name: float(numbers[i]) for name, numbers in found.items()},
                    }
                )
    return rows
