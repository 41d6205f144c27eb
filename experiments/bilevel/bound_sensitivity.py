"""The least value changes with a bound at the rate of minus the multiplier of the bound.

Question: What is a bound worth: how does the least value change when the bound moves?

Claim: the value V(b) = min f(y) over y <= b has the derivative -lambda in its bounds, where
lambda = max(0, -grad f(y*)) are the multipliers: zero for every bound that does not hold. It comes
out of `hypergrad` with the bounds as hyper-parameters, by L-BFGS-B and the projected-gradient
condition, and is that of the closed form and of central differences. Where a bound becomes active
as it is lowered, lambda starts at zero: V' is continuous there, and V'' jumps from the curvature
that is left when the other coordinates follow, H11 - H12^2 / H22, to 0. The solution's derivative
jumps itself: from (1, -H12 / H22), the held coordinate with the others following, to 0. What is
returned at the kink lies between the two. In float64.

Why: The multiplier is the price of a constraint. Prices are smooth where solutions have a kink, so
that a derivative of the solution has to be read with care at a bound that is just active.

Source: beyond the tutorials; Fiacco and McCormick (1968), section 2.4; Nocedal and Wright (2006),
section 12.8; Bonnans and Shapiro (2000), section 4.3, for the kink.
Section: beyond B4.
Command: python -m experiments bound_sensitivity
Expected: relative error of the six multipliers 1e-14, of dy/db 1e-15; jump of dy/db (-1, .5).
Time: 11 s.
"""

import dataclasses
import itertools
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_least, at_most, between
from experiments._runner import run_script
from jaxopt_tut.bilevel import Implicit, Minimize, argmin, hypergrad
from jaxopt_tut.optimizers import lbfgsb
from jaxopt_tut.plotting import new_figure, plot_lines
from jaxopt_tut.plotting.style import legend_below, look, tidy

HESSIAN = np.array([[2.0, 1.0], [1.0, 2.0]])
KINK = 1.0
"""Without a bound the minimum is at (1, 1)."""
SPACING = 1e-4
"""Of the central differences of the value, which is quadratic in its bounds between kinks."""
GTOL = 1e-12
EPS = float(np.finfo(np.float64).eps)


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_bounds: int = 61
    """Of the sweep through the kink, which is the middle one."""
    size: int = 6
    """Unknowns of the random problem."""
    seed: int = 3

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_bounds=21)


class Result(NamedTuple):
    """Of a random quadratic with a bound on each unknown; of a sweep of one bound of two."""

    multipliers: np.ndarray
    """By the closed form: minus the derivatives of the value in the bounds."""
    slopes: np.ndarray
    """Derivatives of the value, by `hypergrad`."""
    differences: np.ndarray
    """By central differences."""
    condition: float
    """Of the random Hessian."""
    bounds: np.ndarray
    """The sweep; the kink is its middle."""
    values: np.ndarray
    solutions: np.ndarray
    """Shape (bounds, 2)."""
    value_slopes: np.ndarray
    solution_slopes: np.ndarray
    """Shape (bounds, 2)."""


def quadratic(y, z):
    return 0.5 * y @ z["hessian"] @ y - z["pull"] @ y


SOLVER = Minimize(lbfgsb(), bounds=lambda z: (None, z["bounds"]))
OPTIONS = {"solver": SOLVER, "steps": 100, "tol": GTOL, "diff": Implicit()}


def closed_form(hessian, pull, bounds):
    """Return the solution and its multipliers, by trying all sets of bounds that hold."""
    size = len(pull)
    for held in itertools.product([False, True], repeat=size):
        on = np.array(held)
        y = np.where(on, bounds, 0.0)
        free = np.ix_(~on, ~on)
        y[~on] = np.linalg.solve(hessian[free], pull[~on] - hessian[np.ix_(~on, on)] @ y[on])
        multipliers = np.where(on, pull - hessian @ y, 0.0)
        if np.all(y <= bounds) and np.all(multipliers >= 0):
            return y, multipliers
    raise ValueError("no set of bounds fulfils the conditions of a minimum.")


def run(config: Config) -> Result:
    rng = np.random.default_rng(config.seed)
    factor = rng.normal(size=(config.size, config.size))
    hessian = factor @ factor.T / config.size + 0.5 * np.eye(config.size)
    pull, bounds = rng.normal(size=config.size) * 2, rng.uniform(0, 1, size=config.size)
    with jax.enable_x64(True):
        start = jnp.zeros(config.size)
        z = {"hessian": jnp.asarray(hessian), "pull": jnp.asarray(pull)}

        def value(bounds):
            at = z | {"bounds": bounds}
            found, grads, _ = hypergrad(quadratic, quadratic, start, at, **OPTIONS)
            return found, grads["z"]["bounds"]

        around = bounds + SPACING * np.concatenate(
            [np.zeros((1, config.size)), np.eye(config.size), -np.eye(config.size)]
        )
        values, slopes = jax.device_get(jax.jit(jax.vmap(value))(jnp.asarray(around)))
        sweep = KINK + np.linspace(-1, 1, config.num_bounds)
        swept = jax.device_get(jax.jit(jax.vmap(sweep_at))(jnp.asarray(sweep)))
    ahead, behind = values[1:].reshape(2, -1)
    return Result(
        multipliers=closed_form(hessian, pull, bounds)[1],
        slopes=slopes[0],
        differences=(ahead - behind) / (2 * SPACING),
        condition=float(np.linalg.cond(hessian)),
        bounds=sweep,
        **swept,
    )


def sweep_at(bound):
    """Bound the first of two unknowns; differentiate value and solution in that bound."""
    hessian = jnp.asarray(HESSIAN)
    fixed = {"hessian": hessian, "pull": hessian @ jnp.full(2, KINK)}
    at = lambda bound: fixed | {"bounds": jnp.stack([bound, jnp.inf])}
    solve = lambda bound: argmin(quadratic, jnp.zeros(2), at(bound), **OPTIONS).y
    value = lambda bound: quadratic(solve(bound), at(bound))
    values, value_slopes = jax.value_and_grad(value)(bound)
    solutions, solution_slopes = jax.jvp(solve, (bound,), (jnp.ones_like(bound),))
    return {
        "values": values,
        "solutions": solutions,
        "value_slopes": value_slopes,
        "solution_slopes": solution_slopes,
    }


def swept_by_formula(bounds: np.ndarray) -> dict[str, np.ndarray]:
    """Return multiplier and derivative of the solution below and above the kink, at each bound."""
    left = np.minimum(bounds - KINK, 0)
    rest = HESSIAN[0, 0] - HESSIAN[0, 1] ** 2 / HESSIAN[1, 1]
    following = np.array([1.0, -HESSIAN[0, 1] / HESSIAN[1, 1]])
    holds = (bounds < KINK)[:, None]
    return {
        "multipliers": -rest * left,
        "solutions": KINK + left[:, None] * following,
        "solution_slopes": holds * following,
    }


def check(result: Result) -> list[Claim]:
    largest = np.abs(result.multipliers).max()
    off = lambda slopes: np.abs(slopes + result.multipliers).max() / largest
    law = swept_by_formula(result.bounds)
    middle = len(result.bounds) // 2
    away = np.arange(len(result.bounds)) != middle
    slope_error = np.abs(result.solution_slopes - law["solution_slopes"])[away].max()
    spacing = result.bounds[1] - result.bounds[0]
    central = (result.solutions[2:] - result.solutions[:-2]) / (2 * spacing)
    beside = np.abs(np.arange(1, len(result.bounds) - 1) - middle) > 1
    central_error = np.abs(central - result.solution_slopes[1:-1])[beside].max()
    jump = result.solution_slopes[middle + 1] - result.solution_slopes[middle - 1]
    formula_jump = law["solution_slopes"][middle + 1] - law["solution_slopes"][middle - 1]
    at_kink = result.solution_slopes[middle, 0]
    rest = HESSIAN[0, 0] - HESSIAN[0, 1] ** 2 / HESSIAN[1, 1]
    bends = np.diff(result.value_slopes) / spacing
    # The solution is known to gtol over the least curvature, the gradient there to gtol times the
    # condition number; linear systems lose as many digits of eps.
    near = result.condition * (GTOL + 10 * EPS)
    near_sweep = np.linalg.cond(HESSIAN) * (GTOL + 10 * EPS)
    return [
        at_most(
            "dV/db against minus the multipliers, relative",
            off(result.slopes),
            near / largest,
            headline=True,
        ),
        # V is a quadratic: only rounding is left, of values of about 1, over the spacing.
        at_most(
            "central differences of V against them, relative",
            off(result.differences),
            10 * result.condition * EPS / SPACING / largest,
        ),
        between(
            "bounds that hold, of six",
            int(np.sum(result.multipliers > 0)),
            1,
            len(result.multipliers) - 1,
        ),
        at_most(
            "largest |dV/db| of a bound that does not hold",
            np.abs(result.slopes[result.multipliers == 0]).max(initial=0),
            0,
        ),
        at_most(
            "sweep: dV/db against the closed form",
            np.abs(result.value_slopes + law["multipliers"]).max(),
            near_sweep,
        ),
        at_most(
            "sweep: dV/db at the kink, which is continuous there",
            np.abs(result.value_slopes[middle]),
            near_sweep,
        ),
        at_most(
            "sweep: d2V/db2 below and above the kink, against (H11 - H12^2 / H22, 0)",
            np.hypot(bends[middle - 1] - rest, bends[middle]),
            # a difference of two slopes over the spacing, and one of those is that of the kink
            4 * near_sweep / spacing,
        ),
        at_most("sweep: dy/db against the closed form, beside the kink", slope_error, near_sweep),
        at_most(
            "sweep: dy/db against central differences, away from the kink",
            central_error,
            2 * near_sweep / spacing,
        ),
        at_most(
            "jump of dy/db across the kink, against -(1, -H12 / H22)",
            np.abs(jump - formula_jump).max(),
            2 * near_sweep,
        ),
        at_least("size of that jump", np.abs(jump).max(), 0.99),
        between("dy1/db returned at the kink, between the one-sided 0 and 1", at_kink, 0.0, 1.0),
    ]


def plot(result: Result):
    figure = new_figure(12, 4.4)
    curve, slopes, jumps = figure.subplots(1, 3)
    middle = len(result.bounds) // 2
    plot_lines(
        result.bounds,
        {"V(b)": result.values},
        xlabel="bound b on $y_1$",
        ylabel="least value",
        title="The value bends smoothly",
        ax=curve,
    )
    plot_lines(
        result.bounds,
        {
            "dV/db by hypergradient": result.value_slopes,
            "minus the multiplier": -swept_by_formula(result.bounds)["multipliers"],
        },
        xlabel="bound b on $y_1$",
        ylabel="derivative of the value",
        title="Its derivative is minus the multiplier",
        ax=slopes,
    )
    law = swept_by_formula(result.bounds)["solution_slopes"]
    for i, name in enumerate(("$dy_1/db$", "$dy_2/db$")):
        colour = look(i)["color"]
        slope = result.solution_slopes[:, i]
        broken = np.where(np.arange(len(slope)) == middle, np.nan, slope)
        jumps.plot(result.bounds, broken, label=name, color=colour, linewidth=2)
        ends = [law[middle - 1, i], law[middle, i]]  # what each side tends to
        jumps.plot([KINK] * 2, ends, "o", color=colour, markerfacecolor="white", linestyle="")
        jumps.plot(KINK, slope[middle], "X", color=colour, markersize=8, linestyle="")
    jumps.plot([], [], "X", color="0.4", label="returned at the kink")
    tidy(
        jumps,
        xlabel="bound b on $y_1$",
        ylabel="derivative of the solution",
        title="The solution's derivative jumps",
    )
    for ax in (curve, slopes, jumps):
        ax.axvline(KINK, color="0.5", linewidth=0.9, linestyle=":", zorder=0)
    for ax in (slopes, jumps):
        legend_below(ax, columns=2)
    return {"kink": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
