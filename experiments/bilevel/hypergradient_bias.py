"""What cheap hypergradients miss is the solver's contraction to the number of steps they keep.

Question: How wrong is a hypergradient that leaves out most of the inner steps?

Claim: on a quadratic with curvatures H, gradient descent with step eta shrinks errors by
R = I - eta H a step. A hypergradient truncated to the last k steps, and one whose linear solve is
cut to k terms of the Neumann series, both miss R^k of the truth, one step R itself; with momentum R
is the matrix of its two-term recursion. An inner run that is stopped after k steps misleads the
exact derivative of the steps and the implicit one alike, by the same power. Newton's last step
leaves out nothing; that of momentum almost everything. All this to rounding, in float64.

Why: Truncation is what makes bi-level optimization affordable. Its error is the contraction of the
inner solver to the number of steps kept, so that it can be bounded beforehand.

Source: beyond the tutorials; Shaban et al. (2019), theorem 3.4; Lorraine et al. (2020), eq. (6);
Bolte et al. (2023), algorithm 3; for runs that are stopped, Grazzi et al. (2020), section 2.
Section: beyond B4.
Command: python -m experiments hypergradient_bias
Expected: distances from the laws of 1e-15; at a condition number of 20, k = 8 terms still miss a
third of the truth, k = 64 a hundredth.
Time: 11 s.
"""

import dataclasses
import sys
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from jaxopt_tut.bilevel import Implicit, Neumann, OneStep, Truncate, Unroll, hypergrad
from jaxopt_tut.optimizers import momentum, newton, sgd
from jaxopt_tut.plotting import new_figure
from jaxopt_tut.plotting.style import legend_below, look, tidy

SMALLEST, LARGEST = 1.0, 20.0
RATE, DECAY = 1 / LARGEST, 0.9
TRUNCATED, NEUMANN, MOMENTUM = "truncated", "Neumann series", "truncated, momentum"
STOPPED_UNROLLED, STOPPED_IMPLICIT = "stopped, unrolled", "stopped, implicit"
WAYS = (TRUNCATED, NEUMANN, MOMENTUM, STOPPED_UNROLLED, STOPPED_IMPLICIT)
SOLVERS = {"gradient": sgd(RATE), "momentum": momentum(RATE, decay=DECAY)}
NEWTON = "Newton"


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    counts: tuple[int, ...] = (1, 8, 64)
    """Steps or terms kept, k."""
    num_problems: int = 8
    """Random mirror images of the axes, targets and starts."""
    dim: int = 6
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, counts=(1, 8), num_problems=4)


class Problem(NamedTuple):
    """f(y, z) = (y - z)' H (y - z) / 2, solved by z; the outer function is |y - t|^2 / 2."""

    hessian: np.ndarray
    z: np.ndarray
    target: np.ndarray
    start: np.ndarray
    """Of the runs that are stopped; the others start at the solution."""


class Result(NamedTuple):
    """Errors of hypergradients over the norm of the truth, shape (k, problems, dim)."""

    counts: np.ndarray
    errors: dict[str, np.ndarray]
    """One row each of `counts`."""
    laws: dict[str, np.ndarray]
    """One row each of k = 1, 2, 3, …"""
    last_errors: dict[str, np.ndarray]
    """Of the derivative of one step, by solver."""
    last_laws: dict[str, np.ndarray]
    truths: np.ndarray
    """Of norm 1, shape (problems, dim)."""
    axes: np.ndarray
    """Eigenvectors of the problems' matrices, as columns."""
    curvatures: np.ndarray


def make_problems(config: Config) -> Problem:
    """Draw problems whose eigenvectors are mirror images of the axes."""
    rng = np.random.default_rng(config.seed)
    normals, *rest = rng.standard_normal((4, config.num_problems, config.dim))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    axes = np.eye(config.dim) - 2 * normals[:, :, None] * normals[:, None, :]
    hessians = (axes * np.geomspace(SMALLEST, LARGEST, config.dim)) @ axes.transpose(0, 2, 1)
    return Problem(hessians, *rest)


def error(problem: Problem, diff, solver, steps, start):
    """Return a mode's hypergradient without the true one, over the norm of the true one."""
    f = lambda y, z: 0.5 * jnp.dot(y - z, problem.hessian @ (y - z))
    outer = lambda y, _: 0.5 * jnp.sum((y - problem.target) ** 2)
    _, grads, _ = hypergrad(outer, f, start, problem.z, solver=solver, steps=steps, diff=diff)
    truth = problem.z - problem.target
    return (grads["z"] - truth) / jnp.linalg.norm(truth)


@partial(jax.jit, static_argnames="counts")
def measure(problems: Problem, counts):
    """Differentiate in every way: one program."""
    bare_newton = newton(line_search=optax.identity(), solve=jnp.linalg.solve)

    def one(problem):
        at_z = lambda diff, solver, steps: error(problem, diff, solver, steps, problem.z)
        stopped = lambda diff, k: error(problem, diff, SOLVERS["gradient"], k, problem.start)
        ways = {
            TRUNCATED: lambda k: at_z(Truncate(k), SOLVERS["gradient"], counts[-1]),
            NEUMANN: lambda k: at_z(Implicit(Neumann(k, RATE)), SOLVERS["gradient"], 1),
            MOMENTUM: lambda k: at_z(Truncate(k), SOLVERS["momentum"], counts[-1]),
            STOPPED_UNROLLED: lambda k: stopped(Unroll(), k),
            STOPPED_IMPLICIT: lambda k: stopped(Implicit(), k),
        }
        errors = {name: jnp.stack([way(k) for k in counts]) for name, way in ways.items()}
        solvers = SOLVERS | {NEWTON: bare_newton}
        return errors, {name: at_z(OneStep(), solver, 1) for name, solver in solvers.items()}

    return jax.vmap(one, out_axes=(1, 0))(problems)


def by_law(problem: Problem, counts) -> dict[str, np.ndarray]:
    """Return the errors that theory gives one problem, shape (k, dim)."""
    hessian, z, target, start = problem
    truth, away, eye = z - target, start - z, np.eye(len(z))
    shrink = eye - RATE * hessian
    # the momentum m and the error e: m' = b m + (1 - b) H e, e' = e - eta m'
    gain = (1 - DECAY) * hessian
    both = np.block([[eye - RATE * gain, -RATE * DECAY * eye], [gain, DECAY * eye]])
    power = lambda matrix, k: np.linalg.matrix_power(matrix, k)[: len(z), : len(z)]
    size = np.linalg.norm(truth)
    stack = lambda law: np.stack([law(power(shrink, k)) for k in counts]) / size
    cut = stack(lambda left: -left @ truth)
    return {
        TRUNCATED: cut,
        NEUMANN: cut,
        MOMENTUM: np.stack([-power(both, k).T @ truth for k in counts]) / size,
        STOPPED_UNROLLED: stack(lambda left: (eye - left) @ (truth + left @ away) - truth),
        STOPPED_IMPLICIT: stack(lambda left: left @ away),
    }


def run(config: Config) -> Result:
    problems = make_problems(config)
    with jax.enable_x64(True):
        errors, last_errors = jax.device_get(measure(problems, config.counts))
    every_count = range(1, config.counts[-1] + 1)
    laws = [by_law(Problem(*row), every_count) for row in zip(*problems, strict=True)]
    laws = {name: np.stack([law[name] for law in laws], axis=1) for name in WAYS}
    truths = problems.z - problems.target
    curvatures, axes = np.linalg.eigh(problems.hessian)
    return Result(
        counts=np.array(config.counts),
        errors={name: errors[name] for name in WAYS},
        laws=laws,
        last_errors=last_errors,
        last_laws={
            "gradient": laws[TRUNCATED][0],
            "momentum": laws[MOMENTUM][0],
            NEWTON: np.zeros_like(truths),
        },
        truths=truths / np.linalg.norm(truths, axis=1, keepdims=True),
        axes=axes,
        curvatures=curvatures[0],
    )


def check(result: Result) -> list[Claim]:
    dim = len(result.curvatures)
    # Products with matrices of this size, as many as there are steps, each rounded once an entry; a
    # dense solve loses the condition number on top.
    slack = dim * np.finfo(float).eps * (result.counts[-1] + LARGEST / SMALLEST)
    apart = lambda a, b: float(np.linalg.norm(a - b, axis=-1).max())
    sizes = np.linalg.norm(result.last_errors["momentum"], axis=-1)
    claims = [
        at_most(
            f"{name}: distance from the law",
            apart(errors, result.laws[name][result.counts - 1]),
            slack,
        )
        for name, errors in result.errors.items()
    ]
    for name, errors in result.last_errors.items():
        text = f"last step of {name}: distance from the {'truth' if name == NEWTON else 'law'}"
        claims.append(at_most(text, apart(errors, result.last_laws[name]), slack))
    off = [apart(e, result.laws[name][result.counts - 1]) for name, e in result.errors.items()]
    return [
        at_most("all ways: largest distance from the law", np.max(off), slack, headline=True),
        *claims,
        # That step feels (1 - decay) eta lambda <= 1 - decay of any part of the truth.
        at_least("last step of momentum: least error", sizes.min(), DECAY - slack),
    ]


def plot(result: Result):
    figure = new_figure(11, 4.6)
    left, right = figure.subplots(1, 2)
    size = lambda errors: np.sqrt(np.mean(np.sum(errors**2, axis=-1), axis=1))
    for i, name in enumerate(WAYS):
        style, law = look(i), size(result.laws[name])
        left.plot(np.arange(1, len(law) + 1), law, **style | {"marker": ""})
        hollow = {"markerfacecolor": "none", "markersize": 5 + 2 * i, "linestyle": ""}
        left.plot(result.counts, size(result.errors[name]), label=name, **style | hollow)
    left.set_yscale("log")
    legend_below(left, columns=3)
    tidy(
        left,
        xlabel="steps or terms kept, k",
        ylabel="error over the truth (root mean square)",
        title="What is missed (marks) follows the law (lines)",
    )
    parts = lambda vectors: np.einsum("pij,...pi->...pj", result.axes, vectors)
    missing = np.mean(-parts(result.errors[TRUNCATED]) / parts(result.truths), axis=1)
    grid = np.linspace(SMALLEST, LARGEST, 200)
    for i, (k, share) in enumerate(zip(result.counts, missing, strict=True)):
        style = look(i)
        right.plot(grid, (1 - RATE * grid) ** k, **style | {"marker": ""})
        right.plot(result.curvatures, share, label=f"k = {k}", **style | {"linestyle": ""})
    legend_below(right)
    tidy(
        right,
        xlabel="curvature of the direction",
        ylabel="share of the truth that is missing",
        title=r"Truncation misses $(1 - \eta \lambda)^k$: flat directions most",
    )
    return {"bias": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
