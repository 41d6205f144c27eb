"""The linear layer's VJP, JVP and Hessian product are those derived by hand, up to rounding.

Question: What are the derivatives of a linear layer, both ways and of second order?

Claim: for y = x W + b our engine gives what is derived on paper. Pulled back, a cotangent u becomes
(u W', x' u, column sums of u); pushed forward, (dx, dW, db) becomes dx W + x dW + db; and
u . (J v) = (J' u) . v, which a rule that forgets a transpose fails, although all its shapes are
right. For the loss |y - t|^2 / 2, with residual r = y - t and push dy = J v, the Hessian product is
(dy W' + r dW', dx' r + x' dy, column sums of dy); v' H is the same as H v, and u . H v = v . H u.

Why: The layer is most of what networks compute. The dot-product test finds a forgotten transpose
although all shapes agree, and holds for any rule one writes.

Source: Technion tutorial 5, its linear layer and dot-product test; sizes are relative to what
rounding can do: sums of k products are uncertain by k eps times the product of the norms (Higham
2002, eq. 3.5).
Section: B2.
Command: python -m experiments linear_layer
Expected: every error below a tenth of the bound, the wrong rule's ten thousand times it in float32.
Time: 2 s.
"""

import dataclasses
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from jaxopt_tut import autodiff
from jaxopt_tut.plotting import new_figure
from jaxopt_tut.plotting.style import COLORS, tidy

BATCH, SIZE = 6, 5
"""As many outputs as inputs, so that a forgotten transpose has the right shape."""
FULL_PRODUCTS = True  # claims to the rounding of float32
DTYPES = ("float64", "float32")
EXACT = 1e-4
"""Where the figure puts an error of zero."""
WRONG = "dot-product test of a wrong rule"


def layer(x, weight, bias):
    return x @ weight + bias


def loss(x, weight, bias, target):
    return jnp.sum(jnp.square(layer(x, weight, bias) - target)) / 2


forgotten_transpose = autodiff.custom_node(
    lambda x, weight, bias: (layer(x, weight, bias), (x, weight)),
    lambda kept, u: (u @ kept[1], kept[0].T @ u, u.sum(axis=0)),
)


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    num_draws: int = 200
    seed: int = 0

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_draws=50)


class Result(NamedTuple):
    """Errors over the rounding bound, for each dtype and check of shape (draws,)."""

    errors: dict[str, dict[str, np.ndarray]]


def differentiate(primals, v, w, u, target):
    """Let our engine give every product at one point."""
    scalar = lambda x, weight, bias: loss(x, weight, bias, target)
    gradient = autodiff.grad(scalar, (0, 1, 2))
    along = lambda *p: sum(jnp.vdot(g, t) for g, t in zip(gradient(*p), v, strict=True))
    return {
        "pulled": autodiff.vjp(layer, *primals)[1](u),
        "pushed": autodiff.jvp(layer, primals, v)[1],
        "hv": autodiff.hvp(scalar, primals, v),
        "hw": autodiff.hvp(scalar, primals, w),
        "vh": autodiff.grad(along, (0, 1, 2))(*primals),
        "wrong": autodiff.vjp(forgotten_transpose, *primals)[1](u),
    }


def by_hand(primals, v, u, target):
    """Give the same products on paper, for all draws at once, in float64."""
    (x, weight, bias), (dx, d_weight, d_bias) = primals, v
    t = lambda matrix: np.swapaxes(matrix, -1, -2)
    pushed = dx @ weight + x @ d_weight + d_bias[:, None]
    r = x @ weight + bias[:, None] - target
    pulled = (u @ t(weight), t(x) @ u, u.sum(axis=1))
    hv = (
        pushed @ t(weight) + r @ t(d_weight),
        t(dx) @ r + t(x) @ pushed,
        pushed.sum(axis=1),
    )
    return pulled, pushed, hv, r


def compare(found, primals, v, w, u, target):
    """Measure every identity, as distances over the products of the norms."""
    pulled, pushed, hv, r = by_hand(primals, v, u, target)
    # These bound the norms of the Jacobian and of the Hessian.
    size_j = np.sqrt(BATCH) + norm(primals[0]) + norm(primals[1])
    size_h = size_j**2 + norm(r)
    test = pair(u, found["pushed"])
    return {
        "VJP against by hand": norm(found["pulled"], pulled) / (size_j * norm(u)),
        "JVP against by hand": norm(found["pushed"], pushed) / (size_j * norm(v)),
        "dot-product test": abs(test - pair(found["pulled"], v)) / (size_j * norm(u) * norm(v)),
        WRONG: abs(test - pair(found["wrong"], v)) / (size_j * norm(u) * norm(v)),
        "HVP against by hand": norm(found["hv"], hv) / (size_h * norm(v)),
        "HVP against VHP": norm(found["hv"], found["vh"]) / (size_h * norm(v)),
        "symmetry of the Hessian": abs(pair(w, found["hv"]) - pair(v, found["hw"]))
        / (size_h * norm(v) * norm(w)),
    }


def flat(tree) -> np.ndarray:
    """Lay a tree out as one float64 row a draw."""
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    return np.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def pair(a, b) -> np.ndarray:
    return np.sum(flat(a) * flat(b), axis=1)


def norm(a, b=None) -> np.ndarray:
    return np.linalg.norm(flat(a) if b is None else flat(a) - flat(b), axis=1)


def run(config: Config) -> Result:
    shapes = ((BATCH, SIZE), (SIZE, SIZE), (SIZE,))
    rng = np.random.default_rng(config.seed)
    # Numbers of float32, so that both precisions differentiate at the same points.
    draw = lambda shape: rng.standard_normal((config.num_draws, *shape)).astype(np.float32)
    primals, v, w = (tuple(draw(shape) for shape in shapes) for _ in range(3))
    exact = (primals, v, w, draw((BATCH, SIZE)), draw((BATCH, SIZE)))
    exact = jax.tree.map(np.float64, exact)
    errors = {}
    for dtype in DTYPES:
        with jax.enable_x64(dtype == "float64"):
            inputs = jax.tree.map(np.dtype(dtype).type, exact)
            found = jax.jit(jax.vmap(differentiate))(*inputs)
        # The longest sums: over the units of two layers, or over the batch after one.
        bound = (BATCH + 2 * SIZE) * np.finfo(dtype).eps
        errors[dtype] = {name: error / bound for name, error in compare(found, *exact).items()}
    return Result(errors)


def check(result: Result) -> list[Claim]:
    claims = []
    for dtype, errors in result.errors.items():
        for name, error in errors.items():
            text = f"{dtype}, {name}, over the rounding bound"
            if name == WRONG:
                # A hundred times what rounding could do, in the median over the draws.
                claims.append(at_least(text, np.median(error), 100))
            else:
                claims.append(at_most(text, error.max(), 1))
    right = [e.max() for by in result.errors.values() for name, e in by.items() if name != WRONG]
    text = "all of them, in both precisions: largest error over the rounding bound"
    return [*claims, at_most(text, np.max(right), 1, headline=True)]


def plot(result: Result):
    figure = new_figure(8, 4)
    ax = figure.add_subplot()
    names = list(result.errors[DTYPES[0]])
    for place, (dtype, marker) in enumerate(zip(DTYPES, "os", strict=True)):
        medians = [max(np.median(result.errors[dtype][name]), EXACT) for name in names]
        largest = [max(np.max(result.errors[dtype][name]), EXACT) for name in names]
        rows = np.arange(len(names)) + 0.2 * place
        ax.hlines(rows, medians, largest, color="0.6")
        ax.plot(largest, rows, marker, color=COLORS[place], label=f"{dtype}, largest")
        ax.plot(medians, rows, marker, color=COLORS[place], mfc="none", label=f"{dtype}, median")
    ax.axvline(1.0, color="black", linewidth=0.8)
    ax.set_xscale("log")
    ax.set_yticks(np.arange(len(names)) + 0.1, names)
    ax.invert_yaxis()
    ax.legend(fontsize="small")
    title = "Only the wrong rule errs beyond what rounding can do"
    tidy(ax, xlabel=f"error over the bound of rounding ({EXACT:g}: exact)", ylabel="", title=title)
    return {"errors": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
