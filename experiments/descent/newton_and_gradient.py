"""On five surfaces Newton's method takes at most three quarters of the gradient's steps.

Question: What does second-order information save, and what does its sign do?

Claim: from the usual starts of five surfaces, Newton's method (with a modified Hessian where it is
indefinite) needs fewer steps than the gradient, both with a strong Wolfe line search, and the
number of correct digits doubles at the end. The direction is -H^-1 g. The tutorial lost the minus:
with +H^-1 g the distance to a quadratic's minimum doubles in each step, and no surface's minimum is
found. The bare step, without search and modification, converges to stationary points of any kind:
from the middle of Himmelblau's function to its maximum. In float64.

Why: Near a minimum Newton doubles the correct digits in each step. With a lost minus, or where the
Hessian is indefinite, the same step runs away or to a maximum.

Source: Technion tutorial 5, Newton's method; Nocedal and Wright (2006), theorem 3.5 and section
3.4.
Section: B1.
Command: python -m experiments newton_and_gradient
Expected: steps of Newton and of the gradient: quadratic 1 and 3, Rosenbrock 21 and 8028, Beale 7
and 704, Himmelblau 6 and 26, steep optima 3 and 4.
Time: 9 s.
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
RIGHT_SIGN, WRONG_SIGN = 1.0, -1.0
SHOWN = "Rosenbrock"
MAXIMUM = (-0.270845, -0.923039)
"""Himmelblau's only one."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    max_steps: int = 20000
    gtol: float = 1e-7
    bare_steps: int = 30

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
    """On `SHOWN`: The first 200 steps at most."""
    wrong_path: np.ndarray
    """Distances to the quadratic's minimum along steps of the wrong sign."""
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


def bare_step(sign):
    """Return Newton's method without a search and with the Hessian as it is."""
    return newton(sign, line_search=optax.identity(), solve=jnp.linalg.solve)


def run(config: Config) -> Result:
    steps, distance, histories, wrong = {}, {}, {}, {}
    limits = {"gradient": (GRADIENT, config.max_steps), "Newton": (NEWTON, 50)}
    with jax.enable_x64(True):

        @jax.jit
        def follow(start, which, sign):
            fun = partial(loss, which=which)
            return descend(fun, start, bare_step(sign), config.bare_steps).points

        for which, name in enumerate(SURFACES):
            start = jnp.asarray(start_of(name))
            steps[name], distance[name], histories[name] = {}, {}, {}
            for method, (optimizer, max_steps) in limits.items():
                end = minimize(
                    loss,
                    start,
                    optimizer,
                    which,
                    max_steps=max_steps,
                    gtol=config.gtol,
                    history=True,
                )
                end = jax.device_get(end)
                steps[name][method] = float(end.steps) if end.converged else np.inf
                distance[name][method] = to_minimum(name, end.params)
                histories[name][method] = jax.tree.map(lambda x: x[:201], end.history)
            wrong[name] = np.asarray(follow(start, which, WRONG_SIGN))
        middle = jnp.asarray(start_of("Himmelblau"))
        bare = np.asarray(follow(middle, list(SURFACES).index("Himmelblau"), RIGHT_SIGN))
    quadratic = np.linalg.norm(wrong["quadratic"], axis=1)  # its minimum is the origin
    return Result(
        steps,
        distance,
        {name: found["Newton"].grad_norm for name, found in histories.items()},
        {method: history.params for method, history in histories[SHOWN].items()},
        quadratic,
        {name: to_minimum(name, points[-1]) for name, points in wrong.items()},
        float(np.linalg.norm(bare[-1] - np.array(MAXIMUM))),
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
    growth = result.wrong_path[10] / result.wrong_path[9]
    nearest = np.nanmin(list(result.wrong_distance.values()))
    ratios = [steps["Newton"] / steps["gradient"] for steps in result.steps.values()]
    text = f"steps of Newton over steps of the gradient, largest of {len(ratios)} surfaces"
    return [
        *claims,
        at_most(text, max(ratios), 0.75, headline=True),
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
        title="Rosenbrock: Newton arrives, the gradient not in 200 steps",
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
    tidy(
        right,
        xlabel="",
        ylabel="steps until the gradient is small",
        title="Newton takes fewer steps on all surfaces",
    )
    return {"newton_and_gradient": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
