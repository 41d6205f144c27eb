"""With zero times infinity taken as zero, twenty guarded functions have their right derivatives.

Question: Can the NaN of a guarded function be avoided without rewriting the function?

Claim: a guard such as where(z > 0, z, alpha (exp(z) - 1)) protects the value and not the
derivative: JAX multiplies the zero cotangent of the branch not taken with its infinite slope.
`autodiff.zero_safe` takes that product as zero. The tutorial's ELU then has the slope 1 at z = 800
as it stands, and so have twenty functions that guard a singular point the derivative of their
closed form, to rounding, where JAX says NaN. Values stay the same to the bit. The convention has a
price: sqrt(x)**2 at 0 gets the slope 0, and the truth is 1.

Why: A `where` that guards a singular point protects the value only, which is a common source of NaN
gradients. The remedy by convention has a price, and the table shows where.

Source: Technion tutorial 5, its ELU; the zero-safe rule is this library's own.
Section: B3.
Command: python -m experiments guarded_functions
Expected: NaN in all of twenty for JAX, in none for `zero_safe`; 0 against 1 in one row.
Time: 11 s.
"""

import dataclasses
import math
import sys
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_least, at_most, equal
from experiments._runner import run_script
from jaxopt_tut import autodiff
from jaxopt_tut.plotting import new_figure, plot_lines
from jaxopt_tut.plotting.style import COLORS, legend_below, tidy

ALPHA, TRAP = 0.5, 800.0
PLAIN, SAFE = "JAX", "zero_safe"
CONVENTION = "sqrt(x)**2"


def guard(condition, value):
    return jnp.where(condition, value, 0.0)


class Guarded(NamedTuple):
    """A function, where it is guarded, and the derivative of its closed form there."""

    fun: Callable
    point: float
    truth: float


def norm(x):
    """The norm of (x, 0, 0): its least subgradient at zero is zero."""
    return jnp.sqrt(jnp.sum(jnp.stack([x, 0 * x, 0 * x]) ** 2))


def spread(x):
    """The standard deviation of four equal numbers (their mean is exact): one is moved."""
    return jnp.std(jnp.stack([x, *[jnp.ones_like(x)] * 3]))


def distances(x):
    """All distances within (x, 2, 5), those of a point to itself too."""
    points = jnp.stack([x, jnp.full_like(x, 2.0), jnp.full_like(x, 5.0)])
    return jnp.sum(jnp.sqrt((points[:, None] - points[None]) ** 2))


FUNCTIONS = {
    "elu": Guarded(lambda z: jnp.where(z > 0, z, ALPHA * (jnp.exp(z) - 1)), TRAP, 1.0),
    "softplus": Guarded(lambda z: jnp.where(z > 30, z, jnp.log(1 + jnp.exp(z))), TRAP, 1.0),
    "softsign of exp": Guarded(lambda z: jnp.where(z > 30, 1.0, jnp.exp(z) / (1 + jnp.exp(z))),
                               TRAP, 0.0),
    "sqrt": Guarded(lambda x: guard(x > 0, jnp.sqrt(x)), 0.0, 0.0),
    "sqrt, negative": Guarded(lambda x: guard(x > 0, jnp.sqrt(x)), -1.0, 0.0),
    "sqrt(max(x, 0))": Guarded(lambda x: jnp.sqrt(jnp.maximum(x, 0.0)), -1.0, 0.0),
    "rsqrt": Guarded(lambda x: guard(x > 0, jax.lax.rsqrt(x)), 0.0, 0.0),
    "cbrt": Guarded(lambda x: guard(x != 0, jnp.cbrt(x)), 0.0, 0.0),
    "x**0.3": Guarded(lambda x: guard(x > 0, x**0.3), 0.0, 0.0),
    "1 / x": Guarded(lambda x: guard(x != 0, 1 / x), 0.0, 0.0),
    "log": Guarded(lambda x: guard(x > 0, jnp.log(x)), 0.0, 0.0),
    "log1p": Guarded(lambda x: guard(x > -1, jnp.log1p(x)), -1.0, 0.0),
    "entropy": Guarded(lambda p: guard(p > 0, -p * jnp.log(p)), 0.0, 0.0),
    "sin(x) / x": Guarded(lambda x: jnp.where(x == 0, 1.0, jnp.sin(x) / x), 0.0, 0.0),
    "arccos": Guarded(lambda x: guard(jnp.abs(x) < 1, jnp.arccos(x)), 1.0, 0.0),
    "arctanh": Guarded(lambda x: guard(jnp.abs(x) < 1, jnp.arctanh(x)), 1.0, 0.0),
    "arctan2": Guarded(lambda x: guard(x != 0, jnp.arctan2(x, 2 * x)), 0.0, 0.0),
    "norm": Guarded(norm, 0.0, 0.0),
    "standard deviation": Guarded(spread, 1.0, 0.0),
    "pairwise distances": Guarded(distances, 0.0, -4.0),
    CONVENTION: Guarded(lambda x: jnp.sqrt(x) ** 2, 0.0, 1.0),
}  # fmt: skip
"""Twenty guarded functions, and the one where the product has a limit that is lost."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_points: int = 2001
    """Between 80 and 100, for the ELU's derivative."""

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_points=401)


class Row(NamedTuple):
    """One function: whether its value stays the same, and its slope by JAX, ours and truth."""

    same_value: bool
    plain: float
    safe: float
    engine: float
    truth: float


class Result(NamedTuple):
    """The table, and the ELU near the largest exponential."""

    rows: dict[str, Row]
    z: np.ndarray
    slopes: dict[str, np.ndarray]
    second: float
    """Second derivative of the guarded root at 0."""
    site: str
    """What `zero_products` says of the ELU at the trap: operation and file."""


def run(config: Config) -> Result:
    rows = {}
    for name, (fun, point, truth) in FUNCTIONS.items():
        safe, x = autodiff.zero_safe(fun), jnp.float32(point)
        slopes = jax.jit(lambda x, f=fun, s=safe: (jax.grad(f)(x), jax.grad(s)(x)))(x)
        rows[name] = Row(
            same_value=np.asarray(safe(x)).tobytes() == np.asarray(fun(x)).tobytes(),
            plain=float(slopes[0]),
            safe=float(slopes[1]),
            engine=float(autodiff.grad(fun, zero_safe=True)(x)),
            truth=truth,
        )
    elu = FUNCTIONS["elu"].fun
    z = np.linspace(80, 100, config.num_points, dtype=np.float32)
    slope = lambda f: np.asarray(jax.jit(jax.vmap(jax.grad(f)))(z))
    root = autodiff.zero_safe(FUNCTIONS["sqrt"].fun)
    (site,) = autodiff.zero_products(elu)(TRAP)
    return Result(
        rows=rows,
        z=z,
        slopes={PLAIN: slope(elu), SAFE: slope(autodiff.zero_safe(elu))},
        second=float(jax.grad(jax.grad(root))(0.0)),
        site=f"{site.op}, {site.source.split(':')[0]}",
    )


def check(result: Result) -> list[Claim]:
    guarded = [row for name, row in result.rows.items() if name != CONVENTION]
    # NumPy's largest is NaN if one is, unlike Python's
    error = np.max([abs(row.safe - row.truth) for row in guarded])
    between = np.max([abs(row.safe - row.engine) for row in result.rows.values()])
    price = result.rows[CONVENTION]
    eps = float(np.finfo(np.float32).eps)
    return [
        equal("guarded functions", len(guarded), 20, 0),
        at_least("of them NaN in JAX", sum(math.isnan(row.plain) for row in guarded), 20),
        # The distances sum four slopes of one; the others are exact.
        at_most("largest error of zero_safe's slopes", error, 4 * eps, headline=True),
        at_most("largest difference between JAX on it and our engine", between, 4 * eps),
        equal("values that stay the same to the bit", sum(r.same_value for r in guarded), 20, 0),
        at_most("ELU: NaN between 80 and 100", int(np.isnan(result.slopes[SAFE]).sum()), 0),
        at_least("ELU in JAX: NaN there", int(np.isnan(result.slopes[PLAIN]).sum()), 1),
        equal("second derivative of the guarded root at 0", result.second, 0, 0),
        equal(
            "the ELU's site is its exponential, in this file",
            float(result.site == "exp, guarded_functions.py"),
            1,
            0,
        ),
        equal("the price: slope of sqrt(x)**2 at 0, which is 1", price.safe, 0, 0),
    ]


def plot(result: Result):
    graph = autodiff.trace(autodiff.zero_safe(FUNCTIONS["elu"].fun))(TRAP)
    values = graph.evaluate(TRAP)
    adjoints = graph.backpropagate(values, 1.0)
    picture = autodiff.draw(graph, values, adjoints, max_nodes=len(graph.nodes))
    figure = new_figure(10, 5.8)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.2))
    plot_lines(
        result.z,
        result.slopes,
        xlabel="z",
        ylabel="derivative of the ELU",
        title="Where exp(z) overflows (grey) JAX says NaN",
        ax=left,
    )
    nan = np.isnan(result.slopes[PLAIN])
    left.fill_between(result.z, 0, 1.2, where=nan, color="0.85", linewidth=0)
    left.set_ylim(0, 1.2)
    names = [f"{name}, at {FUNCTIONS[name].point:g}" for name in result.rows]
    places = np.arange(len(names))
    for label, marker, size, slopes in (
        ("truth", "o", 9, [row.truth for row in result.rows.values()]),
        (SAFE, "x", 6, [row.safe for row in result.rows.values()]),
        (PLAIN, "s", 6, [row.plain for row in result.rows.values()]),
    ):
        num_nan = int(np.isnan(slopes).sum())
        label += f" (NaN in all {num_nan})" if num_nan == len(names) else ""
        color = COLORS[{PLAIN: 0, SAFE: 1}.get(label.split()[0], 2)]
        right.plot(
            slopes, places, marker, label=label, color=color, markersize=size, fillstyle="none"
        )
    right.set_yticks(places, names, fontsize="small")
    right.invert_yaxis()
    legend_below(right)
    tidy(
        right,
        xlabel="slope at the guarded point",
        ylabel="",
        title=f"{SAFE} is true but for sqrt(x)**2",
    )
    return {"graph": picture, "slopes": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
