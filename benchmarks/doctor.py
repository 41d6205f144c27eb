"""The training doctor: false alarms on healthy nets, hits on planted faults, and what it costs.

Rates are per layer (per net for faults that are not of a layer) over 20 seeds, other ones than
those the thresholds were set on, with Wilson intervals at 95 %. A fault of scale counts as found
at a layer if a verdict of one of the expected kinds names it; layers in front of a normalisation
are not counted, for they have no scale. Healthy nets: bar 2 % of false alarms; faults: 95 % of
hits, except for the rows marked "mild", which have no bar.
"""

import math
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from benchmarks.measure import interleaved, median_ratio, print_table
from jaxopt_tut import taps
from jaxopt_tut.calibration import auto_init
from jaxopt_tut.datasets import load_fashion_mnist_mini
from jaxopt_tut.diagnostics import diagnose
from jaxopt_tut.diagnostics import statistics as layer_statistics
from jaxopt_tut.models import mlp

FIRST_SEED = 1000
BATCH, WIDTH = 128, 64


class Mlp(nn.Module):
    """Five hidden layers."""

    activation: Callable
    gain: float
    depth: int = 5

    @nn.compact
    def __call__(self, x):
        draw = nn.initializers.variance_scaling(self.gain, "fan_in", "normal")
        x = x.reshape(len(x), -1)
        for _ in range(self.depth):
            x = self.activation(nn.Dense(WIDTH, kernel_init=draw)(x))
        return nn.Dense(10)(x)


class Cnn(nn.Module):
    """Three convolutions with batch normalisation, or three residual blocks."""

    residual: bool = False

    @nn.compact
    def __call__(self, x):
        x = x[..., None]
        for k in range(3):
            h = nn.Conv(32, (3, 3), (2, 2) if k < 2 else (1, 1), use_bias=False)(x)
            h = nn.relu(nn.BatchNorm(use_running_average=False)(h))
            if self.residual:
                h = h + nn.BatchNorm(use_running_average=False)(nn.Conv(32, (3, 3))(h))
            x = nn.relu(h)
        return nn.Dense(10)(x.mean((1, 2)))


class Transformer(nn.Module):
    """Two blocks over the rows of an image."""

    is_pre_norm: bool

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(WIDTH)(x)  # the rows of an image are its tokens
        x = x + self.param("position", nn.initializers.normal(1.0), x.shape[1:])
        for _ in range(2):
            for branch in (nn.MultiHeadDotProductAttention(num_heads=4), self.feed_forward):
                if self.is_pre_norm:
                    x = x + branch(nn.LayerNorm()(x))
                else:
                    x = nn.LayerNorm()(x + branch(x))
        return nn.Dense(10)((nn.LayerNorm()(x) if self.is_pre_norm else x).mean(1))

    def feed_forward(self, x):
        return nn.Dense(WIDTH)(nn.gelu(nn.Dense(4 * WIDTH)(x)))


class Rnn(nn.Module):
    """A tanh cell over the rows of an image."""

    @nn.compact
    def __call__(self, x):
        cell = nn.RNN(nn.SimpleCell(WIDTH, recurrent_kernel_init=nn.initializers.orthogonal()))
        return nn.Dense(10)(jnp.asarray(cell(x))[:, -1])


class Net(NamedTuple):
    """A network, its loss, and what is needed to plant faults in it."""

    name: str
    model: nn.Module
    loss_fn: Callable
    init: Callable


def make_net(name: str, model: nn.Module, images) -> Net:
    def loss_fn(params, batch):
        logits: Any = model.apply(params, batch[0], mutable=["batch_stats"])[0]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]))

    def init(key):
        return {"params": model.init(key, images)["params"]}

    return Net(name, model, loss_fn, jax.jit(init))


def zoo(images) -> list[Net]:
    return [
        make_net(name, model, images)
        for name, model in (
            ("MLP ReLU", Mlp(nn.relu, 2.0)),
            ("MLP tanh", Mlp(jnp.tanh, 1.0)),
            ("CNN BatchNorm", Cnn()),
            ("ResNet", Cnn(residual=True)),
            ("Transformer pre", Transformer(True)),
            ("Transformer post", Transformer(False)),
            ("RNN", Rnn()),
        )
    ]


def wilson(hits: int, total: int) -> str:
    """Write a rate with its Wilson interval at 95 %."""
    if not total:
        return "-"
    z, rate = 1.96, hits / total
    centre = (rate + z * z / (2 * total)) / (1 + z * z / total)
    spread = z * math.sqrt(rate * (1 - rate) / total + (z / (2 * total)) ** 2) / (1 + z * z / total)
    return f"{hits}/{total} = {rate:.1%} [{max(centre - spread, 0):.1%}, {centre + spread:.1%}]"


def kernels(params, change):
    """Apply a change to every weight, not to biases, norms and positions."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: change(leaf) if "kernel" in jax.tree_util.keystr(path) else leaf, params
    )


def biases(params, value):
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf + value if "bias" in jax.tree_util.keystr(path) else leaf, params
    )


LARGE = {"exploding", "saturated", "logits_too_large"}
SCALES = [
    ("scale x10", 10.0, LARGE, ""),
    ("scale x1/10", 0.1, {"vanishing"}, ""),
    ("scale x2", 2.0, LARGE, "mild"),
    ("scale x1/2", 0.5, {"vanishing"}, "mild"),
]


def false_alarms(nets, batch, seeds):
    optimizer = optax.adam(1e-3)
    rows = []
    for net in nets:
        alarms = total = 0
        kinds: set[str] = set()
        for seed in seeds:
            found = diagnose(
                net.loss_fn, net.init(jax.random.key(seed)), batch, optimizer=optimizer
            )
            alarms += len({verdict.layer for verdict in found.verdicts})
            kinds |= {verdict.kind for verdict in found.verdicts}
            total += len(found.layers)
        rows.append([net.name, wilson(alarms, total), ", ".join(sorted(kinds))])
    print_table(
        "False alarms on healthy nets, Adam 1e-3 (bar: 2 %)", ["net", "rate", "kinds"], rows
    )


def hits(nets, batch, seeds):
    optimizer = optax.adam(1e-3)
    images, labels = batch
    raw = ((images * 0.3530 + 0.2861) * 255, labels)
    rows = []

    def rate(net, expected, *, change=lambda p: p, data=batch, optimizer=optimizer, by_layer=False):
        found = total = 0
        for seed in seeds:
            params = change(net.init(jax.random.key(seed)))
            diagnosis = diagnose(net.loss_fn, params, data, optimizer=optimizer)
            named = {v.layer.split("[")[0] for v in diagnosis.verdicts if v.kind in expected}
            scaled = {w.name for w in diagnosis.statistics.wiring if not w.is_normalized}
            found += len(named & scaled) if by_layer else bool(named)
            total += len(scaled) if by_layer else 1
        return wilson(found, total)

    for net in nets:
        for name, factor, expected, note in SCALES:
            change = lambda p, factor=factor: kernels(p, lambda leaf: factor * leaf)
            rows.append([name, net.name, rate(net, expected, change=change, by_layer=True), note])
        constant = lambda p: kernels(p, lambda leaf: jnp.full_like(leaf, 0.05))
        rows.append(["constant 0.05", net.name, rate(net, {"symmetric"}, change=constant), ""])
        if net.name == "MLP ReLU":
            shift = lambda p: biases(p, -5.0)
            rows.append(["bias -5", net.name, rate(net, {"dead"}, change=shift), ""])
            milder = lambda p: kernels(p, lambda leaf: leaf / math.sqrt(2))
            rows.append(["Xavier", net.name, rate(net, {"vanishing"}, change=milder), "mild"])
        if net.name == "MLP tanh":
            change = lambda p: kernels(p, lambda leaf: 4.0 * leaf)
            rows.append(["scale x4", net.name, rate(net, {"saturated"}, change=change), ""])
        wrong = {"input_not_normalized"}
        rows.append(["input 0..255", net.name, rate(net, wrong, data=raw), ""])
        fast, slow = optax.adam(3e-2), optax.adam(1e-6)
        rows.append(["rate x30", net.name, rate(net, {"lr_too_high"}, optimizer=fast), ""])
        rows.append(["rate /1000", net.name, rate(net, {"lr_too_low"}, optimizer=slow), ""])
    print_table(
        "Hits on planted faults (bar: 95 % where not mild)", ["fault", "net", "rate", ""], rows
    )


def cost(nets, batch, rounds):
    rows = []
    for net in nets:
        params = net.init(jax.random.key(0))
        plain = jax.jit(jax.value_and_grad(net.loss_fn))
        measured = jax.jit(lambda p, b, net=net: layer_statistics(net.loss_fn, p, b))
        tapped = jax.jit(taps.record_gradients(net.loss_fn))
        programs = {"plain": plain, "statistics": measured, "taps": tapped}
        seconds = interleaved(
            {name: partial(_finish, program, params, batch) for name, program in programs.items()},
            rounds,
        )
        base = seconds["plain"]
        rows.append(
            [
                net.name,
                1e3 * statistics.median(base),
                median_ratio(seconds["statistics"], base),
                median_ratio(seconds["taps"], base),
            ]
        )
    header = ["net", "gradient, ms", "diagnose / gradient", "taps alone / gradient"]
    print_table("Cost of the compiled statistics (bar: 2)", header, rows)


def _finish(program, *args):
    return jax.block_until_ready(program(*args))


def deep_calibration():
    params = mlp.init(jax.random.key(0), (784,) + (128,) * 50 + (10,))
    images = jax.random.normal(jax.random.key(1), (BATCH, 784))
    start = time.perf_counter()
    _, report = auto_init(jax.random.key(2), mlp.apply, params, images)
    seconds = time.perf_counter() - start
    inside = sum(0.5 < float(layer.after) < 2 for layer in report.layers.values())
    row = ["auto_init, 51 layers", seconds, f"{inside}/{len(report.layers)}"]
    header = ["", "seconds with compiling", "variances in [0.5, 2]"]
    print_table("Calibration (bar: 10 s)", header, [row])


def main(quick: bool = False) -> None:
    train = load_fashion_mnist_mini().train
    images = (train.images[:BATCH].astype("float32") / 255 - 0.2861) / 0.3530
    batch = (jnp.asarray(images), jnp.asarray(train.labels[:BATCH]))
    nets = zoo(batch[0])
    seeds = range(FIRST_SEED, FIRST_SEED + (3 if quick else 20))
    deep_calibration()
    cost(nets[::2] if quick else nets, batch, 5 if quick else 30)
    false_alarms(nets, batch, seeds)
    hits(nets[:2] if quick else nets, batch, seeds)
