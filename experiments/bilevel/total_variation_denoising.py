"""A denoiser's weight that descent learns from examples is as good on them as the best of a grid.

Question: How strongly should a signal be smoothed, if examples of clean signals are at hand?

Claim: piecewise constant signals are seen through noise and flattened by total variation with
weight lambda. Descending the error on training signals, through the minimisation and in
log lambda, ends at the weight that a fine grid finds best, and that weight serves new signals as
well as the weight that is best for these. Its derivative is that of the solution's segments in
closed form; finite differences, and the implicit derivative of the dual problem solved by projected
gradient steps, agree. The denoiser is far from an oracle that knows where the jumps are: that one's
error is the noise times the segments a sample; a weight of its own for each signal gains little.

Why: A grid is the usual answer and works for one weight. The hypergradient reaches the same weight
by descent, without a grid to be chosen.

Source: beyond the tutorials; Kunisch and Pock (2013), A bilevel optimization approach for parameter
learning in variational models, section 4, on a line; errors of the oracle by least squares.
Section: beyond B4.
Command: python -m experiments total_variation_denoising
Expected: mean squared error 1 before, .18 with the learned weight 1.7, .055 for the oracle.
Time: 17 s.
"""

import dataclasses
import sys
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from experiments._claims import Claim, at_least, at_most, equal
from experiments._runner import run_script
from jaxopt_tut.bilevel import Implicit, Proximal, argmin
from jaxopt_tut.bilevel.layers import prox_tv1d
from jaxopt_tut.bilevel.recipes import learn
from jaxopt_tut.optimizers import adam
from jaxopt_tut.plotting import new_figure
from jaxopt_tut.plotting.style import COLORS, tidy

GRID = np.geomspace(0.25, 16, 25)
NOISE = 1.0
START = 0.5
"""The weight from which learning starts."""
SHORT = 24
"""Length of the signal whose derivative is found in three ways."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_train: int = 32
    num_test: int = 128
    length: int = 128
    num_segments: int = 7
    num_steps: int = 80
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_train=16, num_test=48, length=96)


class Result(NamedTuple):
    """Squared errors are means over a signal."""

    learned: float
    """The weight that was learned."""
    train_errors: np.ndarray
    """Shape (weights of `GRID`, signals), as of `test_errors`."""
    learned_train_errors: np.ndarray
    test_errors: np.ndarray
    learned_test_errors: np.ndarray
    oracle_errors: np.ndarray
    segments_a_sample: float
    gradient_gaps: dict[str, float]
    """Relative, against the derivative of the segments."""
    example: dict[str, np.ndarray]


class Signals(NamedTuple):
    """One row a signal."""

    clean: np.ndarray
    seen: np.ndarray
    segment: np.ndarray
    """The segment that each sample is in."""


def draw(rng: np.random.Generator, count: int, length: int, num_segments: int) -> Signals:
    """Draw signals that are constant between jumps at random places."""
    places = np.stack([rng.permutation(length - 1)[: num_segments - 1] + 1 for _ in range(count)])
    segment = np.sum(np.arange(length)[:, None] >= places[:, None], axis=2)
    levels = rng.normal(0, 4, (count, num_segments))
    clean = np.take_along_axis(levels, segment, axis=1)
    return Signals(clean, clean + rng.normal(0, NOISE, clean.shape), segment)


def error(weight, clean, seen):
    return jnp.mean((prox_tv1d(seen, weight) - clean) ** 2)


def known_jumps(signals: Signals) -> np.ndarray:
    """Average over each segment: the least squares fit of one who knows the jumps."""
    is_in = signals.segment[:, :, None] == np.arange(signals.segment.max() + 1)
    means = np.einsum("sij,si->sj", is_in, signals.seen) / is_in.sum(axis=1)
    return np.take_along_axis(means, signals.segment, axis=1)


@partial(jax.jit, static_argnames="num_steps")
def learn_weight(clean, seen, num_steps):
    """Descend the mean error in the logarithm of the weight, which keeps it positive."""
    errors = lambda log_weight: jax.vmap(error, (None, 0, 0))(jnp.exp(log_weight), clean, seen)
    value_and_grad = jax.value_and_grad(lambda log_weight: jnp.mean(errors(log_weight)))
    rate = lambda count: 0.1 * (1 - count / num_steps)
    return jnp.exp(learn(value_and_grad, jnp.log(START), adam(rate), num_steps).value)


@jax.jit
def errors_by_weight(weights, clean, seen):
    """Return errors of shape (weights, signals)."""
    return jax.lax.map(lambda weight: jax.vmap(error, (None, 0, 0))(weight, clean, seen), weights)


def solve_dual(seen, weight):
    """Denoise by projected gradient steps on the dual problem."""
    pull = lambda u: jnp.diff(u, prepend=0.0, append=0.0)
    f = lambda u, z: 0.5 * jnp.sum((z[0] + pull(u)) ** 2)
    solver = Proximal(lambda u, z, _: jnp.clip(u, -z[1], z[1]), 0.25)  # the largest curvature is 4
    start, options = jnp.zeros(len(seen) - 1, seen.dtype), {"steps": 4000, "diff": Implicit()}
    return seen + pull(argmin(f, start, (seen, weight), solver=solver, **options).y)


def gradient_gaps(clean: ArrayLike, seen: ArrayLike) -> dict[str, float]:
    """Compare derivatives of the error in the weight with that of `prox_tv1d`."""
    with jax.enable_x64(True):
        clean, seen, weight, h = *map(jnp.asarray, (clean, seen)), jnp.asarray(2.0), 1e-5

        def derivatives(weight):
            by_dual = lambda weight: jnp.mean((solve_dual(seen, weight) - clean) ** 2)
            value = lambda weight: error(weight, clean, seen)
            secant = (value(weight + h) - value(weight - h)) / (2 * h)
            return jax.grad(value)(weight), secant, jax.grad(by_dual)(weight)

        exact, secant, dual = map(float, jax.jit(derivatives)(weight))
    gap = lambda found: abs(found / exact - 1)
    return {"finite differences": gap(secant), "implicit, of the dual": gap(dual)}


def run(config: Config) -> Result:
    rng = np.random.default_rng(config.seed)
    train, test = (
        draw(rng, count, config.length, config.num_segments)
        for count in (config.num_train, config.num_test)
    )
    single = lambda *arrays: [np.asarray(array, np.float32) for array in arrays]
    weight = learn_weight(*single(train.clean, train.seen), config.num_steps)
    every = np.append(GRID, weight).astype(np.float32)
    train_errors = np.asarray(errors_by_weight(every, *single(train.clean, train.seen)))
    test_errors = np.asarray(errors_by_weight(every, *single(test.clean, test.seen)))
    oracle = known_jumps(test)
    (seen,) = single(test.seen[0])
    return Result(
        learned=float(weight),
        train_errors=train_errors[:-1],
        learned_train_errors=train_errors[-1],
        test_errors=test_errors[:-1],
        learned_test_errors=test_errors[-1],
        oracle_errors=np.mean((oracle - test.clean) ** 2, axis=1),
        segments_a_sample=config.num_segments / config.length,
        gradient_gaps=gradient_gaps(train.clean[0, :SHORT], train.seen[0, :SHORT]),
        example={
            "seen": test.seen[0],
            "clean": test.clean[0],
            "total variation": np.asarray(prox_tv1d(jnp.asarray(seen), weight)),
        },
    )


def check(result: Result) -> list[Claim]:
    learned, step = result.learned, np.log(GRID[1] / GRID[0])
    train_means = result.train_errors.mean(axis=1)
    best = GRID[np.argmin(train_means)]
    means = result.test_errors.mean(axis=1)
    rival, train_rival = (e[np.argmin(means)] for e in (result.test_errors, result.train_errors))
    standard_error = lambda errors: errors.std(ddof=1) / np.sqrt(len(errors))
    # the learned weight depends on the training signals, what it costs on the new ones too
    differences = result.learned_train_errors - train_rival, result.learned_test_errors - rival
    spreads = [standard_error(difference) for difference in differences]
    own = result.test_errors.min(axis=0).mean()
    error = result.learned_test_errors.mean()
    return [
        # The best weight lies within a step of the grid of the best on it.
        equal("logarithm of the learned weight", np.log(learned), np.log(best), step),
        at_most(
            "training error with it over that of the best on the grid",
            result.learned_train_errors.mean() / train_means.min(),
            1.0 + 1e-4,  # sums of 4000 float32 numbers, in two orders
            headline=True,
        ),
        at_most(
            "error on new signals, less that of the weight best for them",
            error - rival.mean(),
            2 * np.hypot(*spreads),
        ),
        at_most("error on new signals over that of the noise", error / NOISE**2, 0.25),
        equal(
            "error of the oracle",
            result.oracle_errors.mean(),
            NOISE**2 * result.segments_a_sample,
            4 * standard_error(result.oracle_errors),
        ),
        at_least("error over the oracle's", error / result.oracle_errors.mean(), 2.0),
        at_most("share of the error that a weight a signal saves", 1 - own / error, 0.15),
        # A quadratic between kinks: the difference is exact but for roundings over the step of
        # 1e-5, and over a derivative of a few hundredths.
        at_most("derivative against differences", result.gradient_gaps["finite differences"], 1e-9),
        # Projected gradient steps end at the solution up to rounding, times its condition number.
        at_most(
            "derivative against the dual's", result.gradient_gaps["implicit, of the dual"], 1e-9
        ),
    ]


def plot(result: Result):
    figure = new_figure(11, 4.2)
    left, right = figure.subplots(1, 2)
    left.plot(
        GRID,
        result.train_errors.mean(axis=1),
        "o-",
        color=COLORS[0],
        markersize=4,
        label="training",
    )
    means = result.test_errors.mean(axis=1)
    left.plot(GRID, means, "s--", color=COLORS[1], markersize=4, label="new signals")
    left.axhline(result.oracle_errors.mean(), color="black", linewidth=1, label="jumps known")
    left.axvline(result.learned, color=COLORS[2], linestyle=":", label="learned weight")
    left.set_xscale("log")
    left.set_yscale("log")
    left.legend(frameon=False)
    tidy(
        left,
        xlabel="weight of total variation",
        ylabel="mean squared error (noise: 1)",
        title="Learning ends where the grid is best",
    )
    right.plot(result.example["seen"], ".", color="0.6", label="seen")
    right.plot(result.example["clean"], color="black", label="clean")
    right.plot(result.example["total variation"], color=COLORS[1], label="denoised")
    right.legend(frameon=False)
    tidy(right, xlabel="sample", ylabel="signal", title="A new signal, with the learned weight")
    return {"weight_and_signal": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
