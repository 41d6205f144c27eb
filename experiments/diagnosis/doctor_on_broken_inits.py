"""The doctor names what is wrong with each of four bad starts, and is silent on the others.

Question: Can a program say what is wrong with an initialization, and be silent where nothing is?

Claim: of the network 784-512-256-256-128-10 and one batch, `diagnose` says what the tutorial
explains at length. Constant weights: the units of every hidden layer are symmetric (the last
layer's are not: they are the classes). Standard deviation .01: vanishing in all layers; .1:
exploding from the second on. Pixels from 0 to 255: inputs not normalised, before all that follows
from it. N(0, 1/d_in), Xavier, Xavier with tanh and Kaiming
with ReLU: not a word. Xavier and 1/d_in behind ReLU lose half the variance a layer: over five
layers too little for a verdict.
Beyond the tutorial: its constant gradients of the hidden layers are rounding errors. The cotangents
of a softmax sum to zero over the classes, so that equal weights send back exactly zero.

Why: A warning is of use if it names the fault and does not come for healthy networks. All of the
tutorial's starts, bad and good, are the test.

Source: UvA tutorial 4, initialization.
Section: A4.
Command: python -m experiments doctor_on_broken_inits [--data full]
Expected: every share 1, no verdict on healthy starts.
Time: 20 s, nearly all of it compiling.
"""

import dataclasses
import sys
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments._claims import Claim, at_least, at_most
from experiments._runner import run_script
from jaxopt_tut import datasets
from jaxopt_tut import initializers as init
from jaxopt_tut.datasets import normalize
from jaxopt_tut.diagnostics import Diagnosis, diagnose
from jaxopt_tut.models import mlp
from jaxopt_tut.plotting import new_figure, plot_diagnosis
from jaxopt_tut.plotting.style import legend_below, look, tidy

FULL_PRODUCTS = True  # claims to the rounding of float32
LAYERS = tuple(range(len(mlp.FASHION_MNIST_SIZES) - 1))
IDENTITY, RELU, TANH = 1.0, 0.0, None
"""Slopes on the left: the identity and ReLU are leaky ReLUs, and share one compiled program."""


class Start(NamedTuple):
    """Where the network starts, and what the doctor should say."""

    slope: float | None
    options: dict[str, Any]
    kind: str | None = None
    """Of the worst verdict; None for a healthy start."""
    layers: tuple[int, ...] = ()
    """Where it should be, and nowhere else."""
    is_raw: bool = False
    """Whether pixels go from 0 to 255."""


def drawn_by(kernel_init) -> dict[str, Any]:
    return {"kernel_init": kernel_init}


CONSTANT = "constant .005"
STARTS = {
    CONSTANT: Start(IDENTITY, drawn_by(init.constant(0.005)), "symmetric", LAYERS[:-1]),
    "std .01": Start(IDENTITY, drawn_by(init.normal(0.01)), "vanishing", LAYERS),
    "std .1": Start(IDENTITY, drawn_by(init.normal(0.1)), "exploding", LAYERS[1:]),
    "Kaiming, ReLU, raw pixels": Start(RELU, {}, "input_not_normalized", LAYERS[:1], True),
    "1 over d_in": Start(IDENTITY, drawn_by(init.equal_variance())),
    "Xavier": Start(IDENTITY, drawn_by(init.xavier_normal())),
    "Xavier, tanh": Start(TANH, drawn_by(init.xavier_normal())),
    "Kaiming, ReLU": Start(RELU, {}),
    "1 over d_in, ReLU": Start(RELU, drawn_by(init.equal_variance())),
    "Xavier, ReLU": Start(RELU, drawn_by(init.xavier_normal())),
}


@dataclasses.dataclass(frozen=True)
class Config:
    """How much is run."""

    data: Literal["mini", "full"] = "mini"
    num_seeds: int | None = None
    """By default 20 on the full images, 3 on the bundled ones."""
    batch_size: int = 1024
    starts: tuple[str, ...] = tuple(STARTS)
    drawn: tuple[str, ...] = ("std .01",)
    """What gets a figure of its statistics."""

    def quick(self) -> "Config":
        leaky = tuple(name for name, start in STARTS.items() if start.slope is not TANH)
        return dataclasses.replace(self, num_seeds=1, batch_size=256, starts=leaky, drawn=())


class Result(NamedTuple):
    """What the doctor said to each start."""

    verdicts: dict[str, list[list[tuple[str, int]]]]
    """Kind and layer of each verdict, worst first, one list a seed."""
    backward: float
    """Constant start: the hidden layers' largest sum of squared cotangents over the last's."""
    drawn: dict[str, Diagnosis]
    """Of the first seed."""


def leaky_loss(params, batch):
    images, labels, slope = batch
    logits = mlp.apply(params, images, lambda z: jax.nn.leaky_relu(z, slope))
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def tanh_loss(params, batch):
    logits = mlp.apply(params, batch[0], jnp.tanh)
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1]).mean()


def run(config: Config) -> Result:
    dataset = datasets.load(config.data)
    raw = jnp.asarray(dataset.train.images[: config.batch_size])
    pixels = {True: raw.astype(jnp.float32), False: normalize(raw, dataset.mean, dataset.std)}
    labels = jnp.asarray(dataset.train.labels[: config.batch_size])
    num_seeds = config.num_seeds or (20 if config.data == "full" else 3)
    keys = jax.random.split(jax.random.key(0), (len(STARTS), num_seeds))
    verdicts, drawn, backward = {}, {}, np.nan
    for (name, start), row in zip(STARTS.items(), keys, strict=True):
        if name not in config.starts:
            continue
        images = jnp.asarray(pixels[start.is_raw])
        found = []
        for key in row:
            # Not jitted: the draws of one shape share a program between all starts.
            params = mlp.init(key, **start.options)
            if start.slope is TANH:
                found.append(diagnose(tanh_loss, params, (images, labels)))
            else:
                batch = (images, labels, jnp.float32(start.slope))
                found.append(diagnose(leaky_loss, params, batch))
        verdicts[name] = [[(v.kind, layer_of(v.layer)) for v in one.verdicts] for one in found]
        if name == CONSTANT:
            backward = max(share for one in found for share in backward_shares(one)[:-1])
        if name in config.drawn:
            drawn[name] = jax.device_get(found[0])
    return Result(verdicts, float(backward), drawn)


def layer_of(name: str) -> int:
    return int(name.split("/")[0])


def backward_shares(diagnosis: Diagnosis) -> list[float]:
    """Return each layer's sum of squared cotangents over that of the last layer."""
    sums = [
        float(layer.cotangents.variance + layer.cotangents.mean**2) * width
        for layer, width in zip(diagnosis.layers.values(), mlp.FASHION_MNIST_SIZES[1:], strict=True)
    ]
    return [one / sums[-1] for one in sums]


def share(facts: Iterable[bool]) -> float:
    return float(np.mean(list(facts)))


def check(result: Result) -> list[Claim]:
    claims = []
    healthy = [name for name in result.verdicts if STARTS[name].kind is None]
    for name, runs in result.verdicts.items():
        start = STARTS[name]
        if start.kind is None:
            continue
        worst = share(bool(one) and one[0][0] == start.kind for one in runs)
        claims.append(
            at_least(f"{name}: share of seeds whose worst verdict is {start.kind}", worst, 1.0)
        )
        exact = [{layer for kind, layer in one if kind == start.kind} for one in runs]
        place = ", ".join(str(layer + 1) for layer in start.layers)
        claims.append(
            at_least(
                f"{name}: share of seeds where {start.kind} stands at layer {place} only",
                share(layers == set(start.layers) for layers in exact),
                1.0,
            )
        )
    rightly = [
        one[0][0] == STARTS[name].kind if one else STARTS[name].kind is None
        for name, runs in result.verdicts.items()
        for one in runs
    ]
    alarms = sum(len(one) for name in healthy for one in result.verdicts[name])
    random = [one for name, runs in result.verdicts.items() if name != CONSTANT for one in runs]
    false = sum(kind == "symmetric" for one in random for kind, _ in one)
    return [
        *claims,
        at_least(
            "share of all starts and seeds, bad and healthy, that are judged rightly",
            share(rightly),
            1.0,
            headline=True,
        ),
        at_most(f"verdicts on the {len(healthy)} other starts, all seeds", alarms, 0),
        at_most("random starts called symmetric", false, 0),
        # A sum over ten classes is off by 10 eps sqrt(10) of the root of its squares, 128 units
        # get .005 times that, and each way back from n to m units multiplies the sum of squares
        # by .005^2 m n: by 4.4 in all.
        at_most(
            f"{CONSTANT}: squared cotangents of hidden layers over those of the last",
            result.backward,
            5 * 128 * (0.005 * 10 * np.sqrt(10) * np.finfo(np.float32).eps) ** 2,
        ),
    ]


def plot(result: Result):
    kinds = list(dict.fromkeys(kind for runs in result.verdicts.values() for kind, _ in runs[0]))
    names = list(result.verdicts)
    figure = new_figure(8.0, 0.36 * len(names) + 1.6)
    ax = figure.add_subplot()
    for i, kind in enumerate(kinds):
        found = [
            # verdicts on one layer beside each other
            (layer + 0.14 * (i - (len(kinds) - 1) / 2), row)
            for row, name in enumerate(names)
            for layer in LAYERS
            if (kind, layer) in result.verdicts[name][0]
        ]
        style = look(i) | {"linestyle": "", "markersize": 9}
        ax.plot(*np.transpose(found), label=kind.replace("_", " "), **style)
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_xlim(LAYERS[0] - 0.5, LAYERS[-1] + 0.5)
    tidy(
        ax,
        xlabel="layer",
        ylabel="",
        title="Bad starts get verdicts, the others none (first seed)",
    )
    ax.set_yticks(range(len(names)), names)
    ax.set_xticks(LAYERS, [str(layer + 1) for layer in LAYERS])
    legend_below(ax, columns=3)
    figures = {"verdicts": figure}
    for name, diagnosis in result.drawn.items():
        file = name.replace(", ", "_").replace(" ", "_").replace(".", "0.").lower()
        figures[file] = plot_diagnosis(diagnosis)
    return figures


if __name__ == "__main__":
    run_script(sys.modules[__name__])
