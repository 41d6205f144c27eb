"""Clipping a free minimum to its bounds ends at 1/(1 - rho^2) times the least value in them.

Question: May one minimise without the bounds and clip the answer to them?

Claim: on a quadratic of two correlated coordinates in a box, L-BFGS-B runs into one bound, follows
it, leaves it, and ends on another, in a few steps on each face, at the point of the closed form and
of SciPy's L-BFGS-B. Projected gradient descent ends at the same point in several times the steps.
The unconstrained path, clipped at its end, does not: with a correlation of rho its value is
1/(1 - rho^2) times the least one within the bounds, since the free coordinate does not move when
the other one is held. (The same point is where Newton's steps end that are clipped one by one.)
From a grid of starts all searches end at the minimum, and many of them leave a bound again.
In float64.

Why: When one coordinate is held, the best place of the others moves. Clipping leaves them where
they were, and the answer looks feasible and is not the minimum.

Source: beyond the tutorials; Byrd, Lu, Nocedal and Zhu (1995), https://doi.org/10.1137/0916069, and
Bertsekas (1976), section 2, https://doi.org/10.1109/TAC.1976.1101194.
Section: beyond B1.
Command: python -m experiments active_bounds
Expected: L-BFGS-B 6 steps, SciPy's 6, projected gradient 43; the clipped point is 6.8 times as bad.
Time: 7 s.
"""

import dataclasses
import sys
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize

from experiments._claims import Claim, at_least, at_most, equal
from experiments._runner import run_script
from jaxopt_tut.optimizers import lbfgs, lbfgsb, minimize, project, projections, sgd
from jaxopt_tut.plotting import new_figure, plot_lines
from jaxopt_tut.plotting.style import legend_below, look, tidy

BOUNDED, PROJECTED, CLIPPED = "L-BFGS-B", "projected gradient", "free, clipped at the end"
METHODS = (BOUNDED, PROJECTED, CLIPPED)
HESSIAN = np.array([[13.0, -12.0], [-12.0, 13.0]])
"""Curvatures 1 along the diagonal and 25 across it."""
TARGET = np.array([-1.0, 1.4])
"""The minimum without bounds."""
LOWER, UPPER = np.array([0.0, 0.0]), np.array([4.0, 3.0])
START = np.array([3.5, 1.0])
GTOL = 1e-9
EPS = float(np.finfo(np.float64).eps)
TOP = (1, 1)
"""The upper bound of the second coordinate: found on the way from `START`, and left."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_starts: int = 21
    """Of the grid, a side."""
    max_steps: int = 200

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_starts=7)


class Result(NamedTuple):
    """Paths from `START`, and ends from a grid of starts."""

    paths: dict[str, np.ndarray]
    """Points, shape (steps + 1, 2)."""
    active: np.ndarray
    """Which bounds `Solution` says hold at the end of L-BFGS-B."""
    scipy: np.ndarray
    """Where SciPy's L-BFGS-B ends."""
    scipy_steps: int
    grid_ends: np.ndarray
    """Shape (starts, 2)."""
    grid_left: np.ndarray
    """How many bounds each of them held on the way and not at the end."""


def loss(w) -> Any:
    return 0.5 * (w - TARGET) @ HESSIAN @ (w - TARGET)


def solution() -> np.ndarray:
    """Return the minimum in the box: the lower bound of the first coordinate holds, no other."""
    first = LOWER[0]
    return np.array([first, TARGET[1] - HESSIAN[1, 0] / HESSIAN[1, 1] * (first - TARGET[0])])


def bounds_held(points: np.ndarray) -> np.ndarray:
    """Say for each coordinate which bound it lies on: -1, 0 or 1."""
    return (points >= UPPER).astype(int) - (points <= LOWER)


def num_left(path: np.ndarray) -> int:
    """Return how many bounds hold after some step and not at the end."""
    held = bounds_held(path[1:])
    return sum(
        bool(np.any(held[:, i] == side) and held[-1, i] != side)
        for i in range(2)
        for side in (-1, 1)
    )


def follow(optimizer, bounds, start, max_steps) -> Any:
    return minimize(
        loss, start, optimizer, bounds=bounds, gtol=GTOL, max_steps=max_steps, history=True
    )


def run(config: Config) -> Result:
    box = (LOWER, UPPER)
    rate = 1 / np.linalg.eigvalsh(HESSIAN)[-1]
    into_box = optax.chain(sgd(rate), project(projections.box(*box)))
    problems = {BOUNDED: (lbfgsb(), box), PROJECTED: (into_box, None), CLIPPED: (lbfgs(), None)}
    with jax.enable_x64(True):
        runs = {
            name: follow(optimizer, bounds, jnp.asarray(START), config.max_steps)
            for name, (optimizer, bounds) in problems.items()
        }
        sides = [np.linspace(a, b, config.num_starts) for a, b in zip(LOWER, UPPER, strict=True)]
        starts = jnp.asarray(np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2))
        grid = jax.vmap(partial(follow, lbfgsb(), box, max_steps=config.max_steps))(starts)
    theirs = scipy.optimize.minimize(
        loss,
        START,
        jac=lambda w: HESSIAN @ (w - TARGET),
        method="L-BFGS-B",
        bounds=list(zip(*box, strict=True)),
        options={"gtol": GTOL, "ftol": 0.0},
    )
    return Result(
        paths={name: _path(found.history.params, found.steps) for name, found in runs.items()},
        active=np.asarray(runs[BOUNDED].active),
        scipy=theirs.x,
        scipy_steps=theirs.nit,
        grid_ends=np.asarray(grid.params),
        grid_left=np.array(
            [
                num_left(_path(points, steps))
                for points, steps in zip(grid.history.params, grid.steps, strict=True)
            ]
        ),
    )


def _path(points, steps) -> np.ndarray:
    return np.asarray(points)[: int(steps) + 1]


def check(result: Result) -> list[Claim]:
    path, exact = result.paths[BOUNDED], solution()
    steps = {name: len(points) - 1 for name, points in result.paths.items()}
    clipped = np.clip(result.paths[CLIPPED][-1], LOWER, UPPER)
    correlation = HESSIAN[0, 1] / np.sqrt(HESSIAN[0, 0] * HESSIAN[1, 1])
    distance = lambda point, other=exact: float(np.linalg.norm(point - other))
    # A gradient of at most gtol in both coordinates, over the least curvature, which is 1.
    near = np.sqrt(2) * GTOL / np.linalg.eigvalsh(HESSIAN)[0]
    held = bounds_held(path[1:])
    on_top = held[:, TOP[0]] == TOP[1]
    return [
        # Of two coordinates, BFGS ends two steps after the first on each of the three faces.
        at_most("L-BFGS-B: steps", steps[BOUNDED], 9),
        at_least(
            "projected gradient: steps, over L-BFGS-B's", steps[PROJECTED] / steps[BOUNDED], 3
        ),
        at_most("L-BFGS-B: steps, over SciPy's", steps[BOUNDED] / result.scipy_steps, 1.5),
        at_least("L-BFGS-B: steps after which the upper bound of w2 holds", on_top.sum(), 1),
        at_most("the same at the end", float(on_top[-1]), 0),
        at_most(
            "bounds that hold at the end, by solution.active: differences from the closed form",
            np.abs(result.active - np.array([-1, 0])).sum(),
            0,
        ),
        at_most(
            "L-BFGS-B: largest distance over a bound, at any step",
            np.maximum(LOWER - path, path - UPPER).max(),
            0,
        ),
        at_most("L-BFGS-B: distance from the closed form", distance(path[-1]), near),
        at_most("projected gradient: the same", distance(result.paths[PROJECTED][-1]), near),
        at_most("L-BFGS-B: distance from SciPy's", distance(path[-1], result.scipy), 2 * near),
        # Both values are known to the gradient there, of length 13 or less, times the distance.
        equal(
            "clipped: value over the least, against 1/(1 - rho^2)",
            loss(clipped) / loss(exact),
            1 / (1 - correlation**2),
            1e2 * near,
            headline=True,
        ),
        # what the other coordinate should have moved: |H12 / H22| times the overshoot of 1
        equal(
            "clipped: distance from the minimum",
            distance(clipped),
            abs(HESSIAN[0, 1] / HESSIAN[1, 1] * (LOWER[0] - TARGET[0])),
            near,
        ),
        at_most(
            "from a grid of starts: largest distance from the minimum",
            np.linalg.norm(result.grid_ends - exact, axis=1).max(),
            near,
        ),
        # A quarter is no oddity of one start.
        at_least(
            "share of those that held a bound and left it",
            float(np.mean(result.grid_left > 0)),
            0.25,
        ),
    ]


def plot(result: Result):
    figure = new_figure(11, 5)
    plane, gaps = figure.subplots(1, 2, width_ratios=[1.3, 1])
    first, second = np.linspace(-1.7, 4.3, 200), np.linspace(-0.3, 3.5, 200)
    offset = np.stack(np.meshgrid(first, second), axis=-1) - TARGET
    values = 0.5 * np.einsum("...i,ij,...j", offset, HESSIAN, offset)
    levels = [0.25, loss(solution()), 3, 7, 15, 30, 60, 120, 240]
    plane.contour(first, second, values, levels, colors="0.7", linewidths=0.8)
    corners = np.array([LOWER, [UPPER[0], LOWER[1]], UPPER, [LOWER[0], UPPER[1]], LOWER])
    plane.fill(*corners.T, facecolor="0.93", edgecolor="k", linewidth=1.4, zorder=0, label="box")
    for i in (1, 2, 0):  # the one that the title is about on top
        plane.plot(*result.paths[METHODS[i]].T, label=METHODS[i], linewidth=1.6, **look(i))
    free = result.paths[CLIPPED][-1]
    clipped = np.clip(free, LOWER, UPPER)
    plane.plot(*np.array([free, clipped]).T, color=look(2)["color"], linestyle=":")
    plane.plot(*clipped, "kX", markersize=10, linestyle="", label="clipped", zorder=4)
    plane.plot(*solution(), "k*", markersize=14, linestyle="", label="bounded minimum", zorder=4)
    tidy(
        plane,
        xlabel="$w_1$",
        ylabel="$w_2$",
        title="L-BFGS-B finds the upper bound, leaves it, and ends on the left one",
    )
    plane.grid(visible=False)
    plane.set_aspect("equal")
    legend_below(plane, columns=3)
    least, shown = loss(solution()), 40
    curves = {}
    for name, path in result.paths.items():
        inside = np.clip(path, LOWER, UPPER)  # only the unconstrained one is ever outside
        gap = np.array([loss(point) for point in inside]) - least
        curves[name] = np.pad(np.maximum(gap, 1e-12), (0, shown), mode="edge")[: shown + 1]
    plot_lines(
        np.arange(shown + 1),
        curves,
        xlabel="step",
        ylabel="loss above the least in the box (cut at 1e-12)",
        yscale="log",
        title="Clipping the free minimum leaves a gap for good",
        ax=gaps,
    )
    legend_below(gaps, columns=2)
    return {"paths": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
