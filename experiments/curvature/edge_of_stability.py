"""Gradient descent on the whole batch brings a network to the limit of its rate, to a fifth.

Question: What becomes of the limit 2/eta of a quadratic when a network is trained?

Claim: gradient descent on a tanh network with squared error drives the largest eigenvalue of the
Hessian up to 2 over the learning rate, where a quadratic would begin to diverge, and then holds it
there while the loss goes on falling: the edge of stability. So do both forms of momentum at their
larger limits, and Adam, for the Hessian that it sees, preconditioned by the averages of squared
gradients. With cross-entropy the sharpness rises to the limit and then falls, as the outputs grow.
The critical sharpness, 2 over the smallest rate that raises the loss, which needs no second
derivatives, comes to the same limit.

Why: Training with the full batch does not avoid the limit, it moves there and stays. So the
learning rate chooses the curvature, and not the other way round.

Source: Technion tutorial 5, step size and curvature, has the limit on a
quadratic; Cohen et al. (2021), Gradient descent on neural networks typically occurs at the edge of
stability; Cohen et al. (2022), Adaptive gradient methods at the edge of stability.
Section: B1.
Command: python -m experiments edge_of_stability [--data full]
Expected: sharpness over its limit in the last quarter: gradient descent 1.01, momentum .94 (heavy
ball) and .92 (average), Adam .94; cross-entropy 1.8 at most and .35 at the end; critical sharpness
.99
Time: 10 s; with --whole, 2000 steps and 5 seeds, 1 minute.
"""

import dataclasses
import sys
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most, between
from experiments._images import load_coarse
from experiments._runner import run_script
from jaxopt_tut.curvature import (
    Critical,
    adam_preconditioner,
    sharpness,
    sharpness_probe,
    stability_limit,
)
from jaxopt_tut.initializers import equal_variance
from jaxopt_tut.models import mlp
from jaxopt_tut.optimizers import adam, momentum, sgd
from jaxopt_tut.plotting import new_figure, plot_lines, plot_sharpness
from jaxopt_tut.probes import Probe, Snapshot
from jaxopt_tut.training import fit

DECAY = 0.9
NUM_EXAMPLES = 100
RATES = {
    "gradient descent": 0.1,
    "momentum, heavy ball": 0.15,
    "momentum, average": 1.2,
    "Adam": 7e-3,
    "cross-entropy": 0.5,
}
"""For each the sharpness at the start is about the limit, or far below."""


@dataclasses.dataclass(frozen=True)
class Config:
    """How long is trained, from how many starts."""

    num_steps: int = 700
    num_seeds: int = 2
    width: int = 16
    measure_every: int = 20
    data: Literal["mini", "full"] = "mini"

    def quick(self) -> "Config":
        return dataclasses.replace(self, num_steps=60, num_seeds=2, width=4, measure_every=10)

    def whole(self) -> "Config":
        return dataclasses.replace(self, num_steps=2000, num_seeds=5, measure_every=10)


class Result(NamedTuple):
    """What was measured every so many steps."""

    steps: np.ndarray
    sharpness: dict[str, np.ndarray]
    """Over its limit, shape (seeds, measurements); of Adam NaN before the first step."""
    critical: np.ndarray
    """The critical sharpness of gradient descent, over the same limit."""
    loss: dict[str, np.ndarray]
    """Before each step, shape (seeds, steps)."""


def optimizers():
    """Return for each run its optimizer and its limit."""
    rates, limit = RATES, stability_limit
    heavy_ball = partial(optax.sgd, momentum=DECAY)
    return {
        name: (make(rates[name]), float(limit_of(rates[name])))
        for name, make, limit_of in (
            ("gradient descent", sgd, limit),
            ("momentum, heavy ball", heavy_ball, partial(limit, momentum=DECAY, form="heavy_ball")),
            ("momentum, average", partial(momentum, decay=DECAY), partial(limit, momentum=DECAY)),
            ("Adam", adam, partial(limit, form="adam")),
            ("cross-entropy", sgd, limit),
        )
    }


def squared_error(params, batch):
    images, targets = batch
    outputs = mlp.apply(params, images, activation=jnp.tanh)
    return jnp.mean(jnp.sum((outputs - targets) ** 2, axis=-1)) / 2


def cross_entropy(params, batch):
    images, targets = batch
    outputs = mlp.apply(params, images, activation=jnp.tanh)
    return jnp.mean(optax.softmax_cross_entropy(outputs, targets))


LOSSES = {name: cross_entropy if name == "cross-entropy" else squared_error for name in RATES}


def examples(data):
    """Return the images that all is trained on at once, and their classes as 0 and 1."""
    images, labels = (part[:NUM_EXAMPLES] for part in load_coarse(data, 4))
    return images, jax.nn.one_hot(labels, 10)


def start(key, width):
    """Draw a network with variances of 1 over the number of inputs."""
    return mlp.init(key, (49, width, width, 10), kernel_init=equal_variance())


@jax.jit
def one_of(tree, seed):
    """Take a seed's part of a tree."""
    return jax.tree.map(lambda leaf: leaf[seed], tree)


def of_every_seed(probe: Probe, name, num_seeds):
    """Measure each seed's network of a run by itself."""
    is_by_run = lambda node: isinstance(node, dict) and name in node

    def part(now: Snapshot, seed) -> Snapshot:
        own = one_of(now.params[name], seed)
        if name != "Adam":
            return Snapshot(now.step, own)
        # what the state keeps of all runs but Adam's is empty
        state = jax.tree.map(
            lambda node: node[name] if is_by_run(node) else node,
            now.opt_state.inner_states[name].inner_state,
            is_leaf=is_by_run,
        )
        scale = adam_preconditioner(state)
        return Snapshot(now.step, own, one_of(scale, seed))

    def measure(states, now):
        found = [probe.measure(state, part(now, i)) for i, state in enumerate(states)]
        return [state for state, _ in found], [measured for _, measured in found]

    return Probe(lambda now: [probe.init(part(now, i)) for i in range(num_seeds)], measure)


def run(config: Config) -> Result:
    data, made = examples(config.data), optimizers()

    def together(params, _):
        """Add the losses of all runs: of the sum each gets the gradient of its own."""
        values = {name: jax.vmap(LOSSES[name], (0, None))(params[name], data) for name in RATES}
        each = {f"{name} {i}": v[i] for name, v in values.items() for i in range(config.num_seeds)}
        return sum(map(jnp.sum, values.values())), each

    @jax.jit
    def critical_sharpness(params):
        return sharpness(squared_error, params, data, kind=Critical()).mean

    probes = {
        name: sharpness_probe(
            LOSSES[name],
            data,
            key=jax.random.key(2),
            preconditioner=(lambda scale: scale) if name == "Adam" else None,
        )
        for name in RATES
    }
    measure = lambda state, now: (state, critical_sharpness(now.params))
    critical = of_every_seed(Probe(lambda _: None, measure), "gradient descent", config.num_seeds)
    keys = jax.vmap(jax.random.key)(jnp.arange(config.num_seeds))
    # one run of all, so that one program is compiled; its batches are but a count of steps
    history = fit(
        together,
        dict.fromkeys(RATES, jax.vmap(partial(start, width=config.width))(keys)),
        optax.multi_transform({name: of for name, (of, _) in made.items()}, {n: n for n in RATES}),
        jnp.zeros(config.num_steps),
        batch_size=1,
        num_epochs=1,
        key=jax.random.key(0),
        progress=False,
        probes={n: of_every_seed(probe, n, config.num_seeds) for n, probe in probes.items()}
        | {"critical": critical},
        probe_every=config.measure_every,
    ).history
    seeds = range(config.num_seeds)
    return Result(
        history.probe_steps,
        {
            name: np.stack([one.value for one in history.probes[name]]) / limit
            for name, (_, limit) in made.items()
        },
        np.stack(history.probes["critical"]) / made["gradient descent"][1],
        {name: np.stack([history.steps[f"{name} {i}"] for i in seeds]) for name in RATES},
    )


def last_quarter(values):
    """Return the mean of each seed over the last quarter of the measurements."""
    return values[:, -(values.shape[1] // 4) :].mean(axis=1)


def check(result: Result) -> list[Claim]:
    claims = []
    for name, values in result.sharpness.items():
        if name == "cross-entropy":
            continue
        # Cohen et al. see gradient descent somewhat above its limit and Adam somewhat below, their
        # figures within a fifth of it. No run is there from the start: all fall or rise first.
        text = f"{name}: sharpness over its limit, mean over seeds"
        is_plain = name == "gradient descent"
        mean = float(last_quarter(values).mean())
        claims.append(between(text, mean, 0.8, 1.2, headline=is_plain))
        early, late = (result.loss[name][:, at] for at in (result.loss[name].shape[1] // 4, -1))
        claims.append(at_most(f"{name}: loss at the end over that before", max(late / early), 1))
    entropy = result.sharpness["cross-entropy"]
    claims.append(
        at_least("cross-entropy: largest over the limit", entropy.max(axis=1).min(), 0.95)
    )
    claims.append(at_most("cross-entropy: over the limit at the end", entropy[:, -1].max(), 0.5))
    # median: where the gradient happens to lie across the top eigenvector it is smaller
    ends = np.median(result.critical[:, -(result.critical.shape[1] // 4) :], axis=1)
    centre = float(np.mean(ends))
    claims.append(between("critical sharpness over the limit, median", centre, 0.9, 1.1))
    return claims


def plot(result: Result):
    seeds = f"{len(result.critical)} seeds"
    figure = new_figure(7.2, 6.6)
    top, bottom = figure.subplots(2, 1)
    plot_sharpness(
        result.steps, result.sharpness, limits=dict.fromkeys(result.sharpness, 1.0), relative=True,
        title=f"All but cross-entropy end near the limit (median and range of {seeds})",
        ax=top,
    )  # fmt: skip
    top.set_ylim(0, 2)
    top.set_yticks([0, 0.5, 1, 1.5, 2])
    top.set_xlabel("")
    both = {
        "largest eigenvalue": result.sharpness["gradient descent"],
        "critical sharpness": result.critical,
    }
    plot_sharpness(
        result.steps, both, limits=dict.fromkeys(both, 1.0), relative=True,
        title="Gradient descent: the critical sharpness comes to the same limit", ax=bottom,
    )  # fmt: skip
    bottom.set_ylim(0, 2)
    bottom.set_yticks([0, 0.5, 1, 1.5, 2])
    curves = {name: np.median(values, axis=0) for name, values in result.loss.items()}
    loss = plot_lines(
        np.arange(len(next(iter(curves.values())))), curves,
        xlabel="step", ylabel="loss", yscale="log",
        title=f"At the limit the loss goes on falling (median of {seeds})",
    )  # fmt: skip
    return {"sharpness": figure, "loss": loss.figure}


if __name__ == "__main__":
    run_script(sys.modules[__name__])
