"""Finite differences lose half or a third of the digits; the complex step and autodiff lose none.

Question: How exact is a derivative by finite differences, and at which step?

Claim: for sin(2x) + exp(2x) the error of the forward difference falls like h, of the central one
like h^2, until rounding, which grows like 1/h, takes over. The best step is 2 sqrt(eta / |f''|) for
the forward and (3 eta / |f'''|)^(1/3) for the central difference (eta: the size of the rounding
errors of f), and the best relative error about eps^(1/2) and eps^(2/3). The complex step
Im f(x + ih) / h falls like h^2 too but subtracts nothing: at h = 1e-18 it is exact to rounding, as
is backpropagation, which needs no h. In float64 and float32.

Why: Finite differences are how derivatives are checked. Whoever knows their floor does not take
rounding for a wrong gradient, or a wrong gradient for rounding.

Source: Technion tutorial 5, finite differences; Squire and Trapp (1998), eq. 1, for the complex
step. Root mean squares over random points, so that no lucky zero decides.
Section: B2.
Command: python -m experiments finite_differences
Expected: best errors in float64: forward 1e-8, central 1e-11, complex 1e-16.
Time: 2 s.
"""

import dataclasses
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_most, between, equal
from experiments._runner import run_script
from jaxopt_tut import autodiff
from jaxopt_tut.plotting import new_figure, plot_lines

DTYPES = ("float64", "float32")
FORWARD, CENTRAL, COMPLEX = "forward", "central", "complex step"


def fun(x):
    return jnp.sin(2 * x) + jnp.exp(2 * x)


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_points: int = 400
    """Random points, uniform in [.5, 1.5]."""
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_points=100)


class Result(NamedTuple):
    """Per dtype; errors are relative, root mean squares over the points."""

    steps: np.ndarray
    """Powers of two, falling, so that h itself is exact."""
    errors: dict[str, dict[str, np.ndarray]]
    """For each method shape (steps,)."""
    autodiff_error: dict[str, float]
    best_steps: dict[str, dict[str, float]]
    """What theory says for the forward and the central difference."""


def differences(x, steps):
    """Return the derivative by every method for every step, shape (steps, points)."""
    h = steps[:, None]
    ahead, behind, here = fun(x + h), fun(x - h), fun(x)
    return {
        FORWARD: (ahead - here) / h,
        CENTRAL: (ahead - behind) / (2 * h),
        COMPLEX: jnp.imag(fun(jax.lax.complex(*jnp.broadcast_arrays(x, h)))) / h,
    }


def run(config: Config) -> Result:
    steps = 2.0 ** -np.arange(1, 61)
    points = np.random.default_rng(config.seed).uniform(0.5, 1.5, config.num_points)
    points = points.astype(np.float32).astype(np.float64)  # the same points in both precisions
    exact = 2 * np.cos(2 * points) + 2 * np.exp(2 * points)
    second = -4 * np.sin(2 * points) + 4 * np.exp(2 * points)
    third = -8 * np.cos(2 * points) + 8 * np.exp(2 * points)
    errors, autodiff_error, best_steps = {}, {}, {}
    for dtype in DTYPES:
        with jax.enable_x64(True):
            x = jnp.asarray(points, dtype)
            found = jax.jit(differences)(x, jnp.asarray(steps, dtype))
            gradient = jax.jit(jax.vmap(autodiff.grad(fun)))(x)
        errors[dtype] = {name: _rms(found[name], exact) for name in (FORWARD, CENTRAL, COMPLEX)}
        autodiff_error[dtype] = float(_rms(gradient, exact))
        # Rounding to nearest: errors spread evenly over a unit of the last place of f.
        eta = _typical(np.finfo(dtype).eps * np.exp(2 * points)) / np.sqrt(12)
        best_steps[dtype] = {
            FORWARD: 2 * np.sqrt(eta / _typical(second)),
            CENTRAL: np.cbrt(3 * eta / _typical(third)),
        }
    return Result(steps, errors, autodiff_error, best_steps)


def _rms(found, exact) -> np.ndarray:
    return np.sqrt(np.mean(np.square(np.asarray(found, np.float64) / exact - 1), axis=-1))


def _typical(numbers) -> float:
    return float(np.median(np.abs(numbers)))


def _slope(result: Result, dtype: str, name: str, low: int, high: int) -> float:
    """Fit the exponent of the error between h = 2^-high and h = 2^-low."""
    chosen = slice(low - 1, high)
    logs = np.log(result.steps[chosen]), np.log(result.errors[dtype][name][chosen])
    return float(np.polyfit(*logs, 1)[0])


def check(result: Result) -> list[Claim]:
    claims = []
    # Where the fits are made, the next term of Taylor's series changes the slope by less than .02,
    # and rounding is below a thousandth of the error (float64).
    for name, order in ((FORWARD, 1), (CENTRAL, 2), (COMPLEX, 2)):
        slope = _slope(result, "float64", name, 5, 12)
        claims.append(equal(f"float64, {name}: order of the truncation error", slope, order, 0.02))
    for name in (FORWARD, CENTRAL):
        # Errors of 100 points scatter by a tenth; over sixteen octaves that is a slope of .01.
        slope = _slope(result, "float64", name, 32, 48)
        claims.append(equal(f"float64, {name}: order of the rounding error", slope, -1, 0.05))
    for dtype in DTYPES:
        eps = float(np.finfo(dtype).eps)
        errors = result.errors[dtype]
        for name, digits in ((FORWARD, 1 / 2), (CENTRAL, 2 / 3)):
            best = int(np.argmin(errors[name]))
            ratio = result.steps[best] / result.best_steps[dtype][name]
            lost = np.log(errors[name][best]) / np.log(eps)
            # The minimum is flat (a factor of 2 in h costs 25 %) and the grid has factors of 2.
            claims.append(between(f"{dtype}, {name}: best h over theory's", ratio, 1 / 4, 4))
            # Constants (derivatives over values, about 2) move the exponent by ln 4 / |ln eps|.
            claims.append(
                equal(f"{dtype}, {name}: best error as a power of eps", lost, digits, 0.09)
            )
        # Four operations, each within a unit of the last place.
        smallest = errors[COMPLEX][-1] / eps
        claims.append(at_most(f"{dtype}, complex step at h = 2^-60, eps", smallest, 4))
        exact = result.autodiff_error[dtype] / eps
        claims.append(at_most(f"{dtype}, backpropagation, eps", exact, 4))
    text = (
        "share of the digits lost at the best h: farthest from 1/2, 1/3, 0 and 0, both precisions"
    )
    # as above; 4 eps are .09 of the digits of float32
    return [*claims, at_most(text, _farthest_loss(result), 0.09, headline=True)]


def _farthest_loss(result: Result) -> float:
    """Return how far the share of the digits that a method loses is from what theory says."""
    off = []
    for dtype in DTYPES:
        eps, errors = float(np.finfo(dtype).eps), result.errors[dtype]
        best = {name: np.min(errors[name]) for name in (FORWARD, CENTRAL)}
        best |= {COMPLEX: errors[COMPLEX][-1], "autodiff": result.autodiff_error[dtype]}
        lost = 1 - np.log(np.maximum(list(best.values()), eps)) / np.log(eps)
        off.append(np.abs(lost - (1 / 2, 1 / 3, 0, 0)).max())
    return float(np.max(off))


def plot(result: Result):
    figure = new_figure(11, 4.4)
    for dtype, ax in zip(DTYPES, figure.subplots(1, 2, sharey=True), strict=True):
        plot_lines(
            result.steps,
            result.errors[dtype] | {"autodiff": np.full(60, result.autodiff_error[dtype])},
            xlabel="h",
            ylabel="relative error",
            xscale="log",
            yscale="log",
            title=f"{dtype}: differences turn at theory's best h (dotted)",
            ax=ax,
        )
        for i, h in enumerate(result.best_steps[dtype].values()):
            ax.axvline(h, color=ax.lines[i].get_color(), linewidth=0.8, linestyle=":")
        ax.set_ylim(1e-17, 1e3)
    return {"errors": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
