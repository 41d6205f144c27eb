"""The equivalence table of `docs/optimizers.md`, row by row, against NumPy in float64.

Each oracle is the update as its library documents it, written out here; PyTorch itself is not
asked, so that the tests need no second framework.
"""

import re
from collections.abc import Callable, Iterator
from itertools import combinations, islice
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_tut.landscape import descend
from jaxopt_tut.optimizers import adam, adamw, momentum, scale_by_adam, scale_by_learning_rate, sgd

RATE, DECAY, WEIGHT_DECAY = 0.05, 0.8, 0.1
B1, B2, EPS = 0.7, 0.9, 0.01
CURVATURES = np.array([1.0, 3.0, 10.0])
START = np.array([1.0, -2.0, 0.5])
NUM_STEPS = 50
FIRST = 0.1
Points = Iterator[np.ndarray]


def loss(w):
    return 0.5 * jnp.sum(CURVATURES * w**2) + jnp.sum(jnp.cos(w))


def gradient(w):
    return CURVATURES * w - np.sin(w)


def torch_sgd(*, lr, momentum=0.0, nesterov=False, weight_decay=0.0) -> Points:
    """`torch.optim.SGD`: the first buffer is the gradient, dampening is 0."""
    w, buffer = START, None
    while True:
        yield w
        g = gradient(w) + weight_decay * w
        if momentum:
            buffer = g if buffer is None else momentum * buffer + g
            g = g + momentum * buffer if nesterov else buffer
        w = w - lr * g


def torch_adam(*, lr, betas, eps, weight_decay=0.0, decoupled=False) -> Points:
    """`torch.optim.Adam`, and `AdamW` if decoupled: eps outside of the root, corrected moments."""
    w, m, v, t = START, 0.0, 0.0, 0
    while True:
        yield w
        t += 1
        g = gradient(w) + (0.0 if decoupled else weight_decay * w)
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g**2
        step = m / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
        w = w * (1 - lr * weight_decay if decoupled else 1.0) - lr * step


def ema_momentum(*, nesterov=False) -> Points:
    """The tutorial's momentum: m = b m + (1 - b) g, w = w - lr m."""
    w, m = START, 0.0
    while True:
        yield w
        g = gradient(w)
        m = DECAY * m + (1 - DECAY) * g
        w = w - RATE * (DECAY * m + (1 - DECAY) * g if nesterov else m)


def adam_eps_inside() -> Points:
    """Adam with eps under the root, as optax's `eps_root`."""
    w, m, v, t = START, 0.0, 0.0, 0
    while True:
        yield w
        t += 1
        g = gradient(w)
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g**2
        w = w - RATE * m / (1 - B1**t) / np.sqrt(v / (1 - B2**t) + EPS)


def torch_rmsprop() -> Points:
    """`torch.optim.RMSprop`: the average starts at 0, eps outside of the root."""
    w, v = START, 0.0
    while True:
        yield w
        g = gradient(w)
        v = B2 * v + (1 - B2) * g**2
        w = w - RATE * g / (np.sqrt(v) + EPS)


def torch_adagrad() -> Points:
    """`torch.optim.Adagrad` with a start value, and without eps (theirs outside of the root)."""
    w, v = START, FIRST
    while True:
        yield w
        g = gradient(w)
        v = v + g**2
        w = w - RATE * g / np.sqrt(v)


class Row(NamedTuple):
    """One row: the oracle, and everything that follows its path."""

    oracle: Callable[[], Points]
    same: dict[str, optax.GradientTransformation]


HEAVY_RATE = RATE * (1 - DECAY)
ROWS = {
    "gradient descent": Row(
        lambda: torch_sgd(lr=RATE), {"ours": sgd(RATE), "optax": optax.sgd(RATE)}
    ),
    "momentum, EMA form": Row(
        ema_momentum,
        {
            "ours": momentum(RATE, decay=DECAY),
            "optax": optax.sgd(RATE * (1 - DECAY), momentum=DECAY),
            "optax.ema": optax.chain(optax.ema(DECAY, debias=False), optax.scale(-RATE)),
        },
    ),
    "momentum, heavy ball": Row(
        lambda: torch_sgd(lr=HEAVY_RATE, momentum=DECAY),
        {
            "ours": momentum(HEAVY_RATE / (1 - DECAY), decay=DECAY),
            "optax": optax.sgd(HEAVY_RATE, momentum=DECAY),
        },
    ),
    "Nesterov, EMA form": Row(
        lambda: ema_momentum(nesterov=True),
        {
            "ours": momentum(RATE, decay=DECAY, nesterov=True),
            "optax": optax.sgd(RATE * (1 - DECAY), momentum=DECAY, nesterov=True),
        },
    ),
    "Nesterov, heavy ball": Row(
        lambda: torch_sgd(lr=HEAVY_RATE, momentum=DECAY, nesterov=True),
        {
            "ours": momentum(HEAVY_RATE / (1 - DECAY), decay=DECAY, nesterov=True),
            "optax": optax.sgd(HEAVY_RATE, momentum=DECAY, nesterov=True),
        },
    ),
    "Adam, eps outside": Row(
        lambda: torch_adam(lr=RATE, betas=(B1, B2), eps=EPS),
        {
            "ours": adam(RATE, b1=B1, b2=B2, eps=EPS),
            "optax": optax.adam(RATE, b1=B1, b2=B2, eps=EPS),
        },
    ),
    "Adam, eps inside": Row(
        adam_eps_inside,
        {
            "ours": adam(RATE, b1=B1, b2=B2, eps=0.0, eps_root=EPS),
            "optax": optax.adam(RATE, b1=B1, b2=B2, eps=0.0, eps_root=EPS),
        },
    ),
    "L2 penalty, SGD": Row(
        lambda: torch_sgd(lr=RATE, weight_decay=WEIGHT_DECAY),
        {"ours": optax.chain(optax.add_decayed_weights(WEIGHT_DECAY), sgd(RATE))},
    ),
    "L2 penalty, Adam": Row(
        lambda: torch_adam(lr=RATE, betas=(B1, B2), eps=EPS, weight_decay=WEIGHT_DECAY),
        {
            "ours": optax.chain(
                optax.add_decayed_weights(WEIGHT_DECAY), adam(RATE, b1=B1, b2=B2, eps=EPS)
            )
        },
    ),
    "decoupled weight decay": Row(
        lambda: torch_adam(
            lr=RATE, betas=(B1, B2), eps=EPS, weight_decay=WEIGHT_DECAY, decoupled=True
        ),
        {
            "ours": adamw(RATE, b1=B1, b2=B2, eps=EPS, weight_decay=WEIGHT_DECAY),
            "parts": optax.chain(
                scale_by_adam(b1=B1, b2=B2, eps=EPS),
                optax.add_decayed_weights(WEIGHT_DECAY),
                scale_by_learning_rate(RATE),
            ),
            "optax": optax.adamw(RATE, b1=B1, b2=B2, eps=EPS, weight_decay=WEIGHT_DECAY),
        },
    ),
    "RMSprop": Row(
        torch_rmsprop,
        {"optax": optax.rmsprop(RATE, decay=B2, eps=EPS, eps_in_sqrt=False)},
    ),
    "AdaGrad": Row(
        torch_adagrad, {"optax": optax.adagrad(RATE, initial_accumulator_value=FIRST, eps=0.0)}
    ),
}
PAIRS = [(row, whose) for row in ROWS for whose in ROWS[row].same]


def follow(oracle: Points) -> np.ndarray:
    return np.stack(list(islice(oracle, NUM_STEPS + 1)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("row", "whose"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
def test_the_trajectories_of_a_row_are_one(row, whose):
    optimizer = ROWS[row].same[whose]
    with jax.numpy_dtype_promotion("standard"):  # optax raises floats to the power of counts
        follow_it = jax.jit(lambda w: descend(loss, w, optimizer, NUM_STEPS).points)
        found = follow_it(jnp.asarray(START))
    # fifty steps of a few roundings each, which a contraction does not amplify; Adam's first
    # divides differences by eps = .01
    np.testing.assert_allclose(found, follow(ROWS[row].oracle()), rtol=0, atol=1e-11)


def test_the_conventions_are_different_ones():
    """Rows that ought to differ do: else a row above would show nothing."""
    paths = {name: follow(row.oracle()) for name, row in ROWS.items()}
    paths["heavy ball at the same rate"] = follow(torch_sgd(lr=RATE, momentum=DECAY))
    for one, other in combinations(paths, 2):
        if {one, other} not in SAME_PATHS:
            assert np.abs(paths[one] - paths[other]).max() > 1e-3, (one, other)


SAME_PATHS = [
    {f"{name}, EMA form", f"{name}, heavy ball"} for name in ("momentum", "Nesterov")
]  # HEAVY_RATE makes them one


def test_the_page_has_every_row():
    page = (Path(__file__).parents[2] / "docs" / "optimizers.md").read_text(encoding="utf-8")
    table = page[page.index("## Equivalences") :]
    rows = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)
    assert [row for row in rows if row not in ("rule", "---")] == list(ROWS)
