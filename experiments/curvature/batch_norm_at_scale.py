"""BatchNorm lowers the largest curvature of a small CNN trained by gradient descent.

Question: Does BatchNorm lower the largest curvature of a convolutional network, too?

Claim: after training by gradient descent the largest eigenvalue of the Hessian of a small network
of two convolutions is lower with BatchNorm than without, beyond the scatter of the seeds. At the
start it is not: there BatchNorm brings all draws to nearly one curvature, which is below that of
some plain networks and above that of others. The objective with BatchNorm is that of the whole
batch, over which it normalises. "May reduce curvature" is what the tutorial says; see `batch_norm`
for a perceptron.

Why: The answer changes during training: at the start it makes curvatures alike rather than small.
Measuring once, at the start, would mislead.

Source: Technion tutorial 5, BatchNorm; Santurkar et al. (2018), https://arxiv.org/abs/1805.11604.
Section: B1.
Command: python -m experiments batch_norm_at_scale [--data full]
Expected: largest eigenvalue after training 45 without and 12 with BatchNorm; at the start 22 and 9
in the mean, but 5 to 86 without and 7 to 13 with it
Time: 15 s.
"""

import dataclasses
import sys
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from jaxopt_tut import datasets
from jaxopt_tut.curvature import hessian, top_eigenpairs
from jaxopt_tut.plotting import new_figure, plot_lines
from jaxopt_tut.plotting.style import COLORS

MODELS = ("plain", "BatchNorm")
WHEN = ("start", "trained")


@dataclasses.dataclass(frozen=True)
class Config:
    """How many networks of which size, and how long they are trained."""

    num_seeds: int = 8
    num_images: int = 64
    num_steps: int = 60
    learning_rate: float = 0.05
    widths: tuple[int, int] = (4, 8)
    data: Literal["mini", "full"] = "mini"

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_seeds=2, num_steps=5, widths=(3, 4))

    def whole(self) -> "Config":
        return dataclasses.replace(self, num_seeds=16, num_steps=100)


class Result(NamedTuple):
    """For each model."""

    eigenvalues: dict[str, dict[str, np.ndarray]]
    """The largest of the Hessian at the start and after training, shape (seeds,)."""
    converged: float
    """Share of them that Lanczos found."""
    losses: dict[str, np.ndarray]
    """Of every step, shape (seeds, steps)."""


def init(key, widths):
    """Draw two convolutions and a head, with Kaiming's variances."""
    keys = jax.random.split(key, 3)
    shapes = [(3, 3, 1, widths[0]), (3, 3, *widths), (16 * widths[1], 10)]
    draw = lambda k, shape: jax.random.normal(k, shape) * np.sqrt(2 / np.prod(shape[:-1]))
    kernels = [draw(k, shape) for k, shape in zip(keys, shapes, strict=True)]
    return [
        {"kernel": k, "scale": jnp.ones(k.shape[-1]), "bias": jnp.zeros(k.shape[-1])}
        for k in kernels
    ]


def loss_fn(params, batch, *, has_norm):
    """Evaluate the cross-entropy of a network on images of 16 by 16 pixels."""
    hidden, labels = batch
    for layer in params[:-1]:
        hidden = jax.lax.conv_general_dilated(
            hidden, layer["kernel"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        if has_norm:
            mean, var = jnp.mean(hidden, (0, 1, 2)), jnp.var(hidden, (0, 1, 2))
            hidden = (hidden - mean) / jnp.sqrt(var + 1e-5)
        hidden = jax.nn.relu(hidden * layer["scale"] + layer["bias"])
    head = params[-1]
    logits = hidden.reshape(len(hidden), -1) @ head["kernel"] + head["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


LOSSES = {name: partial(loss_fn, has_norm=name == "BatchNorm") for name in MODELS}


@partial(jax.jit, static_argnames="model")
def step(params, batch, learning_rate, *, model):
    """Take a step of gradient descent."""
    value, grads = jax.value_and_grad(LOSSES[model])(params, batch)
    return jax.tree.map(lambda w, g: w - learning_rate * g, params, grads), value


def images(config: Config):
    """Return images averaged over 2 by 2 pixels, with a border, and labels."""
    dataset = datasets.load(config.data)
    few = np.asarray(dataset.train.images[: config.num_images], np.float32) / 255
    few = ((few - dataset.mean) / dataset.std).reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4))
    few = np.pad(few, [(0, 0), (1, 1), (1, 1)], mode="edge")[..., None]
    return jnp.asarray(few), jnp.asarray(dataset.train.labels[: config.num_images])


def run(config: Config) -> Result:
    batch = images(config)
    found = {model: {when: [] for when in WHEN} for model in MODELS}
    losses, converged = {model: [] for model in MODELS}, []
    for model in MODELS:
        for seed in range(config.num_seeds):
            params, values = init(jax.random.key(seed), config.widths), []
            for when in WHEN:
                op = hessian(LOSSES[model], params, batch)
                top = top_eigenpairs(op, 1, jax.random.key(100 + seed), tol=1e-2)
                found[model][when].append(float(top.values[0]))
                converged.append(bool(top.converged[0]))
                if when == "trained":
                    break
                for _ in range(config.num_steps):
                    params, value = step(params, batch, config.learning_rate, model=model)
                    values.append(value)
            losses[model].append(np.asarray(jax.device_get(values)))
    arrays = {m: {when: np.array(of) for when, of in found[m].items()} for m in MODELS}
    return Result(arrays, float(np.mean(converged)), {m: np.stack(of) for m, of in losses.items()})


def log_ratio(result: Result, when: str) -> np.ndarray:
    """Return the log of the eigenvalue without BatchNorm over that with it, one a seed."""
    return np.log(result.eigenvalues["plain"][when] / result.eigenvalues["BatchNorm"][when])


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return Student's 95 % interval of a mean over seeds."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def check(result: Result) -> list[Claim]:
    text = "log of the largest eigenvalue, plain over BatchNorm"
    spread = {m: np.std(np.log(of["start"]), ddof=1) for m, of in result.eigenvalues.items()}
    claims = [
        at_least(
            f"{text}, trained: lower end of 95 %",
            interval(log_ratio(result, "trained"))[0],
            0,
            headline=True,
        ),
        at_most(
            f"{text}, start: lower end of 95 %",
            interval(log_ratio(result, "start"))[0],
            0.0,
            required=False,
            original="BatchNorm may reduce curvature",
        ),
        # with 8 networks a ratio of 1.9 has a probability of 5 % where the spreads are equal
        at_least(
            "spread of its log over draws, plain over BatchNorm, start",
            float(spread["plain"] / spread["BatchNorm"]),
            1.9,
        ),
    ]
    falls = [values[:, -1] / values[:, 0] for values in result.losses.values()]
    return [
        *claims,
        at_least("share of eigenvalues that Lanczos found", result.converged, 1.0),
        # trained: at most nine tenths of the loss of the start are left
        at_most("largest loss of the last step over that of the first", np.max(falls), 0.9),
    ]


def plot(result: Result):
    left, right = (figure := new_figure(11.0, 4.2)).subplots(1, 2)
    for i, model in enumerate(MODELS):
        found = np.stack([result.eigenvalues[model][when] for when in WHEN])
        left.plot(WHEN, found, color=COLORS[i], marker="os"[i], alpha=0.7)
        left.plot([], [], color=COLORS[i], marker="os"[i], label=model)
    left.set(yscale="log", ylabel="largest eigenvalue of the Hessian")
    left.set_title("Trained, BatchNorm has the lower ones (a line a network)", fontsize="medium")
    left.margins(x=0.3)
    left.legend()
    plot_lines(
        np.arange(result.losses["plain"].shape[1]),
        {model: values.mean(axis=0) for model, values in result.losses.items()},
        xlabel="step of gradient descent",
        ylabel="loss (nats)",
        title=f"Both learn (mean over {len(result.losses['plain'])} networks)",
        ax=right,
    )
    return {"curvature": figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
