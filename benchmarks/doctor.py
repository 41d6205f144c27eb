"""The training doctor: false alarms on healthy nets, hits on planted faults, and what it costs.

Rates are per layer (per net for faults that are not of a layer) over 20 seeds, other ones than
those the thresholds were set on, with Wilson intervals at 95 %. A fault of scale counts as found
at a layer if a verdict of one of the expected kinds names it; layers in front of a normalisation
are not counted, for they have no scale. The networks of `doctor_models` follow, as their libraries
or their authors draw them, with faults in one layer at a time; the gates of a cell are one place.
Healthy nets: bar 2 % of false alarms; faults: 95 % of hits, except for the rows marked "mild",
which have no bar.
"""

import math
import statistics
import time
from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from benchmarks.doctor_faults import (
    LARGE,
    SMALL,
    adam_at_a_rate_among_the_parameters,
    is_found,
    place_of,
    planted,
)
from benchmarks.doctor_models import batches, default_models
from benchmarks.measure import interleaved, median_ratio, print_table
from jaxopt_tut import taps
from jaxopt_tut.calibration import auto_init
from jaxopt_tut.datasets import load_fashion_mnist_mini
from jaxopt_tut.diagnostics import diagnose
from jaxopt_tut.diagnostics.measuring.one_pass import measure
from jaxopt_tut.models import mlp

FIRST_SEED = 2000
BATCH, WIDTH = 64, 64


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
    loss_fn: Callable
    captured_loss_fn: Callable
    init: Callable


def make_net(name: str, model: nn.Module, images) -> Net:
    def loss_fn(params, batch):
        logits: Any = model.apply(params, batch[0], mutable=["batch_stats"])[0]
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]))

    def init(key):
        return {"params": model.init(key, images)["params"]}

    def captured_loss_fn(params, batch):
        logits, state = model.apply(
            params, batch[0], capture_intermediates=True, mutable=["batch_stats", "intermediates"]
        )
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, batch[1])
        return jnp.mean(loss), state["intermediates"]

    return Net(name, loss_fn, captured_loss_fn, jax.jit(init))


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


class Case(NamedTuple):
    """A network as it is drawn, or with a fault.

    Attributes:
      name: What is wrong.
      expected: The kinds of verdict that name it; none for a healthy network.
      change: What is done to the parameters.
      rate: Adam's learning rate.
      is_raw: Whether the pixels come as 0 to 255.
      by_layer: Whether each layer is to be named, or any.
      note: "mild" where no bar is set.
    """

    name: str
    expected: frozenset[str]
    change: Callable = lambda params: params
    rate: float = 1e-3
    is_raw: bool = False
    by_layer: bool = False
    note: str = ""


HEALTHY = Case("healthy", frozenset())


def scaled(factor):
    return lambda params: kernels(params, lambda leaf: factor * leaf)


def faults(net: Net) -> list[Case]:
    cases = [
        Case("scale x10", LARGE, scaled(10.0), by_layer=True),
        Case("scale x1/10", SMALL, scaled(0.1), by_layer=True),
        Case("scale x2", LARGE, scaled(2.0), by_layer=True, note="mild"),
        Case("scale x1/2", SMALL, scaled(0.5), by_layer=True, note="mild"),
        Case(
            "constant 0.05",
            frozenset({"symmetric"}),
            lambda params: kernels(params, lambda leaf: jnp.full_like(leaf, 0.05)),
        ),
        Case("input 0..255", frozenset({"input_not_normalized"}), is_raw=True),
        Case("rate x30", frozenset({"lr_too_high"}), rate=3e-2),
        Case("rate /1000", frozenset({"lr_too_low"}), rate=1e-6),
    ]
    if net.name == "MLP ReLU":
        xavier = scaled(1 / math.sqrt(2))
        cases += [
            Case("bias -5", frozenset({"dead"}), lambda params: biases(params, -5.0)),
            Case("Xavier", SMALL, xavier, by_layer=True, note="mild"),
        ]
    if net.name == "MLP tanh":
        cases.append(Case("scale x4", frozenset({"saturated"}), scaled(4.0)))
    return cases


class Rate(NamedTuple):
    """How often something was found, and which kinds of verdict there were."""

    found: int
    total: int
    kinds: Counter[str]


def rates(net: Net, cases, batch, seeds) -> list[Rate]:
    """Diagnose a network with each fault in turn, all by one compiled program."""
    adam = adam_at_a_rate_among_the_parameters()
    images, labels = batch
    raw = (images * 0.3530 + 0.2861) * 255

    def loss_fn(params, batch):
        return net.loss_fn(params["net"], batch)

    found = []
    for case in cases:
        hits = total = 0
        kinds: Counter[str] = Counter()
        for seed in seeds:
            params = case.change(net.init(jax.random.key(seed)))
            diagnosis = diagnose(
                loss_fn,
                {"net": params, "rate": jnp.asarray(case.rate)},
                (raw if case.is_raw else images, labels),
                optimizer=adam,
            )
            verdicts = [
                v for v in diagnosis.verdicts if not case.expected or v.kind in case.expected
            ]
            wiring = {layer.name: layer for layer in diagnosis.statistics.wiring}
            named = {place_of(wiring[verdict.layer.split("[")[0]]) for verdict in verdicts}
            judged = {
                place_of(layer)
                for layer in wiring.values()
                if not case.by_layer or not layer.is_normalized
            }
            each = case.by_layer or not case.expected
            hits += len(named & judged) if each else bool(named)
            total += len(judged) if each else 1
            kinds.update(verdict.kind for verdict in diagnosis.verdicts)
        found.append(Rate(hits, total, kinds))
    return found


def verdict_rates(nets, batch, seeds):
    """Print false alarms and hits."""
    healthy, planted = [], []
    for net in nets:
        cases = faults(net)
        alarms, *hits = rates(net, [HEALTHY, *cases], batch, seeds)
        kinds = ", ".join(f"{kind} {count}" for kind, count in alarms.kinds.most_common())
        healthy.append([net.name, wilson(alarms.found, alarms.total), kinds])
        planted += [
            [case.name, net.name, wilson(hit.found, hit.total), case.note]
            for case, hit in zip(cases, hits, strict=True)
        ]
    print_table(
        "False alarms on healthy nets, Adam 1e-3 (bar: 2 %)", ["net", "rate", "kinds"], healthy
    )
    print_table(
        "Hits on planted faults (bar: 95 % where not mild)", ["fault", "net", "rate", ""], planted
    )


def default_rates(data, seeds, fault_seeds):
    """Print false alarms and hits on networks as their libraries draw them.

    Faults are planted in fewer draws: one layer at a time they are forty a network.
    """
    adam = adam_at_a_rate_among_the_parameters()
    healthy, hits = [], {}
    all_alarms = all_layers = 0
    for name, model in default_models(data).items():
        batch = data[model.data]

        def diagnosis(params, rate=1e-3, is_raw=False, model=model, batch=batch):
            values = ((batch[0] * 0.3530 + 0.2861) * 255, batch[1]) if is_raw else batch
            loss_fn = _with_rate(model)
            params = params | {"rate": jnp.asarray(rate)}
            return diagnose(loss_fn, params, values, optimizer=adam)

        alarms, kinds, total = 0, Counter(), 0
        for seed in seeds:
            params = {"net": model.init(jax.random.key(seed))}
            found = diagnosis(params, model.rate)
            kinds.update(verdict.kind for verdict in found.verdicts)
            alarms += len({verdict.layer.split("[")[0] for verdict in found.verdicts})
            total += len(found.layers)
            if seed not in fault_seeds:
                continue
            for fault in planted(name, params, found.statistics.wiring):
                seen = diagnosis(fault.change(params), fault.rate, fault.is_raw)
                hits.setdefault(fault.name, Counter())[is_found(fault, seen)] += 1
        counts = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
        healthy.append([name, wilson(alarms, total), counts])
        all_alarms, all_layers = all_alarms + alarms, all_layers + total
    print_table(
        "False alarms on default and published models (bar: 2 %)", ["net", "rate", "kinds"], healthy
    )
    print_table(
        "Hits on faults planted in them (bar: 95 %)",
        ["fault", "rate"],
        [[name, wilson(count[True], count.total())] for name, count in hits.items()],
    )
    found = sum(hits.values(), Counter())
    print(f"\nFalse alarms: {wilson(all_alarms, all_layers)} of layers (target: at most 2 %)")
    print(f"Found: {wilson(found[True], found.total())} of planted faults (target: at least 95 %)")


@cache
def _with_rate(model):
    """Build the loss of a network beside Adam's rate once, so that it is compiled once."""
    return lambda params, batch: model.loss_fn(params["net"], batch)


def cost(nets, batch, rounds):
    rows = []
    for net in nets:
        params = net.init(jax.random.key(0))
        programs = {
            "plain": jax.value_and_grad(net.loss_fn),
            "statistics": partial(measure, "benchmark", net.loss_fn),
            "taps": taps.record_gradients(net.loss_fn),
            "flax": jax.value_and_grad(net.captured_loss_fn, has_aux=True),
        }
        compiled, compiling = {}, {}
        for name, program in programs.items():
            lowered = jax.jit(program).lower(params, batch)
            start = time.process_time()
            compiled[name] = lowered.compile()
            compiling[name] = time.process_time() - start
        seconds = interleaved(
            {name: partial(_finish, program, params, batch) for name, program in compiled.items()},
            rounds,
        )
        base = seconds["plain"]
        rows.append(
            [
                net.name,
                1e3 * statistics.median(base),
                *(median_ratio(seconds[name], base) for name in ("statistics", "taps", "flax")),
                compiling["plain"],
                compiling["statistics"],
            ]
        )
    header = ["net", "gradient, ms", "diagnose", "taps alone", "flax's capture"]
    header += ["compile gradient, s", "compile diagnose, s"]
    print_table("Cost in gradients (bar: 2); flax records values only", header, rows)


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
    cost([nets[k] for k in ((0,) if quick else (0, 2, 4))], batch, 5 if quick else 20)
    verdict_rates(nets[:2] if quick else nets, batch, seeds)
    data = batches(batch[0][:32], batch[1][:32], jax.random.key(7))
    default_rates(data, seeds, seeds[: 1 if quick else 4])
