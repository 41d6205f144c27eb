"""The derivatives in a regression's penalties agree by all ways, and are not the zeros printed.

Question: How does the solution of a minimisation change with the penalties in it?

Claim: for weights that minimise mean (X w - y)^2 + l1 mean |w| + l2 mean w^2, the derivatives of
the error on other data with respect to l1 and l2 agree four ways: from the optimality condition,
through the solver's steps, by central differences, and by the formula on the weights that are not
zero. The tutorial printed 0 for both. It also handed the derivative with respect to the weights on
to the start of the search, on which a solution does not depend. And it let two things pass in
silence: a singular matrix, which has a right answer, and a negative penalty, which has none.

Why: Zeros for these derivatives would say that penalties cannot be learned. They can, and four
independent ways of computing the derivatives leave no room for another answer.

Source: Technion tutorial 5, test of the ArgMin layer; `make_regression(1000, 20, bias=10, noise=1,
random_state=42)`, standardised; the formula is that of Gould et al. (2016), lemma 3.2.
Section: B4.
Command: python -m experiments argmin_gradients
Expected: derivatives .002098 and .001132 by every way; 0 with respect to the start.
Time: 7 s.
"""

import dataclasses
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_most, equal
from experiments._runner import run_script
from jaxopt_tut.bilevel import Implicit, LeastSquares, Proximal, Unroll, argmin, hypergrad
from jaxopt_tut.bilevel.layers import soft_threshold
from jaxopt_tut.optimizers import sgd
from jaxopt_tut.plotting import new_figure, plot_lines

NUM_TRAIN = 800
PENALTIES = {"l1": 0.1, "l2": 0.1}
NEGATIVE = -40.0
"""A penalty below minus 20 times the curvatures of the error, which are near 1."""
RATE, NUM_STEPS = 0.35, 80
SPACING = 1e-4
"""Of the central differences."""
IMPLICIT, UNROLLED, DIFFERENCES = "implicit", "unrolled", "central differences"


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_points: int = 61
    """Of the curves drawn."""

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_points=11)


class Result(NamedTuple):
    """Derivatives of the error on other data, by way and by penalty."""

    gradients: dict[str, dict[str, float]]
    formula: dict[str, float]
    value: float
    start_gradient: np.ndarray
    """With respect to the start of the search."""
    cotangent: np.ndarray
    """Derivative with respect to the weights, which the tutorial handed on to the start."""
    contraction: float
    """Largest factor by which a step shrinks a distance."""
    weights: np.ndarray
    singular: float
    """Derivative in l2 at 0 with one feature twice, relative difference from its formula."""
    negative_is_definite: bool
    """What the implicit derivative says of its matrix at a negative penalty."""
    penalties: np.ndarray
    curves: dict[str, np.ndarray]
    """The error on other data against one penalty, the other one fixed."""


def make_data(num_examples: int = 1000, num_features: int = 20, num_informative: int = 10):
    """Draw what scikit-learn's `make_regression` does, up to the order of rows and columns.

    Returns:
      Inputs and targets, standardised.
    """
    rng = np.random.RandomState(42)
    inputs = rng.standard_normal((num_examples, num_features))
    weights = 100 * rng.uniform(size=num_informative)
    targets = inputs[:, :num_informative] @ weights + 10 + rng.normal(size=num_examples)
    standardise = lambda a: (a - a.mean(axis=0)) / a.std(axis=0)
    return standardise(inputs), standardise(targets)


def smooth(data):
    """Return the inner function without its L1 part, which the solver adds."""
    inputs, targets = data

    def f(w, z):
        return jnp.mean((inputs @ w - targets) ** 2) + z["l2"] * jnp.mean(w**2)

    return f


def error(data):
    inputs, targets = data
    return lambda w, _: jnp.mean((inputs @ w - targets) ** 2)


def shrink(w, z, rate):
    return soft_threshold(w, rate * z["l1"] / w.size)


@jax.jit
def differentiate(train, other, points):
    """Differentiate at the first point in every way but differences; evaluate at all of them."""
    f, outer, start = smooth(train), error(other), jnp.zeros(train[0].shape[1])
    lasso = {"solver": Proximal(shrink, RATE), "steps": NUM_STEPS}
    solution = lambda z: argmin(f, start, z, **lasso).y
    at = jax.tree.map(lambda points: points[0], points)
    _, implicit, _ = hypergrad(outer, f, start, at, diff=Implicit(), **lasso)
    _, unrolled, _ = hypergrad(outer, f, start, at, diff=Unroll(), wrt=("z", "y0"), **lasso)
    negative = {"l1": jnp.zeros(()), "l2": jnp.asarray(NEGATIVE)}
    _, _, info = hypergrad(outer, f, start, negative, solver=sgd(RATE), steps=1, diff=Implicit())
    weights = jax.vmap(solution)(points)
    values = jax.vmap(outer, (0, None))(weights, None)
    return {
        "gradients": {IMPLICIT: implicit["z"], UNROLLED: unrolled["z"]},
        "start_gradient": unrolled["y0"],
        "cotangent": jax.grad(outer)(weights[0], None),
        "weights": weights[0],
        "negative_is_definite": info.is_definite,
    }, values


@jax.jit
def differentiate_singular(train, other):
    """Differentiate in l2 at no penalty, with the shortest solution of the linear system."""
    f, start = smooth(train), jnp.zeros(train[0].shape[1])
    fixed = {"l1": jnp.zeros(()), "l2": jnp.zeros(())}
    shortest = Implicit(LeastSquares())
    options = {"solver": sgd(RATE), "steps": NUM_STEPS, "diff": shortest}
    return hypergrad(error(other), f, start, fixed, **options)[1]["z"]["l2"]


def by_formula(train, other, penalties, signs) -> dict[str, float]:
    r"""Differentiate the weights on their support S: K w_S = b - l1 s / D with the signs s.

    dw_S/dl1 = - K^+ s / D and dw_S/dl2 = - 2 K^+ w_S / D, K^+ being the pseudo-inverse.
    """
    dim, on = len(signs), signs != 0
    inputs, other_inputs = train[0][:, on], other[0][:, on]
    matrix = 2 * inputs.T @ inputs / len(inputs) + 2 * penalties["l2"] / dim * np.eye(on.sum())
    inverse = np.linalg.pinv(matrix, rcond=1e-12, hermitian=True)
    right = 2 * inputs.T @ train[1] / len(inputs)
    weights = inverse @ (right - penalties["l1"] * signs[on] / dim)
    adjoint = inverse @ (2 * other_inputs.T @ (other_inputs @ weights - other[1]) / len(other[1]))
    return {"l1": -adjoint @ signs[on] / dim, "l2": -2 * adjoint @ weights / dim}


def run(config: Config) -> Result:
    inputs, targets = make_data()
    train = inputs[:NUM_TRAIN], targets[:NUM_TRAIN]
    other = inputs[NUM_TRAIN:], targets[NUM_TRAIN:]
    grid = np.linspace(0.0, 0.5, config.num_points)
    lines = [PENALTIES]
    for name, at in PENALTIES.items():
        moves = at + SPACING, at - SPACING, *grid
        lines += [PENALTIES | {name: penalty} for penalty in moves]
    points = {name: np.array([line[name] for line in lines]) for name in PENALTIES}
    twice = [(np.hstack([a, a[:, :1]]), b) for a, b in (train, other)]
    with jax.enable_x64(True):
        found, (value, *values) = jax.device_get(differentiate(train, other, points))
        singular = float(differentiate_singular(*twice))
    rows = dict(zip(PENALTIES, np.reshape(values, (len(PENALTIES), -1)), strict=True))
    slopes = {name: (row[0] - row[1]) / (2 * SPACING) for name, row in rows.items()}
    found["gradients"][DIFFERENCES] = slopes
    curvatures = np.linalg.eigvalsh(2 * train[0].T @ train[0] / NUM_TRAIN)
    curvatures += 2 * PENALTIES["l2"] / len(curvatures)
    no_penalty, all_signs = dict.fromkeys(PENALTIES, 0.0), np.ones(len(curvatures) + 1)
    expected = by_formula(twice[0], twice[1], no_penalty, all_signs)["l2"]
    return Result(
        formula=by_formula(train, other, PENALTIES, np.sign(found["weights"])),
        value=value,
        contraction=float(np.abs(1 - RATE * curvatures).max()),
        singular=abs(singular / expected - 1),
        penalties=grid,
        curves={name: row[2:] for name, row in rows.items()},
        **found,
    )


def check(result: Result) -> list[Claim]:
    claims = []
    dim, eps = len(result.cotangent), np.finfo(float).eps
    # An order more in a penalty brings the factor 2 / dim over the curvature, which is 2: the third
    # derivative is at most 3! 2^2 / dim^3 for targets of size 1. A misfit loses ten eps of that
    # size, and the error twice the misfit's size times as much.
    differences = 4 * SPACING**2 / dim**3 + 10 * eps * np.sqrt(result.value) / SPACING
    for name, formula in result.formula.items():
        for way, gradients in result.gradients.items():
            # A few hundred operations, each good to an eps, on numbers of size 1.
            slack = 500 * eps + (differences if way == DIFFERENCES else 0.0)
            text = f"{name}: derivative, {way}"
            original = "it printed 0"
            claims.append(equal(text, gradients[name], formula, slack, original=original))
    found = [[by[name] for name in result.formula] for by in result.gradients.values()]
    exact = np.array(list(result.formula.values()))
    handed_on = float(np.linalg.norm(result.cotangent))
    felt = float(np.linalg.norm(result.start_gradient)) / handed_on
    return [
        *claims,
        at_most(
            "both penalties, three ways: largest relative distance from the formula",
            np.max(np.abs(found / exact - 1)),
            (500 * eps + differences) / np.abs(exact).min(),  # as above; 0 would be off by 1
            original="it printed 0 for both",
            headline=True,
        ),
        at_most(
            "derivative in the start, over that in the weights",
            felt,
            # A step shrinks a distance at least so much; its derivative may lose an eps more.
            result.contraction**NUM_STEPS + np.finfo(float).eps,
            original="it handed the derivative in the weights on to the start: 1",
        ),
        at_most(
            "one feature twice: relative error of the derivative in l2",
            result.singular,
            # The adjoint is known to eps times the condition number, which is below 10, of sums
            # that cancel: the derivative is a thousandth of its terms.
            1e4 * eps,
            original="a singular matrix was clipped in silence",
        ),
        at_most(
            "negative penalty: whether the matrix is said to be definite",
            float(result.negative_is_definite),
            0.0,
            original="penalties could become negative in silence",
        ),
    ]


def plot(result: Result):
    figure = new_figure(10, 4.2)
    for ax, (name, curve) in zip(figure.subplots(1, 2), result.curves.items(), strict=True):
        slope, at = result.gradients[IMPLICIT][name], PENALTIES[name]
        tangent = result.value + slope * (result.penalties - at)
        flat = np.full_like(result.penalties, result.value)
        plot_lines(
            result.penalties,
            {"error": curve, "implicit derivative": tangent, "as printed: 0": flat},
            xlabel=name,
            ylabel="error on other data",
            title=f"The slope in {name} is not 0",
            ax=ax,
        )
        ax.plot(at, result.value, "ko", markersize=5)
    return {"tangents": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
