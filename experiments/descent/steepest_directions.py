"""In each of four norms the steepest direction gains the gradient's dual norm, within 1e-13.

Question: Is the negative gradient the direction in which a function falls fastest?

Claim: of all directions of unit norm the steepest lowers a function fastest, by minus the dual norm
of the gradient: L1 gives coordinate descent, L2 the gradient, LInf its sign, Spectral an orthogonal
matrix. No random direction gains more, and a small step along it lowers a real function by just
that. On an ill-scaled quadratic with exact line search, coordinate descent needs two steps if the
axes of the ellipses are those of the coordinates, sign descent if they are turned by 45 degrees;
the gradient's path turns with them, and zig-zags as much. In float64.

Why: It is if lengths are measured in the Euclidean norm. Coordinate, sign and spectral descent are
the same idea under other norms, and which suits depends on how the problem is turned.

Source: Technion tutorial 5, descent directions; Boyd and Vandenberghe (2004), section 9.4; Balles
et al. (2020) for the rotated quadratic.
Section: B1.
Command: python -m experiments steepest_directions
Expected: steps to 1e-9 of the loss, axes as the coordinates: L1 2, L2 52; turned: LInf 2, L2 as
before.
Time: 8 s.
"""

import dataclasses
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most, equal
from experiments._runner import run_script
from jaxopt_tut.landscape import descend
from jaxopt_tut.optimizers import line_search, steepest_descent
from jaxopt_tut.optimizers.norms import L1, L2, LInf, Spectral
from jaxopt_tut.plotting import new_figure, plot_lines, plot_surface

NORMS = {"L1": L1(), "L2": L2(), "LInf": LInf(), "Spectral": Spectral()}
PLANE = ("L1", "L2", "LInf")  # a vector's spectral norm is L2
CURVATURES = (1.0, 10.0)
ANGLES = {"axes as the coordinates": 0.0, "turned by 45 degrees": 45.0}
START = (1.0, 0.11)
"""Along the ellipses' axes, and close to (kappa, 1) / kappa, from which the gradient zig-zags most:
just there one coordinate of the turned gradient is zero, and its sign that of rounding."""
TOLERANCE = 1e-9
"""The search has ended when the loss has shrunk by this factor."""
STEP = 1e-5
"""Length of the small steps, in units of the norm."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_gradients: int = 20
    num_directions: int = 1000
    """Random directions against which each steepest one competes."""
    num_steps: int = 100
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_gradients=10, num_directions=200)


class Result(NamedTuple):
    """For each norm; arrays have one number a random gradient."""

    unit: dict[str, np.ndarray]
    """The norm of the steepest direction."""
    gain: dict[str, np.ndarray]
    """Slope along it, over minus the dual norm of the gradient."""
    best_random: dict[str, np.ndarray]
    """The same for the best of many random directions of unit norm."""
    decrease: dict[str, np.ndarray]
    """The decrease of a logistic loss after a small step, over step times dual norm."""
    losses: dict[str, dict[str, np.ndarray]]
    """For each angle and norm, of the start as 1, one a step."""
    paths: dict[str, dict[str, np.ndarray]]


def run(config: Config) -> Result:
    gradient_key, direction_key, data_key = jax.random.split(jax.random.key(config.seed), 3)
    with jax.enable_x64(True):
        shape = (4, 3)
        gradients = jax.random.normal(gradient_key, (config.num_gradients, *shape))
        directions = jax.random.normal(direction_key, (config.num_directions, *shape))
        inputs = jax.random.normal(data_key, (20, 4))
        labels = jnp.arange(20) % 3

        def logistic(w):
            losses = optax.softmax_cross_entropy_with_integer_labels(inputs @ w, labels)
            return losses.mean()

        def compete(norm, g):
            d = norm.steepest(g)
            dual = norm.dual_norm(g)
            slopes = jax.vmap(lambda x: jnp.vdot(g, x) / norm.norm(x))(directions)
            slope = jax.grad(logistic)(g)
            step = STEP * norm.steepest(slope)
            fall = (logistic(g) - logistic(g - step)) / (STEP * norm.dual_norm(slope))
            return norm.norm(d), jnp.vdot(g, d) / dual, slopes.max() / dual, fall

        @jax.jit
        def play():
            races = {
                name: jax.vmap(lambda g, norm=norm: compete(norm, g))(gradients)
                for name, norm in NORMS.items()
            }
            problems = [quadratic(degrees) for degrees in ANGLES.values()]
            hessians, starts = (jnp.stack(parts) for parts in zip(*problems, strict=True))
            follow = lambda norm: jax.vmap(
                lambda hessian, start: descent(norm, hessian, start, config.num_steps)
            )
            return races, {name: follow(NORMS[name])(hessians, starts) for name in PLANE}

        races, runs = jax.device_get(play())
    unit, gain, best_random, decrease = ({name: races[name][i] for name in NORMS} for i in range(4))
    losses, paths = {}, {}
    for i, angle in enumerate(ANGLES):
        losses[angle] = {name: runs[name].values[i] / runs[name].values[i, 0] for name in PLANE}
        paths[angle] = {name: runs[name].points[i] for name in PLANE}
    return Result(unit, gain, best_random, decrease, losses, paths)


def rotation(degrees):
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[cosine, -sine], [sine, cosine]])


def quadratic(degrees):
    """Return the Hessian of an ill-scaled quadratic whose axes are turned, and where to start."""
    axes = rotation(degrees)
    return (axes * np.array(CURVATURES)) @ axes.T, axes @ np.array(START)


def descent(norm, hessian, start, num_steps):
    loss = lambda w: 0.5 * jnp.vdot(w, hessian @ w)
    direction = steepest_descent(1.0, norm=norm)
    return descend(loss, start, optax.chain(direction, line_search.exact(tol=1e-12)), num_steps)


def num_steps(losses: np.ndarray) -> float:
    """Return after how many steps the loss is small; infinity for never."""
    arrived = losses <= TOLERANCE
    return float(arrived.argmax()) if arrived.any() else np.inf


def check(result: Result) -> list[Claim]:
    claims, off = [], []
    for name in NORMS:
        # A dozen terms and a decomposition of a 4 x 3 matrix: some hundred units of rounding.
        ratio = np.abs(result.gain[name] - 1).max() + np.abs(result.unit[name] - 1).max()
        claims.append(at_most(f"{name}: slope / -dual norm, and norm, off 1 by", ratio, 1e-13))
        off.append(ratio)
        best = result.best_random[name].max()
        claims.append(at_most(f"{name}: best random direction of unit norm, same", best, 1.0))
        # Curvature takes half of step times curvature, and the norms differ from L2 by at most
        # the root of 12 entries: up to 12 times some tenths times the step, over a slope of .1.
        short = np.abs(result.decrease[name] - 1).max()
        claims.append(
            at_most(f"{name}: small step lowers a logistic loss by that, off 1 by", short, 1e-3)
        )
    aligned, turned = (
        {name: num_steps(losses) for name, losses in result.losses[angle].items()}
        for angle in ANGLES
    )
    # So close to the worst start the loss shrinks by ((kappa - 1)/(kappa + 1))^2 at each step.
    kappa = CURVATURES[1] / CURVATURES[0]
    gradient = np.ceil(np.log(TOLERANCE) / (2 * np.log((kappa - 1) / (kappa + 1))))
    text = f"slope / -dual norm, and norm, off 1 by: the worst of {len(off)} norms"
    return [
        *claims,
        at_most(text, max(off), 1e-13, headline=True),
        equal("L1, axes as the coordinates: steps", aligned["L1"], 2, 0),
        equal("LInf, turned by 45 degrees: steps", turned["LInf"], 2, 0),
        equal("L2, axes as the coordinates: steps", aligned["L2"], gradient, 1),
        equal("L2, turned by 45 degrees: steps", turned["L2"], gradient, 1),
        at_least("LInf, axes as the coordinates: steps", aligned["LInf"], 10),
        at_least("L1, turned by 45 degrees: steps", turned["L1"], 10),
    ]


def plot(result: Result):
    figures = {}
    for label, (angle, degrees) in zip(("aligned", "turned"), ANGLES.items(), strict=True):
        figure, fast = new_figure(10.5, 4.4), "L1" if degrees == 0 else "LInf"
        left, right = figure.subplots(1, 2)
        hessian = quadratic(degrees)[0].astype(np.float32)
        plot_surface(
            lambda w, hessian=hessian: 0.5 * jnp.vdot(w, hessian @ w),
            ([-0.15, -0.5], [1.1, 0.5]) if degrees == 0 else ([-0.15, -0.15], [1.0, 1.0]),
            {name: path[:20] for name, path in result.paths[angle].items()},
            title=f"{fast} needs two steps: {angle}",
            ax=left,
        )
        plot_lines(
            np.arange(61),
            {n: np.maximum(losses[:61], 1e-12) for n, losses in result.losses[angle].items()},
            xlabel="step",
            ylabel="loss, start = 1 (cut at 1e-12)",
            yscale="log",
            title="The other two take the same many steps",
            ax=right,
        )
        figures[label] = figure
    return figures


if __name__ == "__main__":
    run_script(sys.modules[__name__])
