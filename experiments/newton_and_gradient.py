"""Newton's step needs few steps, the gradient many; with the tutorial's sign it finds no minimum.

Claim: from the usual starts of five surfaces, Newton's method (with a modified Hessian where it is
indefinite) needs fewer steps than the gradient, both with a strong Wolfe line search, and the
number of correct digits doubles at the end. The direction is -H^-1 g. The tutorial lost the minus:
with +H^-1 g the distance to a quadratic's minimum doubles in each step, and no surface's minimum is
found. The bare step, without search and modification, converges to stationary points of any kind:
from the middle of Himmelblau's function to its maximum. In float64.

Source: the backpropagation tutorial, section on Newton's method; Nocedal and Wright (2006), theorem
3.5 and section 3.4.
Command: python -m experiments.newton_and_gradient
Time: 8 s. Expected: steps of Newton and of the gradient: quadratic 1 and 413, Rosenbrock 21 and
11365, Beale 7 and 1070, Himmelblau 6 and 23, steep optima 3 and 8.
"""

import dataclasses
import sys
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most, between, equal
from experiments._runner import run_script
from jaxopt_tut.landscape import descend, surfaces
from jaxopt_tut.optimizers import line_search, minimize, newton, sgd
from jaxopt_tut.plotting import new_figure, plot_surface
from jaxopt_tut.plotting.style import legend_below, look, tidy

SURFACES = {
    "quadratic": surfaces.quadratic([1.0, 50.0]),
    "Rosenbrock": surfaces.rosenbrock,
    "Beale": surfaces.beale,
    "Himmelblau": surfaces.himmelblau,
    "steep optima": surfaces.steep_optima,
}
# (0, 0) lies in the plain, where all derivatives are rounding; here the Hessian is indefinite.
STARTS = {"steep optima": np.array([0.75, -0.5])}
NEWTON = newton()
GRADIENT = optax.chain(sgd(1.0), line_search.wolfe())
BARE = newton(line_search=optax.identity(), solve=jnp.linalg.solve)
WRONG = newton(-1.0, line_search=optax.identity(), solve=jnp.linalg.solve)
SHOWN = "Rosenbrock"
MAXIMUM = (-0.270845, -0.923039)
"""Himmelblau's only one."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    max_steps: int = 20000
    gtol: float = 1e-7
    wrong_steps: int = 30

    def quick(self) -> "Config":
        return dataclasses.replace(self, max_steps=5000)


class Result(NamedTuple):
    """For each surface."""

    steps: dict[str, dict[str, float]]
    """Until the gradient is small, infinity if it never is."""
    distance: dict[str, dict[str, float]]
    """From the end to the nearest minimum."""
    grad_norms: dict[str, np.ndarray]
    """Largest component of the gradient at each point of Newton's paths."""
    paths: dict[str, np.ndarray]
    """On `SHOWN`: 200 steps of the gradient, 50 of Newton."""
    wrong_values: np.ndarray
    """Of the quadratic, along steps of the wrong sign."""
    wrong_distance: dict[str, float]
    """From the end of such steps to the nearest minimum; not a number if they left the range."""
    to_maximum: float
    """From where the bare step ends on Himmelblau's function to its maximum."""


def start_of(name: str) -> np.ndarray:
    return np.asarray(STARTS.get(name, SURFACES[name].start), np.float64)


def to_minimum(name: str, point: np.ndarray) -> float:
    return float(np.linalg.norm(SURFACES[name].minima - point, axis=1).min())


def loss(w, which):
    """Return the value of one of the surfaces: a number says which, so that all share a program."""
    return jax.lax.switch(which, [surface.fun for surface in SURFACES.values()], w)


def run(config: Config) -> Result:
    steps, distance, histories, wrong = {}, {}, {}, {}
    with jax.enable_x64(True):
        ascend = jax.jit(
            lambda w, which: descend(partial(loss, which=which), w, WRONG, config.wrong_steps)
        )
        for which, name in enumerate(SURFACES):
            start = jnp.asarray(start_of(name))
            found = {
                "gradient": minimize(
                    loss, start, GRADIENT, which, max_steps=config.max_steps, gtol=config.gtol
                ),
                "Newton": minimize(
                    loss, start, NEWTON, which, max_steps=50, gtol=config.gtol, history=True
                ),
            }
            found = {method: jax.device_get(end) for method, end in found.items()}
            steps[name] = {n: float(e.steps) if e.converged else np.inf for n, e in found.items()}
            distance[name] = {n: to_minimum(name, e.params) for n, e in found.items()}
            histories[name] = found["Newton"].history
            wrong[name] = jax.device_get(ascend(start, which))
        which = list(SURFACES).index(SHOWN)
        start = jnp.asarray(start_of(SHOWN))
        slow = minimize(loss, start, GRADIENT, which, max_steps=200, history=True).history
        which = list(SURFACES).index("Himmelblau")
        middle = jnp.asarray(start_of("Himmelblau"))
        bare = minimize(loss, middle, BARE, which, max_steps=50, gtol=config.gtol)
    return Result(
        steps,
        distance,
        {
            name: np.asarray(h.grad_norm[: int(min(steps[name]["Newton"], 50)) + 1])
            for name, h in histories.items()
        },
        {"gradient": np.asarray(slow.params), "Newton": histories[SHOWN].params},
        wrong["quadratic"].values,
        {name: to_minimum(name, path.points[-1]) for name, path in wrong.items()},
        float(np.linalg.norm(np.asarray(bare.params) - np.array(MAXIMUM))),
    )


def order(grad_norms: np.ndarray) -> float:
    """Return the order p of |g_next| ~ |g|^p at the last step that rounding leaves alone."""
    good = [
        np.log(after) / np.log(before)
        for before, after in pairwise(grad_norms)
        if before < 0.1 and after > 1e-14
    ]
    return float(good[-1]) if good else np.nan


def check(result: Result) -> list[Claim]:
    claims = []
    for name, steps in result.steps.items():
        ratio = steps["Newton"] / steps["gradient"]
        claims.append(at_most(f"{name}: steps of Newton over steps of the gradient", ratio, 0.75))
        # The surfaces state their minima in float32: seven digits of numbers up to 4.
        claims.append(
            at_most(
                f"{name}: Newton's distance to a minimum", result.distance[name]["Newton"], 1e-5
            )
        )
    wrong = "+H^-1 g (the minus is missing)"
    growth = np.sqrt(result.wrong_values[10] / result.wrong_values[9])
    nearest = np.nanmin(list(result.wrong_distance.values()))
    return [
        *claims,
        equal("quadratic: steps of Newton", result.steps["quadratic"]["Newton"], 1, 0),
        # |g_next| = C |g|^2 with log C / log |g| of a few tenths.
        between(
            "Rosenbrock: order of convergence", order(result.grad_norms["Rosenbrock"]), 1.5, 2.5
        ),
        equal("wrong sign: growth of the distance a step", growth, 2.0, 1e-9, original=wrong),
        at_least("wrong sign: distance to the nearest minimum, smallest of all", nearest, 0.1),
        at_most("bare step on Himmelblau: distance to the maximum", result.to_maximum, 1e-5),
        at_most("Newton from there: to a minimum", result.distance["Himmelblau"]["Newton"], 1e-5),
    ]


def plot(result: Result):
    surface = SURFACES[SHOWN]
    figure = new_figure(11.0, 4.8)
    left, right = figure.subplots(1, 2)
    plot_surface(
        lambda w: jnp.log10(1e-3 + surface.fun(w)),
        surface.domain,
        result.paths,
        title="Rosenbrock: Newton, and 200 steps of the gradient",
        ax=left,
    )
    left.figure.axes[-1].set_ylabel("log10 of the loss + 0.001")
    for i, (method, places) in enumerate({"gradient": -0.2, "Newton": 0.2}.items()):
        numbers = [steps[method] for steps in result.steps.values()]
        bars = right.bar(
            np.arange(len(numbers)) + places, numbers, 0.38, color=look(i)["color"], label=method
        )
        right.bar_label(bars, [f"{number:g}" for number in numbers], fontsize="small")
    right.set_yscale("log")
    right.set_ylim(0.7, None)
    right.set_xticks(np.arange(len(result.steps)), list(result.steps), fontsize="small")
    legend_below(right)
    tidy(right, xlabel="", ylabel="steps until the gradient is small", title="Wolfe line search")
    return {"newton_and_gradient": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
