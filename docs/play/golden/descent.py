"""Descent in the library: values, gradients, Hessians, single steps and whole paths, in float64."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax

from jaxopt_tut.curvature import stability_limit
from jaxopt_tut.landscape import descend, surfaces
from jaxopt_tut.optimizers import adam, momentum, newton, norms, sgd, steepest_descent

CURVATURES = (0.5, 12.0)
SURFACES = {
    "ravine": surfaces.ravine,
    "steep_optima": surfaces.steep_optima,
    "rosenbrock": surfaces.rosenbrock,
    "beale": surfaces.beale,
    "himmelblau": surfaces.himmelblau,
    "quadratic": surfaces.quadratic(CURVATURES),
}
OPTIMIZERS: dict[str, Callable[..., optax.GradientTransformation]] = {
    "sgd": lambda rate, **_: sgd(rate),
    "momentum": lambda rate, decay, **_: momentum(rate, decay=decay),
    "heavy_ball": lambda rate, decay, **_: optax.sgd(rate, momentum=decay),
    "nesterov": lambda rate, decay, **_: momentum(rate, decay=decay, nesterov=True),
    "adam": lambda rate, decay, b2: adam(rate, b1=decay, b2=b2),
    "sign": lambda rate, **_: steepest_descent(rate, norm=norms.LInf(), scale_by_dual_norm=False),
    "newton": lambda rate, **_: newton(rate, line_search=optax.identity()),
}
"""By the name that the page gives them; each of a rate and of the decays it heeds."""

# Rates at which each surface is walked on, of the order of those of the experiments.
RATES = {
    "ravine": {"sgd": 10.0, "momentum": 3.0, "heavy_ball": 0.3, "nesterov": 1.0, "adam": 1.0},
    "steep_optima": {"sgd": 0.01, "momentum": 0.02, "heavy_ball": 1e-3, "adam": 0.2},
    "rosenbrock": {"sgd": 1e-3, "momentum": 1e-3, "heavy_ball": 2e-4, "adam": 0.05},
    "beale": {"sgd": 0.01, "momentum": 0.01, "heavy_ball": 1e-3, "adam": 0.05},
    "himmelblau": {"sgd": 0.01, "momentum": 0.02, "heavy_ball": 2e-3, "adam": 0.1},
    "quadratic": {"sgd": 0.15, "momentum": 0.5, "heavy_ball": 0.05, "adam": 0.1},
}
DECAYS = {"decay": 0.85, "b2": 0.99}
STARTS = {"beale": [1.25, -0.75], "himmelblau": [-0.5, 1.25], "steep_optima": [-0.75, -0.5]}
STEPS = 100
SHIFT = 1e-12
STABLE = 1e-10
"""A path is stable if points that differ by `SHIFT` at the start never differ by more than this.

Rounding enters each step like a change of some 1e-16 of the point: 1e4 times less than `SHIFT`.
"""


def collect() -> dict[str, Any]:
    """Compute everything; two seconds where programs are kept, some twenty to compile them."""
    with jax.enable_x64(True):
        return {
            "functions": [functions(name) for name in SURFACES],
            "runs": [run for name in OPTIMIZERS for run in runs(name)],
            "contractions": contractions(),
        }


def functions(name: str) -> dict[str, Any]:
    """Evaluate a surface and its derivatives at points of its domain and beyond."""
    surface = SURFACES[name]
    lower, upper = (corner.astype(float) for corner in surface.domain)
    points = np.random.default_rng(18).uniform(1.2 * lower, 1.2 * upper, (40, 2))
    with_gradient = jax.jit(jax.vmap(jax.value_and_grad(surface.fun)))
    values, gradients = with_gradient(points)
    return {
        "surface": name,
        "curvatures": CURVATURES,
        "points": points.tolist(),
        "values": values.tolist(),
        "gradients": gradients.tolist(),
        "hessians": jax.jit(jax.vmap(jax.hessian(surface.fun)))(points).tolist(),
        "domain": np.stack([lower, upper], 1).tolist(),
        "minima": surface.minima.astype(float).tolist(),
        "start": surface.start.astype(float).tolist(),
    }


def runs(name: str) -> list[dict[str, Any]]:
    """Walk on each surface: the path, each step along it, and whether it can be repeated."""
    walk = jax.jit(partial(_walk, name))
    found = []
    for i, (surface, rates) in enumerate(RATES.items()):
        start = np.asarray(STARTS.get(surface, SURFACES[surface].start), float)
        rate = rates.get(
            name, {"nesterov": rates["momentum"], "sign": 0.05, "newton": 0.5}.get(name)
        )
        shifted = start + SHIFT * np.maximum(1, np.abs(start))
        points, values, updates = walk(i, start, rate, **DECAYS)
        others = walk(i, shifted, rate, **DECAYS)[0]
        apart = np.abs(points - others) / np.maximum(1, np.abs(points))
        found.append(
            {
                "options": {
                    "surface": surface,
                    "optimizer": name,
                    "rate": rate,
                    "start": start.tolist(),
                    "steps": STEPS,
                    "curvatures": CURVATURES,
                    **DECAYS,
                },
                "points": points.tolist(),
                "values": values.tolist(),
                "updates": updates.tolist(),
                "stable": bool(np.all(apart <= STABLE)),
            }
        )
    return found


def contractions() -> list[dict[str, Any]]:
    """Measure what a step of momentum does to a quadratic: the largest root, and its limit.

    The step is linear in the point and the average, so its derivative says everything.
    """
    found = []
    with jax.enable_x64(True):
        for form, name in (("ema", "momentum"), ("heavy_ball", "heavy_ball")):
            map_ = jax.jit(partial(_map, name))
            for rate, decay, curvature in ((0.3, 0.0, 2.0), (0.5, 0.6, 1.5), (1.7, 0.9, 4.0)):
                roots = np.linalg.eigvals(map_(rate, decay, curvature))
                limit = stability_limit(rate, momentum=decay, form=form)
                found.append(
                    {
                        "problem": {"form": form, "rate": rate, "decay": decay},
                        "curvature": curvature,
                        "factor": float(np.abs(roots).max()),
                        "limit": float(limit),
                    }
                )
    return found


def _map(name, rate, decay, curvature):
    """Return the matrix of one step on the point and the state of the optimizer."""
    optimizer = OPTIMIZERS[name](rate, decay=decay)
    w = jnp.zeros(())
    flat, unravel = jax.flatten_util.ravel_pytree((w, optimizer.init(w)))

    def step(x):
        w, state = unravel(x)
        update, state = optimizer.update(curvature * w, state, w)
        return jax.flatten_util.ravel_pytree((w + update, state))[0]

    return jax.jacfwd(step)(flat)


def _walk(name, surface, start, rate, decay, b2):
    """Return the points and losses of the library's path, and the updates made along it."""
    fun = lambda w: jax.lax.switch(surface, [s.fun for s in SURFACES.values()], w)
    optimizer = OPTIMIZERS[name](rate, decay=decay, b2=b2)
    path = descend(fun, start, optimizer, STEPS)

    def step(state, w):
        updates, state = optimizer.update(jax.grad(fun)(w), state, w, **_objective(name, fun))
        return state, updates

    _, updates = jax.lax.scan(step, optimizer.init(start), path.points[:-1])
    return path.points, path.values, updates


def _objective(name: str, fun: Callable[[jax.Array], jax.Array]) -> dict[str, Any]:
    return {"value_fn": fun} if name == "newton" else {}
